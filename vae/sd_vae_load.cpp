// SPDX-License-Identifier: Apache-2.0
// Config, checkpoint names and the codec of Stable Diffusion's autoencoder.
#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "vae/config_checks.h"
#include "vae/memory_networks.h"
#include "vae/sd_vae.h"

namespace kinema::vae {
namespace {

using tensor::KeyMap;

constexpr double kDefaultOverlap = 0.25;

void check_block_types(JsonReader& reader,
                       std::string_view key,
                       std::string_view type,
                       std::size_t levels) {
  std::vector<std::string> types;
  if (!reader.optional(key, types)) {
    return;
  }
  const bool fits =
      types.size() == levels &&
      std::all_of(types.begin(), types.end(), [&](const auto& t) { return t == type; });
  if (!fits) {
    throw reader.error("vae.config",
                       key,
                       fmt::format("{} x {}", levels, type),
                       fmt::format("{}", fmt::join(types, ", ")));
  }
}

/// Names used before 2023 inside attentions.0.
void add_old_attention_names(KeyMap& keymap) {
  for (const char* part : {"encoder", "decoder"}) {
    const std::string at = std::string(part) + ".mid_block.attentions.0.";
    keymap.add(KeyMap::rename(at + "query.*", at + "to_q.*"));
    keymap.add(KeyMap::rename(at + "key.*", at + "to_k.*"));
    keymap.add(KeyMap::rename(at + "value.*", at + "to_v.*"));
    keymap.add(KeyMap::rename(at + "proj_attn.*", at + "to_out.0.*"));
  }
}

/// One level in CompVis names: `from` such as "decoder.up.2", `to` such as "decoder.up_blocks.1".
void add_compvis_level(KeyMap& keymap,
                       const std::string& from,
                       const std::string& to,
                       const std::string& resample,
                       const std::string& resamplers) {
  keymap.add(KeyMap::rename(from + ".block.{}.nin_shortcut.*", to + ".resnets.{}.conv_shortcut.*"));
  keymap.add(KeyMap::rename(from + ".block.{}.*", to + ".resnets.{}.*"));
  keymap.add(KeyMap::rename(from + "." + resample + ".*", to + "." + resamplers + ".0.*"));
}

void add_compvis_names(KeyMap& keymap, std::size_t levels) {
  for (const std::string part : {"encoder", "decoder"}) {
    const std::string mid = part + ".mid.";
    const std::string attention = part + ".mid_block.attentions.0.";
    keymap.add(KeyMap::rename(mid + "block_1.*", part + ".mid_block.resnets.0.*"));
    keymap.add(KeyMap::rename(mid + "block_2.*", part + ".mid_block.resnets.1.*"));
    keymap.add(KeyMap::rename(mid + "attn_1.norm.*", attention + "group_norm.*"));
    keymap.add(KeyMap::rename(mid + "attn_1.q.*", attention + "to_q.*"));
    keymap.add(KeyMap::rename(mid + "attn_1.k.*", attention + "to_k.*"));
    keymap.add(KeyMap::rename(mid + "attn_1.v.*", attention + "to_v.*"));
    keymap.add(KeyMap::rename(mid + "attn_1.proj_out.*", attention + "to_out.0.*"));
    keymap.add(KeyMap::rename(part + ".norm_out.*", part + ".conv_norm_out.*"));
  }
  for (std::size_t l = 0; l < levels; ++l) {
    add_compvis_level(keymap,
                      fmt::format("encoder.down.{}", l),
                      fmt::format("encoder.down_blocks.{}", l),
                      "downsample",
                      "downsamplers");
    add_compvis_level(keymap,
                      fmt::format("decoder.up.{}", l),
                      fmt::format("decoder.up_blocks.{}", levels - 1 - l),
                      "upsample",
                      "upsamplers");
  }
}

/// Attention matrices stored as 1x1 convolutions [C, C, 1, 1] are matrices [C, C].
void squeeze_attention(const std::string& name, io::TensorView& view) {
  const bool is_attention =
      name.find("attn_1.") != std::string::npos || name.find("attentions.") != std::string::npos;
  if (is_attention && view.shape.size() == 4 && view.shape[2] == 1 && view.shape[3] == 1) {
    view.shape.resize(2);
  }
}

class SdVaeCodec final : public Codec {
 public:
  SdVaeCodec(SdVae network, const tensor::Place& place) : network_(std::move(network)) {
    const SdVaeConfig& config = network_->config();
    const auto channels = static_cast<std::size_t>(config.latent_channels);
    info_ = {.family = "autoencoder_kl",
             .time_mode = TimeMode::kPerFrame,
             .temporal_ratio = 1,
             .spatial_ratio = config.spatial_ratio(),
             .image_channels = config.in_channels,
             .latent_channels = config.latent_channels,
             .num_parameters = count_parameters(*network_),
             .latent_shift = std::vector<double>(channels, config.shift_factor),
             .latent_scale = std::vector<double>(channels, config.scaling_factor),
             .place = place};
    for (std::size_t c = 0; c < config.latents_mean.size(); ++c) {
      info_.latent_shift[c] = config.latents_mean[c];
      info_.latent_scale[c] = config.scaling_factor / config.latents_std[c];
    }
  }

  [[nodiscard]] const AutoencoderInfo& info() const noexcept override { return info_; }
  [[nodiscard]] StepRule encode_rule() const override { return {.independent = true}; }
  [[nodiscard]] StepRule decode_rule() const override { return {.independent = true}; }
  [[nodiscard]] std::optional<std::int64_t> latent_frames(std::int64_t frames) const override {
    return frames > 0 ? std::optional(frames) : std::nullopt;
  }
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const override { return latents; }
  [[nodiscard]] bool takes_odd_sizes() const override { return true; }

  [[nodiscard]] Tensor encode_step(const Tensor& x_BCFHW,
                                   StreamState& /*state*/,
                                   const StepContext& /*step*/) const override {
    return nn::unfold_frames(network_->encode(nn::fold_frames(x_BCFHW)), x_BCFHW.size(0));
  }
  [[nodiscard]] Tensor decode_step(const Tensor& z_BCTHW,
                                   StreamState& /*state*/,
                                   const StepContext& /*step*/) const override {
    return nn::unfold_frames(network_->decode(nn::fold_frames(z_BCTHW)), z_BCTHW.size(0));
  }

  [[nodiscard]] Live book_step(Ledger& ledger,
                               Direction direction,
                               const Live& input,
                               bool /*is_first*/) const override {
    return book_network(network_->config(), ledger, direction, input);
  }
  [[nodiscard]] const torch::nn::Module& network() const noexcept override { return *network_; }

  [[nodiscard]] std::optional<TilePlan> tiles(Direction direction,
                                              const TilingOptions& options,
                                              std::int64_t rows,
                                              std::int64_t columns) const override {
    return Codec::tiles(direction, with_defaults(options), rows, columns);
  }

 private:
  /// The library's tile is sample_size; tiny ones of test configs included.
  [[nodiscard]] TilingOptions with_defaults(TilingOptions options) const {
    const std::int64_t tile = network_->config().sample_size;
    options.tile_rows = options.tile_rows > 0 ? options.tile_rows : tile;
    options.tile_columns = options.tile_columns > 0 ? options.tile_columns : tile;
    options.overlap = options.overlap >= 0.0 ? options.overlap : kDefaultOverlap;
    return options;
  }

  SdVae network_;
  AutoencoderInfo info_;
};

}  // namespace

SdVaeConfig SdVaeConfig::from_json(const Json& json, const std::string& path, Logger& logger) {
  SdVaeConfig config;
  JsonReader reader(json, {.place = "vae.config", .subject = path});
  reader.required("block_out_channels", config.block_out_channels);
  reader.optional("in_channels", config.in_channels);
  reader.optional("out_channels", config.out_channels);
  reader.optional("latent_channels", config.latent_channels);
  reader.optional("layers_per_block", config.layers_per_block);
  reader.optional("norm_num_groups", config.norm_num_groups);
  reader.optional("sample_size", config.sample_size);
  reader.optional("scaling_factor", config.scaling_factor);
  reader.optional("shift_factor", config.shift_factor);
  reader.optional("latents_mean", config.latents_mean);
  reader.optional("latents_std", config.latents_std);
  reader.optional("use_quant_conv", config.use_quant_conv);
  reader.optional("use_post_quant_conv", config.use_post_quant_conv);
  reader.optional("mid_block_add_attention", config.mid_block_add_attention);
  const std::size_t levels = config.block_out_channels.size();
  check_block_types(reader, "down_block_types", "DownEncoderBlock2D", levels);
  check_block_types(reader, "up_block_types", "UpDecoderBlock2D", levels);
  std::string activation = "silu";
  reader.optional("act_fn", activation);
  if (activation != "silu" && activation != "swish") {
    throw reader.error("vae.config", "act_fn", "silu", activation);
  }
  reader.ignore({"_class_name", "_diffusers_version", "_name_or_path", "force_upcast"});
  warn_unknown_keys(logger, path, reader.unknown_keys());
  config.validate(path);
  return config;
}

void SdVaeConfig::validate(const std::string& path) const {
  ConfigProblems problems(path);
  problems.check_size("in_channels", in_channels);
  problems.check_size("out_channels", out_channels);
  problems.check_size("latent_channels", latent_channels);
  problems.check_size("layers_per_block", layers_per_block, 1024);
  problems.check_size("sample_size", sample_size);
  problems.check_widths("block_out_channels", block_out_channels, norm_num_groups);
  problems.check(scaling_factor != 0.0, "scaling_factor must not be 0");
  const auto channels = static_cast<std::size_t>(std::max<std::int64_t>(latent_channels, 0));
  problems.check(latents_mean.size() == latents_std.size() &&
                     (latents_mean.empty() || latents_mean.size() == channels),
                 "latents_mean and latents_std need latent_channels values each");
  problems.check(std::find(latents_std.begin(), latents_std.end(), 0.0) == latents_std.end(),
                 "latents_std must not hold 0");
  problems.finish();
}

std::int64_t SdVaeConfig::spatial_ratio() const noexcept {
  return std::int64_t{1} << (block_out_channels.size() - 1);
}

SdVaeWeights sd_vae_weights(const io::TensorViews& tensors,
                            const SdVaeConfig& config,
                            const std::string& prefix) {
  SdVaeWeights weights;
  const bool has_stage_prefix = tensors.contains("first_stage_model.encoder.conv_in.weight");
  const std::string_view strip = has_stage_prefix ? "first_stage_model." : std::string_view(prefix);
  for (const auto& [name, view] : tensors) {
    if (!name.starts_with(strip)) {
      continue;
    }
    const std::string bare = name.substr(strip.size());
    io::TensorView& added = weights.tensors.emplace(bare, view).first->second;
    squeeze_attention(bare, added);
  }
  add_old_attention_names(weights.keymap);
  add_compvis_names(weights.keymap, config.block_out_channels.size());
  // CompVis training files carry the loss and the EMA counter.
  weights.keymap.add(KeyMap::ignore("loss.*"));
  weights.keymap.add(KeyMap::ignore("model_ema.*"));
  return weights;
}

SdVae load_sd_vae_network(const std::string& folder,
                          const SdVaeConfig& config,
                          const tensor::Place& place) {
  io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  SdVaeWeights weights = sd_vae_weights(checkpoint.tensors, config);
  checkpoint.tensors = std::move(weights.tensors);
  SdVae network(config, nn::ParameterOptions{.dtype = place.dtype, .deferred = true});
  load_codec_weights(*network, checkpoint, weights.keymap, place);
  return network;
}

std::unique_ptr<Codec> make_sd_vae_codec(SdVae network, const tensor::Place& place) {
  return std::make_unique<SdVaeCodec>(std::move(network), place);
}

std::unique_ptr<Codec> load_sd_vae(const CodecSource& source, Logger& logger) {
  const auto config = SdVaeConfig::from_json(source.config, source.folder + "/config.json", logger);
  SdVae network =
      source.has_weights
          ? load_sd_vae_network(source.folder, config, source.place)
          : SdVae(config, nn::ParameterOptions{.dtype = source.place.dtype, .deferred = true});
  return make_sd_vae_codec(std::move(network), source.place);
}

}  // namespace kinema::vae
