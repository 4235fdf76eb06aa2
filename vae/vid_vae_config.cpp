// SPDX-License-Identifier: Apache-2.0
// Config files of VidVAE and of Open-Sora-Plan's CausalVideoVAE.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/error.h"
#include "vae/config_checks.h"
#include "vae/vid_vae.h"

namespace kinema::vae {
namespace {

/// Latent factor of all three published versions, applied outside of their files.
constexpr double kOspLatentFactor = 0.18215;

template <typename T>
using Words = std::vector<std::pair<std::string_view, T>>;

const Words<TimeDown> kTimeDownWords = {{"", TimeDown::kNone},
                                        {"pool", TimeDown::kPool},
                                        {"mix", TimeDown::kMix},
                                        {"joint", TimeDown::kJoint}};
const Words<TimeUp> kTimeUpWords = {{"", TimeUp::kNone},
                                    {"repeat", TimeUp::kRepeat},
                                    {"linear", TimeUp::kLinear},
                                    {"mix", TimeUp::kMix},
                                    {"joint", TimeUp::kJoint}};
const Words<SpaceDown> kSpaceDownWords = {{"causal", SpaceDown::kCausal},
                                          {"frame", SpaceDown::kFrame}};
const Words<nn::NormScope> kScopeWords = {{"frame", nn::NormScope::kFrame},
                                          {"clip", nn::NormScope::kClip}};
const Words<MidAttention> kAttentionWords = {{"frame", MidAttention::kFrame},
                                             {"osp_legacy", MidAttention::kOspLegacy}};
const Words<TimePadding> kPaddingWords = {{"first", TimePadding::kFirst},
                                          {"zeros", TimePadding::kZeros}};
// Class names in Open-Sora-Plan's files.
const Words<TimeDown> kOspTimeDown = {{"", TimeDown::kNone},
                                      {"TimeDownsample2x", TimeDown::kPool},
                                      {"TimeDownsampleRes2x", TimeDown::kMix}};
const Words<TimeUp> kOspTimeUp = {
    {"", TimeUp::kNone}, {"TimeUpsample2x", TimeUp::kLinear}, {"TimeUpsampleRes2x", TimeUp::kMix}};
const Words<MidAttention> kOspAttention = {{"AttnBlock3DFix", MidAttention::kFrame},
                                           {"AttnBlock3D", MidAttention::kOspLegacy}};
const Words<bool> kOspBlock = {{"ResnetBlock3D", true}, {"ResnetBlock2D", false}};
const Words<bool> kOspConv = {{"CausalConv3d", true}, {"Conv2d", false}};

template <typename T>
std::string known_words(const Words<T>& words) {
  std::vector<std::string> quoted;
  for (const auto& [word, value] : words) {
    quoted.push_back(fmt::format("\"{}\"", word));
  }
  return fmt::format("{}", fmt::join(quoted, " "));
}

template <typename T>
T parse_word(const Words<T>& words,
             const std::string& text,
             const JsonReader& reader,
             std::string_view key) {
  for (const auto& [word, value] : words) {
    if (word == text) {
      return value;
    }
  }
  throw reader.error("vae.config", key, "one of " + known_words(words), '"' + text + '"');
}

template <typename T>
std::string word_of(const Words<T>& words, T value) {
  for (const auto& [word, known] : words) {
    if (known == value) {
      return std::string(word);
    }
  }
  return {};
}

/// Leaves `value` alone when the key is absent.
template <typename T>
void read_word(JsonReader& reader, std::string_view key, const Words<T>& words, T& value) {
  std::string text;
  if (reader.optional(key, text)) {
    value = parse_word(words, text, reader, key);
  }
}

template <typename T>
void read_words(JsonReader& reader,
                std::string_view key,
                const Words<T>& words,
                std::vector<T>& values) {
  std::vector<std::string> texts;
  if (!reader.optional(key, texts)) {
    return;
  }
  values.clear();
  for (const std::string& text : texts) {
    values.push_back(parse_word(words, text, reader, key));
  }
}

void read_flags(JsonReader& reader, std::string_view key, std::vector<bool>& values) {
  const Json* json = reader.find(key);
  if (json == nullptr) {
    return;
  }
  const bool fits = json->is_array() && std::all_of(json->begin(), json->end(), [](const Json& v) {
                      return v.is_boolean();
                    });
  if (!fits) {
    throw reader.error("config.type", key, "a list of true and false", json->dump());
  }
  values.clear();
  for (const Json& value : *json) {
    values.push_back(value.get<bool>());
  }
}

template <typename T>
Json words_of(const Words<T>& words, const std::vector<T>& values) {
  Json list = Json::array();
  for (const T value : values) {
    list.push_back(word_of(words, value));
  }
  return list;
}

/// Time settings for another number of levels: pooling after the first two, repeating in the two
/// coarsest.
void resize_defaults(VidVaeConfig& c) {
  const std::size_t levels = c.mult.size();
  c.conv3d_levels_enc.assign(levels, true);
  c.space_down.assign(levels > 0 ? levels - 1 : 0, SpaceDown::kCausal);
  c.time_down.assign(levels, TimeDown::kNone);
  c.time_up.assign(levels, TimeUp::kNone);
  for (std::size_t k = 0; k < std::min<std::size_t>(2, levels); ++k) {
    c.time_down[k] = TimeDown::kPool;
    c.time_up[levels - 1 - k] = TimeUp::kRepeat;
  }
  const auto channels =
      static_cast<std::size_t>(std::clamp<std::int64_t>(c.latent_channels, 0, 4096));
  c.scale.assign(channels, 1.0);
  c.shift.assign(channels, 0.0);
}

/// A key that must have one value, because nothing else was ever published.
void require_value(JsonReader& reader, std::string_view key, std::string_view only) {
  std::string value(only);
  reader.optional(key, value);
  if (value != only) {
    throw reader.error("vae.config", key, std::string(only), value);
  }
}

void require_list(JsonReader& reader, std::string_view key, std::string_view only) {
  std::vector<std::string> values;
  reader.optional(key, values);
  for (const std::string& value : values) {
    if (value != only) {
      throw reader.error("vae.config", key, std::string(only), value);
    }
  }
}

void read_osp_space_down(JsonReader& reader, VidVaeConfig& c) {
  std::vector<std::string> kinds;
  reader.required("encoder_spatial_downsample", kinds);
  if (kinds.size() != c.mult.size() || c.time_down.size() != c.mult.size() ||
      (!kinds.empty() && !kinds.back().empty())) {
    throw reader.error("vae.config",
                       "encoder_spatial_downsample",
                       "one name per level, none for the last",
                       fmt::format("{}", fmt::join(kinds, ", ")));
  }
  c.space_down.clear();
  for (std::size_t l = 0; l + 1 < kinds.size(); ++l) {
    if (kinds[l] == "Spatial2xTime2x3DDownsample") {
      c.time_down[l] = TimeDown::kJoint;
      c.space_down.push_back(SpaceDown::kCausal);
    } else if (kinds[l] == "SpatialDownsample2x" || kinds[l] == "Downsample") {
      c.space_down.push_back(kinds[l] == "Downsample" ? SpaceDown::kFrame : SpaceDown::kCausal);
    } else {
      throw reader.error(
          "vae.config", "encoder_spatial_downsample", "a known downsampler", kinds[l]);
    }
  }
}

void read_osp_space_up(JsonReader& reader, VidVaeConfig& c) {
  std::vector<std::string> kinds;
  reader.required("decoder_spatial_upsample", kinds);
  if (kinds.size() != c.mult.size() || c.time_up.size() != c.mult.size() ||
      (!kinds.empty() && !kinds.front().empty())) {
    throw reader.error("vae.config",
                       "decoder_spatial_upsample",
                       "one name per level, none for the first",
                       fmt::format("{}", fmt::join(kinds, ", ")));
  }
  for (std::size_t l = 1; l < kinds.size(); ++l) {
    if (kinds[l] == "Spatial2xTime2x3DUpsample") {
      c.time_up[l] = TimeUp::kJoint;
    } else if (kinds[l] != "SpatialUpsample2x") {
      throw reader.error("vae.config", "decoder_spatial_upsample", "a known upsampler", kinds[l]);
    }
  }
}

}  // namespace

VidVaeConfig VidVaeConfig::from_json(const Json& json, const std::string& path, Logger& logger) {
  VidVaeConfig c;
  JsonReader reader(json, {.place = "vae.config", .subject = path});
  reader.optional("in_channels", c.in_channels);
  reader.optional("latent_channels", c.latent_channels);
  reader.optional("base", c.base);
  reader.optional("mult", c.mult);
  reader.optional("res_blocks", c.res_blocks);
  reader.optional("groups", c.groups);
  reader.optional("norm_eps", c.norm_eps);
  reader.optional("conv_in_3d", c.conv_in_3d);
  resize_defaults(c);
  read_word(reader, "norm_scope", kScopeWords, c.norm_scope);
  read_flags(reader, "conv3d_levels_enc", c.conv3d_levels_enc);
  read_words(reader, "space_down", kSpaceDownWords, c.space_down);
  read_words(reader, "time_down", kTimeDownWords, c.time_down);
  read_words(reader, "time_up", kTimeUpWords, c.time_up);
  read_word(reader, "pad_time", kPaddingWords, c.pad_time);
  read_word(reader, "mid_attn", kAttentionWords, c.mid_attn);
  reader.optional("patch", c.patch);
  reader.optional("linear_shortcut", c.linear_shortcut);
  reader.optional("scale", c.scale);
  reader.optional("shift", c.shift);
  reader.ignore({"_class_name"});
  warn_unknown_keys(logger, path, reader.unknown_keys());
  c.validate(path);
  return c;
}

VidVaeConfig VidVaeConfig::from_osp_json(const Json& json,
                                         const std::string& path,
                                         Logger& logger) {
  VidVaeConfig c;
  JsonReader reader(json, {.place = "vae.config", .subject = path});
  reader.required("hidden_size", c.base);
  reader.required("hidden_size_mult", c.mult);
  reader.required("z_channels", c.latent_channels);
  reader.required("num_res_blocks", c.res_blocks);
  resize_defaults(c);
  c.norm_scope = nn::NormScope::kClip;
  c.scale.assign(c.scale.size(), 1.0 / kOspLatentFactor);
  reader.optional("norm_num_groups", c.groups);
  read_word(reader, "encoder_conv_in", kOspConv, c.conv_in_3d);
  read_words(reader, "encoder_resnet_blocks", kOspBlock, c.conv3d_levels_enc);
  read_words(reader, "encoder_temporal_downsample", kOspTimeDown, c.time_down);
  read_words(reader, "decoder_temporal_upsample", kOspTimeUp, c.time_up);
  read_osp_space_down(reader, c);
  read_osp_space_up(reader, c);
  MidAttention decoder_attention = MidAttention::kFrame;
  read_word(reader, "encoder_attention", kOspAttention, c.mid_attn);
  read_word(reader, "decoder_attention", kOspAttention, decoder_attention);
  if (decoder_attention != c.mid_attn) {
    throw reader.error("vae.config", "decoder_attention", "that of the encoder", "another");
  }
  require_list(reader, "decoder_resnet_blocks", "ResnetBlock3D");
  require_value(reader, "encoder_mid_resnet", "ResnetBlock3D");
  require_value(reader, "decoder_mid_resnet", "ResnetBlock3D");
  for (const char* key : {"encoder_conv_out", "decoder_conv_in", "decoder_conv_out", "q_conv"}) {
    require_value(reader, key, "CausalConv3d");
  }
  std::int64_t embed_dim = c.latent_channels;
  reader.optional("embed_dim", embed_dim);
  bool has_both = true;
  for (const char* key : {"double_z", "use_quant_layer"}) {
    bool value = true;
    reader.optional(key, value);
    has_both = has_both && value;
  }
  if (embed_dim != c.latent_channels || !has_both) {
    throw reader.error("vae.config",
                       "embed_dim",
                       "z_channels, with double_z and use_quant_layer true",
                       std::to_string(embed_dim));
  }
  reader.ignore({"_class_name",
                 "_diffusers_version",
                 "_name_or_path",
                 "attn_resolutions",
                 "dropout",
                 "resolution",
                 "loss_params",
                 "loss_type",
                 "lr"});
  warn_unknown_keys(logger, path, reader.unknown_keys());
  c.validate(path);
  return c;
}

Json VidVaeConfig::to_json() const {
  Json flags = Json::array();
  for (const bool flag : conv3d_levels_enc) {
    flags.push_back(flag);
  }
  return {{"_class_name", "VidVAE"},
          {"in_channels", in_channels},
          {"latent_channels", latent_channels},
          {"base", base},
          {"mult", mult},
          {"res_blocks", res_blocks},
          {"groups", groups},
          {"norm_eps", norm_eps},
          {"norm_scope", word_of(kScopeWords, norm_scope)},
          {"conv_in_3d", conv_in_3d},
          {"conv3d_levels_enc", flags},
          {"space_down", words_of(kSpaceDownWords, space_down)},
          {"time_down", words_of(kTimeDownWords, time_down)},
          {"time_up", words_of(kTimeUpWords, time_up)},
          {"pad_time", word_of(kPaddingWords, pad_time)},
          {"mid_attn", word_of(kAttentionWords, mid_attn)},
          {"patch", patch},
          {"linear_shortcut", linear_shortcut},
          {"scale", scale},
          {"shift", shift}};
}

void VidVaeConfig::validate(const std::string& path) const {
  ConfigProblems problems(path);
  problems.check_size("in_channels", in_channels);
  problems.check_size("latent_channels", latent_channels, 4096);
  problems.check_size("base", base);
  problems.check_size("res_blocks", res_blocks, 1024);
  problems.check_size("patch", patch, 64);
  problems.check(norm_eps > 0.0, "norm_eps must be positive");
  problems.check(!mult.empty() && mult.size() <= kMaxLevels,
                 fmt::format("mult has {} levels, not 1 to {}", mult.size(), kMaxLevels));
  std::vector<std::int64_t> widths;
  for (const std::int64_t factor : mult) {
    problems.check_size("mult", factor, 4096);
    const bool fits = factor >= 1 && factor <= 4096 && base >= 1 && base <= kMaxConfigSize;
    widths.push_back(fits ? base * factor : 0);
  }
  problems.check_widths("base * mult", widths, groups);
  const std::size_t levels = mult.size();
  problems.check(conv3d_levels_enc.size() == levels && time_down.size() == levels &&
                     time_up.size() == levels && space_down.size() + 1 == levels,
                 fmt::format("conv3d_levels_enc, time_down and time_up need {} values, space_down "
                             "one less",
                             levels));
  problems.check(time_down.empty() || time_down.back() != TimeDown::kJoint,
                 "the last level of time_down cannot be joint");
  problems.check(time_up.empty() || time_up.front() != TimeUp::kJoint,
                 "the first level of time_up cannot be joint");
  const auto halvings =
      std::ranges::count_if(time_down, [](TimeDown t) { return t != TimeDown::kNone; });
  const auto doublings =
      std::ranges::count_if(time_up, [](TimeUp t) { return t != TimeUp::kNone; });
  problems.check(halvings == doublings, "time_down and time_up must change time equally often");
  problems.check(pad_time == TimePadding::kFirst || halvings == 0,
                 "pad_time must be first where time is halved");
  problems.check(pad_time == TimePadding::kFirst || !linear_shortcut,
                 "linear_shortcut needs pad_time first");
  const auto channels = static_cast<std::size_t>(std::max<std::int64_t>(latent_channels, 0));
  problems.check(scale.size() == channels && shift.size() == channels &&
                     std::find(scale.begin(), scale.end(), 0.0) == scale.end(),
                 "scale and shift need latent_channels values each, scale none of 0");
  problems.finish();
}

std::int64_t VidVaeConfig::temporal_ratio() const noexcept {
  const auto halvings =
      std::ranges::count_if(time_down, [](TimeDown t) { return t != TimeDown::kNone; });
  return std::int64_t{1} << halvings;
}

bool VidVaeConfig::streams_exactly() const noexcept {
  const bool time_is_causal = std::ranges::all_of(
      time_up, [](TimeUp t) { return t == TimeUp::kNone || t == TimeUp::kRepeat; });
  return time_is_causal && norm_scope == nn::NormScope::kFrame && mid_attn == MidAttention::kFrame;
}

}  // namespace kinema::vae
