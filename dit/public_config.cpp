// SPDX-License-Identifier: Apache-2.0
#include "dit/public_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "core/base/error.h"

namespace kinema::dit {
namespace {

constexpr std::string_view kPlace = "dit.config";

JsonReader make_reader(const Json& json, const std::string& subject) {
  return JsonReader(json, {.place = std::string(kPlace), .subject = subject});
}

/// What the file says it is: "_class_name" (diffusers), else the only entry of "architectures".
std::string class_name(JsonReader& reader) {
  std::string name;
  reader.optional("_class_name", name);
  std::vector<std::string> architectures;
  reader.optional("architectures", architectures);
  if (name.empty() && !architectures.empty()) {
    name = architectures.front();
  }
  std::string model_type;
  reader.optional("model_type", model_type);
  return name.empty() ? model_type : name;
}

template <typename T>
void demand(JsonReader& reader, std::string_view key, const T& wanted, std::string wanted_text) {
  T value = wanted;
  reader.optional(key, value);
  if (value != wanted) {
    throw reader.error("dit.config", key, std::move(wanted_text), "another value");
  }
}

std::int64_t times(std::int64_t value, double ratio, JsonReader& reader, std::string_view key) {
  const double product = static_cast<double>(value) * ratio;
  if (!(product >= 1.0 && product < 1e9)) {
    throw reader.error("config.range", key, "a ratio that gives a width", std::to_string(ratio));
  }
  return static_cast<std::int64_t>(product);
}

/// Open-Sora: hpcaitech/Open-Sora v1.1 (STDiT2) and v1.2 (STDiT3).
VDitConfig read_stdit(JsonReader& reader, Layout layout) {
  VDitConfig config;
  config.layout = layout;
  reader.optional("in_channels", config.latent_channels);
  reader.optional("pred_sigma", config.predict_variance);
  reader.optional("patch_size", config.patch);
  reader.optional("hidden_size", config.width);
  reader.optional("depth", config.num_layers);
  reader.optional("num_heads", config.num_heads);
  double mlp_ratio = 4.0;
  reader.optional("mlp_ratio", mlp_ratio);
  config.mlp_width = times(config.width, mlp_ratio, reader, "mlp_ratio");
  reader.optional("caption_channels", config.caption_channels);
  config.caption_tokens = layout == Layout::kStdit2 ? 120 : 300;
  reader.optional("model_max_length", config.caption_tokens);
  config.qk_norm = true;  // the public STDiT2 files lack the key, their weights have the norms
  reader.optional("qk_norm", config.qk_norm);
  reader.optional("input_sq_size", config.input_sq_size);
  if (layout == Layout::kStdit2) {
    config.size_conditions = true;
    config.frames_condition = true;
    config.rotate_before_norm = true;  // as above: the weights were trained that way
    reader.optional("qk_norm_legacy", config.rotate_before_norm);
    bool no_temporal_pos_emb = false;
    reader.optional("no_temporal_pos_emb", no_temporal_pos_emb);
    config.temporal_rotary = !no_temporal_pos_emb;
  }
  demand(reader, "skip_y_embedder", false, "false: text features are projected");
  reader.ignore({"auto_map",
                 "class_dropout_prob",
                 "drop_path",
                 "enable_flash_attn",
                 "enable_layernorm_kernel",
                 "enable_sequence_parallelism",
                 "freeze",
                 "freeze_y_embedder",
                 "input_size",
                 "only_train_temporal",
                 "torch_dtype",
                 "transformers_version"});
  return config;
}

/// Keys that PixArt and Latte share in diffusers.
VDitConfig read_pixart_common(JsonReader& reader, Layout layout) {
  VDitConfig config;
  config.layout = layout;
  config.qk_norm = false;
  config.fps_condition = false;
  config.caption_tokens = 0;
  std::int64_t head_width = 72;
  reader.optional("num_attention_heads", config.num_heads);
  reader.optional("attention_head_dim", head_width);
  if (config.num_heads < 1 || head_width < 1 || config.num_heads > 65536 || head_width > 65536) {
    throw reader.error("config.range",
                       "attention_head_dim",
                       "1 .. 65536 heads and channels",
                       std::to_string(config.num_heads) + " x " + std::to_string(head_width));
  }
  config.width = config.num_heads * head_width;
  config.mlp_width = 4 * config.width;
  reader.optional("num_layers", config.num_layers);
  reader.optional("in_channels", config.latent_channels);
  std::int64_t out_channels = config.latent_channels;
  reader.optional("out_channels", out_channels);
  config.predict_variance = out_channels == 2 * config.latent_channels;
  if (!config.predict_variance && out_channels != config.latent_channels) {
    throw reader.error(
        "dit.config", "out_channels", "in_channels or twice as many", std::to_string(out_channels));
  }
  std::int64_t cross_attention_dim = config.width;
  reader.optional("cross_attention_dim", cross_attention_dim);
  if (cross_attention_dim != config.width) {
    throw reader.error("dit.config",
                       "cross_attention_dim",
                       "the width, " + std::to_string(config.width),
                       std::to_string(cross_attention_dim));
  }
  std::int64_t patch_size = 2;
  reader.optional("patch_size", patch_size);
  config.patch = {1, patch_size, patch_size};
  reader.required("caption_channels", config.caption_channels);
  reader.optional("norm_eps", config.norm_eps);
  demand(reader, "activation_fn", std::string("gelu-approximate"), "gelu-approximate");
  demand(reader, "norm_type", std::string("ada_norm_single"), "ada_norm_single");
  demand(reader, "norm_elementwise_affine", false, "false");
  demand(reader, "attention_bias", true, "true");
  reader.ignore({"_diffusers_version",
                 "_name_or_path",
                 "attention_type",
                 "double_self_attention",
                 "dropout",
                 "norm_num_groups",
                 "num_embeds_ada_norm",
                 "num_vector_embeds",
                 "only_cross_attention",
                 "upcast_attention",
                 "use_linear_projection"});
  return config;
}

/// Latent edge of training -> position base in tokens and the scale that a missing key means.
void read_position_rule(JsonReader& reader, std::int64_t sample_size, VDitConfig& config) {
  const std::int64_t edge = std::max<std::int64_t>(config.patch[1], 1);
  if (sample_size < edge) {
    throw reader.error(
        "config.range", "sample_size", "at least a patch", std::to_string(sample_size));
  }
  config.position_base = sample_size / edge;
  config.position_scale = static_cast<double>(std::max<std::int64_t>(sample_size / 64, 1));
}

VDitConfig read_pixart(JsonReader& reader) {
  VDitConfig config = read_pixart_common(reader, Layout::kPixart);
  std::int64_t sample_size = 128;
  reader.optional("sample_size", sample_size);
  read_position_rule(reader, sample_size, config);
  reader.optional("interpolation_scale", config.position_scale);
  config.size_conditions = sample_size == 128;
  reader.optional("use_additional_conditions", config.size_conditions);
  return config;
}

VDitConfig read_latte(JsonReader& reader) {
  VDitConfig config = read_pixart_common(reader, Layout::kLatte);
  std::int64_t sample_size = 64;
  reader.optional("sample_size", sample_size);
  read_position_rule(reader, sample_size, config);
  config.video_length = 16;
  reader.optional("video_length", config.video_length);
  return config;
}

}  // namespace

VDitConfig read_public_config(const Json& json,
                              const std::string& subject,
                              std::vector<std::string>& unknown_keys) {
  JsonReader reader = make_reader(json, subject);
  const std::string name = class_name(reader);
  VDitConfig config;
  if (name == "STDiT2") {
    config = read_stdit(reader, Layout::kStdit2);
  } else if (name == "STDiT3") {
    config = read_stdit(reader, Layout::kStdit3);
  } else if (name == "PixArtTransformer2DModel" || name == "Transformer2DModel") {
    config = read_pixart(reader);
  } else if (name == "LatteTransformer3DModel") {
    config = read_latte(reader);
  } else {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "dit.class",
                 .place = std::string(kPlace),
                 .subject = subject,
                 .expected = "class VDiT, STDiT2, STDiT3, PixArtTransformer2DModel, "
                             "Transformer2DModel or LatteTransformer3DModel",
                 .got = name.empty() ? "no class" : "'" + name + "'"});
  }
  for (std::string& key : reader.unknown_keys()) {
    unknown_keys.push_back(std::move(key));
  }
  return config;
}

}  // namespace kinema::dit
