// SPDX-License-Identifier: Apache-2.0
#include "pipeline/convert_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "core/base/error.h"
#include "dit/vdit_config.h"
#include "vae/sd_vae.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kPlace = "pipeline.convert";
constexpr std::array<std::string_view, 3> kAutoencoderPrefixes = {"", "first_stage_model.", "vae."};
constexpr std::int64_t kPixartHeadWidth = 72;
constexpr std::int64_t kPixelsPerLatent = 8;

Error shape_error(const std::string& subject, std::string expected, std::string got) {
  return Error(ErrorKind::kBadCheckpoint,
               {.code = "convert.shape",
                .place = kPlace,
                .subject = subject,
                .expected = std::move(expected),
                .got = std::move(got)});
}

Error option_error(const std::string& subject, std::string expected, std::string hint) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "convert.option",
                .place = kPlace,
                .subject = subject,
                .expected = std::move(expected),
                .got = "nothing that says it",
                .hint = std::move(hint)});
}

std::optional<std::string> autoencoder_prefix(const io::TensorViews& tensors) {
  for (const std::string_view prefix : kAutoencoderPrefixes) {
    const std::string at(prefix);
    if (tensors.contains(at + "encoder.conv_in.weight") &&
        tensors.contains(at + "decoder.conv_in.weight")) {
      return at;
    }
  }
  return std::nullopt;
}

/// Asks for axes of tensors that must be there.
class Shapes {
 public:
  Shapes(const io::TensorViews& tensors, std::string prefix, const std::string& subject)
      : tensors_(tensors), prefix_(std::move(prefix)), subject_(subject) {}

  [[nodiscard]] bool has(const std::string& name) const {
    return tensors_.contains(prefix_ + name);
  }
  [[nodiscard]] std::int64_t axis(const std::string& name, std::size_t axis) const {
    const auto found = tensors_.find(prefix_ + name);
    if (found == tensors_.end() || found->second.shape.size() <= axis) {
      throw shape_error(subject_,
                        fmt::format("a tensor {} with more than {} axes", prefix_ + name, axis),
                        found == tensors_.end() ? "none of that name" : "one with fewer");
    }
    return found->second.shape[axis];
  }
  /// How many of pattern.0, pattern.1, ... there are; `tail` completes the name.
  [[nodiscard]] std::int64_t count(const std::string& stem, const std::string& tail) const {
    std::int64_t n = 0;
    while (has(stem + std::to_string(n) + tail)) {
      ++n;
    }
    return n;
  }

 private:
  const io::TensorViews& tensors_;
  std::string prefix_;
  const std::string& subject_;
};

double scaling_factor_of(const io::TensorViews& tensors,
                         std::int64_t latent_channels,
                         const std::string& subject) {
  constexpr double kStableDiffusion = 0.18215;
  constexpr double kStableDiffusionXl = 0.13025;
  if (latent_channels != 4) {
    throw option_error(
        subject,
        fmt::format("the scaling factor of an autoencoder of {} channels", latent_channels),
        "give it with --scaling-factor X; its model card says it");
  }
  const bool is_xl = tensors.contains("conditioner.embedders.1.model.ln_final.weight");
  return is_xl ? kStableDiffusionXl : kStableDiffusion;
}

Json autoencoder_config(const Shapes& shapes, bool is_compvis) {
  const std::string down = is_compvis ? "encoder.down." : "encoder.down_blocks.";
  const std::string block = is_compvis ? ".block." : ".resnets.";
  std::vector<std::int64_t> widths;
  const std::int64_t levels = shapes.count(down, block + "0.conv1.weight");
  for (std::int64_t l = 0; l < levels; ++l) {
    widths.push_back(shapes.axis(down + std::to_string(l) + block + "0.conv1.weight", 0));
  }
  const std::string attention = is_compvis ? "encoder.mid.attn_1.norm.weight"
                                           : "encoder.mid_block.attentions.0.group_norm.weight";
  return {{"_class_name", "AutoencoderKL"},
          {"act_fn", "silu"},
          {"block_out_channels", widths},
          {"down_block_types", std::vector<std::string>(widths.size(), "DownEncoderBlock2D")},
          {"up_block_types", std::vector<std::string>(widths.size(), "UpDecoderBlock2D")},
          {"in_channels", shapes.axis("encoder.conv_in.weight", 1)},
          {"out_channels", shapes.axis("decoder.conv_out.weight", 0)},
          {"latent_channels", shapes.axis("decoder.conv_in.weight", 1)},
          {"layers_per_block", shapes.count(down + "0" + block, ".conv1.weight")},
          {"norm_num_groups", 32},
          {"sample_size", 512},
          {"use_quant_conv", shapes.has("quant_conv.weight")},
          {"use_post_quant_conv", shapes.has("post_quant_conv.weight")},
          {"mid_block_add_attention", shapes.has(attention)}};
}

}  // namespace

SingleFile kind_of_file(const io::TensorViews& tensors) {
  if (tensors.contains("x_embedder.proj.weight") &&
      tensors.contains("y_embedder.y_proj.fc1.weight") && tensors.contains("t_block.1.weight") &&
      tensors.contains("blocks.0.attn.qkv.weight")) {
    return SingleFile::kPixart;
  }
  return autoencoder_prefix(tensors).has_value() ? SingleFile::kImageAutoencoder
                                                 : SingleFile::kUnknown;
}

ImageAutoencoderFile image_autoencoder_in(const io::TensorViews& tensors,
                                          std::optional<double> scaling_factor,
                                          const std::string& subject) {
  ImageAutoencoderFile file;
  file.prefix = autoencoder_prefix(tensors).value_or("");
  const Shapes shapes(tensors, file.prefix, subject);
  file.config = autoencoder_config(shapes, shapes.has("encoder.down.0.block.0.conv1.weight"));
  if (shapes.axis("encoder.conv_in.weight", 3) != 3 || file.config["block_out_channels"].empty()) {
    throw shape_error(subject, "3 x 3 kernels of an image autoencoder", "other kernels");
  }
  const auto channels = file.config["latent_channels"].get<std::int64_t>();
  file.config["scaling_factor"] =
      scaling_factor.has_value() ? *scaling_factor : scaling_factor_of(tensors, channels, subject);
  const auto config = vae::SdVaeConfig::from_json(file.config, subject, null_logger());
  vae::SdVaeWeights weights = vae::sd_vae_weights(tensors, config, file.prefix);
  file.names = std::move(weights.keymap);
  for (const auto& [name, view] : weights.tensors) {
    const auto mapped = file.names.map(name);
    if (mapped.action != tensor::KeyMap::Action::kIgnore) {
      file.tensors.emplace(mapped.name, view);
    }
  }
  return file;
}

Json pixart_config(const io::TensorViews& tensors,
                   std::optional<std::int64_t> image_size,
                   const std::string& subject) {
  const Shapes shapes(tensors, "", subject);
  dit::VDitConfig config;
  config.layout = dit::Layout::kPixart;
  config.qk_norm = shapes.has("blocks.0.attn.q_norm.weight");
  config.fps_condition = false;
  config.width = shapes.axis("x_embedder.proj.weight", 0);
  config.latent_channels = shapes.axis("x_embedder.proj.weight", 1);
  const std::int64_t patch = shapes.axis("x_embedder.proj.weight", 3);
  config.patch = {1, patch, patch};
  config.num_layers = shapes.count("blocks.", ".attn.qkv.weight");
  config.mlp_width = shapes.axis("blocks.0.mlp.fc1.weight", 0);
  config.caption_channels = shapes.axis("y_embedder.y_proj.fc1.weight", 1);
  config.caption_tokens =
      shapes.has("y_embedder.y_embedding") ? shapes.axis("y_embedder.y_embedding", 0) : 0;
  config.size_conditions = shapes.has("csize_embedder.mlp.0.weight");
  if (config.width % kPixartHeadWidth != 0) {
    throw shape_error(subject,
                      fmt::format("a width that is a multiple of {}", kPixartHeadWidth),
                      std::to_string(config.width));
  }
  config.num_heads = config.width / kPixartHeadWidth;
  const std::int64_t out = shapes.axis("final_layer.linear.weight", 0);
  config.predict_variance = out == 2 * config.latent_channels * patch * patch;
  std::int64_t tokens = 0;
  if (image_size.has_value()) {
    tokens = *image_size / kPixelsPerLatent / patch;
  } else if (shapes.has("pos_embed")) {
    tokens = std::llround(std::sqrt(static_cast<double>(shapes.axis("pos_embed", 1))));
  } else {
    throw option_error(subject,
                       "a position table (pos_embed), or the size of the training pictures",
                       "give it with --image-size N, for example 512 or 1024");
  }
  config.position_base = tokens;
  // PixArt's rule for pictures of 512 pixels and more: positions are those of a 512 grid.
  config.position_scale = static_cast<double>(std::max<std::int64_t>(tokens * patch / 64, 1));
  config.validate(subject);
  return config.to_json();
}

}  // namespace kinema::pipeline
