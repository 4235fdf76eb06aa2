// SPDX-License-Identifier: Apache-2.0
// Weights of VidVAE: from its own or Open-Sora-Plan's files, from an image autoencoder, or random;
// and the codec around the network.
#include <cmath>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "core/tensor/keymap.h"
#include "core/tensor/shape_check.h"
#include "vae/config_checks.h"
#include "vae/memory_networks.h"
#include "vae/network_codec.h"
#include "vae/vid_vae.h"

namespace kinema::vae {
namespace {

using tensor::KeyMap;

/// Defaults of the published tilers.
struct OspTiling {
  std::int64_t tile = 256;
  double overlap = 0.25;
  std::int64_t window_frames = 0;
  std::int64_t window_latents = 0;
};

OspTiling osp_tiling(const VidVaeConfig& c) {
  const auto has_down = [&](TimeDown kind) {
    return std::ranges::find(c.time_down, kind) != c.time_down.end();
  };
  if (has_down(TimeDown::kJoint)) {
    return {.overlap = 0.125, .window_frames = 33, .window_latents = 16};
  }
  if (has_down(TimeDown::kMix)) {
    return {.window_frames = 65, .window_latents = 17};
  }
  return {};
}

/// Names of the image autoencoder to ours.
KeyMap image_names(std::int64_t levels) {
  KeyMap keymap;
  for (const std::string part : {"encoder", "decoder"}) {
    const std::string attention = part + ".mid_block.attentions.0.";
    const std::string ours = part + ".mid.attn_1.";
    keymap.add(KeyMap::rename(attention + "group_norm.*", ours + "norm.*"));
    keymap.add(KeyMap::rename(attention + "to_q.*", ours + "q.conv.*"));
    keymap.add(KeyMap::rename(attention + "to_k.*", ours + "k.conv.*"));
    keymap.add(KeyMap::rename(attention + "to_v.*", ours + "v.conv.*"));
    keymap.add(KeyMap::rename(attention + "to_out.0.*", ours + "proj_out.conv.*"));
    keymap.add(KeyMap::rename(part + ".conv_norm_out.*", part + ".norm_out.*"));
    keymap.add(KeyMap::rename(part + ".conv_in.*", part + ".conv_in.conv.*"));
    keymap.add(KeyMap::rename(part + ".conv_out.*", part + ".conv_out.conv.*"));
  }
  const auto add_block = [&keymap](const std::string& from, const std::string& to) {
    keymap.add(KeyMap::rename(from + ".conv1.*", to + ".conv1.conv.*"));
    keymap.add(KeyMap::rename(from + ".conv2.*", to + ".conv2.conv.*"));
    keymap.add(KeyMap::rename(from + ".conv_shortcut.*", to + ".nin_shortcut.conv.*"));
    keymap.add(KeyMap::rename(from + ".*", to + ".*"));
  };
  for (const std::string part : {"encoder", "decoder"}) {
    add_block(part + ".mid_block.resnets.0", part + ".mid.block_1");
    add_block(part + ".mid_block.resnets.1", part + ".mid.block_2");
  }
  for (std::int64_t l = 0; l < levels; ++l) {
    const std::string down = fmt::format("encoder.down_blocks.{}", l);
    const std::string up = fmt::format("decoder.up_blocks.{}", levels - 1 - l);
    add_block(down + ".resnets.{}", fmt::format("encoder.down.{}.block.{{}}", l));
    add_block(up + ".resnets.{}", fmt::format("decoder.up.{}.block.{{}}", l));
    keymap.add(KeyMap::rename(down + ".downsamplers.0.conv.*",
                              fmt::format("encoder.down.{}.downsample.conv.conv.*", l)));
    keymap.add(KeyMap::rename(up + ".upsamplers.0.conv.*",
                              fmt::format("decoder.up.{}.upsample.conv.conv.*", l)));
  }
  keymap.add(KeyMap::rename("quant_conv.*", "quant_conv.conv.*"));
  keymap.add(KeyMap::rename("post_quant_conv.*", "post_quant_conv.conv.*"));
  return keymap;
}

Error inflation_error(std::string expected, std::string got) {
  return Error(ErrorKind::kBadConfig,
               {.code = "vae.inflation",
                .place = "vae.inflation",
                .subject = "image autoencoder",
                .expected = std::move(expected),
                .got = std::move(got)});
}

/// An image parameter in the shape of the video parameter.
Tensor fit_parameter(const Tensor& image, const Tensor& video, Inflation rule) {
  if (image.dim() == 4 && video.dim() == 5) {
    return inflate_kernel(image, video.size(2), rule);
  }
  if (image.dim() == 2 && video.dim() == 5) {
    return image.view({image.size(0), image.size(1), 1, 1, 1});
  }
  return image;
}

/// A 1x1 convolution that passes its input on.
void make_identity(Tensor weight) {
  weight.zero_();
  for (std::int64_t c = 0; c < weight.size(0); ++c) {
    weight[c][c].fill_(1.0);
  }
}

class VidVaeCodec final : public NetworkCodec<VidVae> {
 public:
  VidVaeCodec(VidVae network, const tensor::Place& place)
      : NetworkCodec(std::move(network), place) {
    const VidVaeConfig& c = network_->config();
    info_.family = c.streams_exactly() ? "vidvae" : "osp_causal";
    info_.time_mode = c.streams_exactly() ? TimeMode::kStream : TimeMode::kWhole;
    info_.temporal_ratio = c.temporal_ratio();
    info_.spatial_ratio = c.spatial_ratio();
    info_.image_channels = c.in_channels;
    info_.latent_channels = c.latent_channels;
    info_.latent_shift = c.shift;
    for (const double scale : c.scale) {
      info_.latent_scale.push_back(1.0 / scale);
    }
  }

  [[nodiscard]] StepRule encode_rule() const override {
    if (info_.time_mode == TimeMode::kWhole) {
      return {.independent = true, .whole = true};
    }
    return {.first = 1, .later = info_.temporal_ratio, .any_multiple = true};
  }
  [[nodiscard]] StepRule decode_rule() const override {
    if (info_.time_mode == TimeMode::kWhole) {
      return {.independent = true, .whole = true};
    }
    return {.any_multiple = true};
  }
  [[nodiscard]] std::optional<std::int64_t> latent_frames(std::int64_t frames) const override {
    if (frames < 1 || (frames - 1) % info_.temporal_ratio != 0) {
      return std::nullopt;
    }
    return 1 + (frames - 1) / info_.temporal_ratio;
  }
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const override {
    return 1 + (latents - 1) * info_.temporal_ratio;
  }

  [[nodiscard]] Live book_step(Ledger& ledger,
                               Direction direction,
                               const Live& input,
                               bool is_first) const override {
    return book_network(network_->config(), ledger, direction, input, is_first);
  }

  [[nodiscard]] std::optional<TilePlan> tiles(Direction direction,
                                              const TilingOptions& options,
                                              std::int64_t rows,
                                              std::int64_t columns) const override {
    return Codec::tiles(direction, with_defaults(options), rows, columns);
  }
  [[nodiscard]] std::int64_t rollback_window(const TilingOptions& options,
                                             bool encoding) const override {
    if (info_.time_mode != TimeMode::kWhole) {
      return 0;
    }
    const OspTiling defaults = osp_tiling(network_->config());
    const std::int64_t asked = encoding ? options.window_frames : options.window_latents;
    return asked > 0 ? asked : (encoding ? defaults.window_frames : defaults.window_latents);
  }

 private:
  [[nodiscard]] TilingOptions with_defaults(TilingOptions options) const {
    if (info_.time_mode != TimeMode::kWhole) {
      return options;
    }
    const OspTiling defaults = osp_tiling(network_->config());
    options.tile_rows = options.tile_rows > 0 ? options.tile_rows : defaults.tile;
    options.tile_columns = options.tile_columns > 0 ? options.tile_columns : defaults.tile;
    options.overlap = options.overlap >= 0.0 ? options.overlap : defaults.overlap;
    return options;
  }
};

}  // namespace

void initialise_vid_vae(VidVaeImpl& network, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  double bound = 1.0;
  for (auto& item : network.named_parameters()) {
    const std::string& name = item.key();
    Tensor& parameter = item.value();
    const bool is_norm = name.find("norm") != std::string::npos;
    if (name.ends_with("mix_factor")) {
      parameter.fill_(2.0);
    } else if (is_norm) {
      parameter.fill_(name.ends_with("weight") ? 1.0 : 0.0);
    } else {
      // A bias follows its weight and has the same fan in.
      if (parameter.dim() > 1) {
        bound = 1.0 / std::sqrt(static_cast<double>(parameter[0].numel()));
      }
      parameter.copy_(at::empty(parameter.sizes()).uniform_(-bound, bound, generator));
    }
  }
}

VidVaeConfig inflated_config(const SdVaeConfig& image, VidVaeConfig base) {
  base.in_channels = image.in_channels;
  base.latent_channels = image.latent_channels;
  base.base = 1;
  base.mult = image.block_out_channels;
  base.res_blocks = image.layers_per_block;
  base.groups = image.norm_num_groups;
  const auto channels = static_cast<std::size_t>(image.latent_channels);
  base.scale.assign(channels, 1.0 / image.scaling_factor);
  base.shift.assign(channels, image.shift_factor);
  if (image.in_channels != image.out_channels || !image.mid_block_add_attention) {
    throw inflation_error("as many output as input channels, and attention in the middle",
                          "another layout");
  }
  base.validate("inflated image autoencoder");
  return base;
}

void inflate_vid_vae(VidVaeImpl& network, SdVaeImpl& image, Inflation rule) {
  const at::NoGradGuard no_grad;
  const KeyMap names = image_names(network.config().num_levels());
  auto targets = network.named_parameters();
  std::size_t filled = 0;
  for (const auto& item : image.named_parameters()) {
    const std::string name = names.map(item.key()).name;
    Tensor* target = targets.find(name);
    const Tensor value = target == nullptr ? Tensor() : fit_parameter(item.value(), *target, rule);
    if (target == nullptr || value.sizes() != target->sizes()) {
      throw inflation_error("a parameter " + name + " of the same widths",
                            item.key() + " " + tensor::shape_text(item.value()));
    }
    target->copy_(value);
    filled += 1;
  }
  if (!image.config().use_quant_conv) {
    make_identity(targets["quant_conv.conv.weight"]);
    targets["quant_conv.conv.bias"].zero_();
    filled += 2;
  }
  if (!image.config().use_post_quant_conv) {
    make_identity(targets["post_quant_conv.conv.weight"]);
    targets["post_quant_conv.conv.bias"].zero_();
    filled += 2;
  }
  if (filled != targets.size()) {
    throw inflation_error(fmt::format("{} parameters", targets.size()), std::to_string(filled));
  }
}

std::unique_ptr<Codec> make_vid_vae_codec(VidVae network, const tensor::Place& place) {
  network->to(place.device, place.dtype);
  nn::use_channels_last_weights(*network);
  return std::make_unique<VidVaeCodec>(std::move(network), place);
}

std::unique_ptr<Codec> load_inflated_vid_vae(const CodecSource& image_source,
                                             const VidVaeConfig& base,
                                             Inflation rule,
                                             Logger& logger) {
  const std::string path = image_source.folder + "/config.json";
  const auto image_config = SdVaeConfig::from_json(image_source.config, path, logger);
  SdVae image = load_sd_vae_network(image_source.folder, image_config, {});
  VidVae network(inflated_config(image_config, base));
  inflate_vid_vae(*network, *image, rule);
  return make_vid_vae_codec(std::move(network), image_source.place);
}

std::unique_ptr<Codec> load_vid_vae(const CodecSource& source, Logger& logger) {
  const std::string path = source.folder + "/config.json";
  const bool is_osp = source.config.contains("hidden_size_mult");
  const auto config = is_osp ? VidVaeConfig::from_osp_json(source.config, path, logger)
                             : VidVaeConfig::from_json(source.config, path, logger);
  VidVae network(config, nn::ParameterOptions{.dtype = source.place.dtype, .deferred = true});
  if (source.has_weights) {
    // Open-Sora-Plan's files carry their losses.
    load_codec_weights(
        *network, io::Checkpoint::open(source.folder), {KeyMap::ignore("loss.*")}, source.place);
  }
  return std::make_unique<VidVaeCodec>(std::move(network), source.place);
}

}  // namespace kinema::vae
