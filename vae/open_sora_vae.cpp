// SPDX-License-Identifier: Apache-2.0
#include "vae/open_sora_vae.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "core/base/error.h"

namespace kinema::vae {
namespace {

constexpr double kNormEps = 1e-5;
/// Of the image latents; the image autoencoder's own config has another number.
constexpr double kSpatialScale = 0.18215;

CausalConv3d conv(std::int64_t in,
                  std::int64_t out,
                  std::int64_t kernel,
                  bool bias,
                  const nn::ParameterOptions& parameters,
                  std::int64_t time_stride = 1) {
  nn::Conv3dOptions options = {.in_channels = in,
                               .out_channels = out,
                               .kernel = {kernel, kernel, kernel},
                               .stride = {time_stride, 1, 1},
                               .padding = {0, kernel / 2, kernel / 2},
                               .bias = bias};
  return CausalConv3d(options, TimePadding::kZeros, parameters);
}

std::vector<OpenSoraResBlock> add_blocks(torch::nn::ModuleList& list,
                                         std::int64_t in,
                                         std::int64_t out,
                                         const TemporalVaeConfig& config,
                                         const nn::ParameterOptions& parameters) {
  std::vector<OpenSoraResBlock> blocks;
  for (std::int64_t i = 0; i < config.num_res_blocks; ++i) {
    blocks.emplace_back(i == 0 ? in : out, out, config.num_groups, parameters);
    list->push_back(blocks.back());
  }
  return blocks;
}

Tensor run_blocks(const std::vector<OpenSoraResBlock>& blocks, Tensor x) {
  for (const OpenSoraResBlock& block : blocks) {
    x = block->forward(std::move(x));
  }
  return x;
}

Tensor norm_silu_conv(const Tensor& x, const nn::GroupNorm& norm, const CausalConv3d& conv3d) {
  return conv3d->forward(x, *norm, nn::NormScope::kClip, nullptr);
}

bool halves_time(const TemporalVaeConfig& config, std::int64_t block) {
  return config.temporal_downsample[static_cast<std::size_t>(block)];
}

std::int64_t width_of(const TemporalVaeConfig& config, std::int64_t block) {
  return config.filters * config.channel_multipliers[static_cast<std::size_t>(block)];
}

/// What the reference wraps the image autoencoder in.
struct SpatialHolderImpl final : torch::nn::Module {
  explicit SpatialHolderImpl(const SdVae& vae) { register_module("module", vae); }
};

}  // namespace

OpenSoraResBlockImpl::OpenSoraResBlockImpl(std::int64_t in_channels,
                                           std::int64_t out_channels,
                                           std::int64_t num_groups,
                                           const nn::ParameterOptions& parameters)
    : norm1_(
          register_module("norm1", nn::GroupNorm(num_groups, in_channels, kNormEps, parameters))),
      norm2_(
          register_module("norm2", nn::GroupNorm(num_groups, out_channels, kNormEps, parameters))),
      conv1_(register_module("conv1", conv(in_channels, out_channels, 3, false, parameters))),
      conv2_(register_module("conv2", conv(out_channels, out_channels, 3, false, parameters))) {
  if (in_channels != out_channels) {
    conv3_ = register_module("conv3", conv(in_channels, out_channels, 1, false, parameters));
  }
}

Tensor OpenSoraResBlockImpl::forward(Tensor x_BCTHW) const {
  constexpr auto kClip = nn::NormScope::kClip;
  // Where x is not the shortcut itself, the norm may work in place.
  const bool widens = !conv3_.is_empty();
  Tensor shortcut = widens ? conv3_->forward(x_BCTHW, nullptr) : x_BCTHW;
  Tensor h = widens ? norm1_->forward_silu_consume(std::move(x_BCTHW), kClip)
                    : norm1_->forward_silu(x_BCTHW, kClip);
  x_BCTHW.reset();
  h = conv1_->forward(h, nullptr);
  return conv2_->forward_consume(std::move(h), *norm2_, kClip, std::move(shortcut), nullptr);
}

TemporalEncoderImpl::TemporalEncoderImpl(const TemporalVaeConfig& config,
                                         const nn::ParameterOptions& parameters) {
  std::int64_t width = config.filters;
  conv_in_ = register_module("conv_in", conv(config.in_out_channels, width, 3, false, parameters));
  torch::nn::ModuleList all_blocks;
  const auto conv_blocks = std::make_shared<torch::nn::Module>("conv_blocks");
  for (std::int64_t i = 0; i < config.num_blocks(); ++i) {
    const std::int64_t out = width_of(config, i);
    torch::nn::ModuleList list;
    blocks_.push_back(add_blocks(list, width, out, config, parameters));
    all_blocks->push_back(list);
    width = out;
    if (i + 1 < config.num_blocks()) {
      conv_blocks_.emplace_back(nullptr);
      if (halves_time(config, i)) {
        conv_blocks_.back() = conv(width, width, 3, true, parameters, /*time_stride=*/2);
        conv_blocks->register_module(std::to_string(i), conv_blocks_.back().ptr());
      }
    }
  }
  register_module("block_res_blocks", all_blocks);
  register_module("conv_blocks", conv_blocks);
  torch::nn::ModuleList list;
  res_blocks_ = add_blocks(list, width, width, config, parameters);
  register_module("res_blocks", list);
  norm1_ = register_module("norm1", nn::GroupNorm(config.num_groups, width, kNormEps, parameters));
  conv2_ = register_module("conv2", conv(width, 2 * config.latent_embed_dim, 1, true, parameters));
}

Tensor TemporalEncoderImpl::forward(const Tensor& x_BCTHW) const {
  Tensor x = conv_in_->forward(x_BCTHW, nullptr);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    x = run_blocks(blocks_[i], std::move(x));
    if (i < conv_blocks_.size() && conv_blocks_[i]) {
      x = conv_blocks_[i]->forward(x, nullptr);
    }
  }
  x = run_blocks(res_blocks_, std::move(x));
  return norm_silu_conv(x, norm1_, conv2_);
}

TemporalDecoderImpl::TemporalDecoderImpl(const TemporalVaeConfig& config,
                                         const nn::ParameterOptions& parameters) {
  const std::int64_t num_blocks = config.num_blocks();
  std::int64_t width = width_of(config, num_blocks - 1);
  conv1_ = register_module("conv1", conv(config.latent_embed_dim, width, 3, true, parameters));
  torch::nn::ModuleList list;
  res_blocks_ = add_blocks(list, width, width, config, parameters);
  register_module("res_blocks", list);
  const auto conv_blocks = std::make_shared<torch::nn::Module>("conv_blocks");
  blocks_.resize(static_cast<std::size_t>(num_blocks));
  conv_blocks_.assign(static_cast<std::size_t>(num_blocks - 1), nullptr);
  std::vector<torch::nn::ModuleList> lists(static_cast<std::size_t>(num_blocks));
  for (std::int64_t i = num_blocks - 1; i >= 0; --i) {
    const auto index = static_cast<std::size_t>(i);
    const std::int64_t out = width_of(config, i);
    blocks_[index] = add_blocks(lists[index], width, out, config, parameters);
    width = out;
    if (i > 0 && halves_time(config, i - 1)) {
      conv_blocks_[index - 1] = conv(width, 2 * width, 3, true, parameters);
      conv_blocks->register_module(std::to_string(i - 1), conv_blocks_[index - 1].ptr());
    }
  }
  torch::nn::ModuleList all_blocks;
  for (const torch::nn::ModuleList& blocks : lists) {
    all_blocks->push_back(blocks);
  }
  register_module("block_res_blocks", all_blocks);
  register_module("conv_blocks", conv_blocks);
  norm1_ = register_module("norm1", nn::GroupNorm(config.num_groups, width, kNormEps, parameters));
  conv_out_ = register_module("conv_out", conv(width, config.in_out_channels, 3, true, parameters));
}

Tensor TemporalDecoderImpl::forward(const Tensor& z_BCTHW) const {
  Tensor x = run_blocks(res_blocks_, conv1_->forward(z_BCTHW, nullptr));
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    x = run_blocks(blocks_[i], std::move(x));
    if (i > 0 && conv_blocks_[i - 1]) {
      x = depth_to_time(conv_blocks_[i - 1]->forward(x, nullptr));
    }
  }
  return norm_silu_conv(x, norm1_, conv_out_);
}

Tensor depth_to_time(const Tensor& x_BCTHW) {
  const auto s = x_BCTHW.sizes();
  Tensor y = at::empty(
      {s[0], s[1] / 2, 2 * s[2], s[3], s[4]}, x_BCTHW.options(), c10::MemoryFormat::ChannelsLast3d);
  for (std::int64_t half = 0; half < 2; ++half) {
    y.slice(2, half, std::nullopt, 2).copy_(x_BCTHW.slice(1, half, std::nullopt, 2));
  }
  return y;
}

TemporalVaeImpl::TemporalVaeImpl(const TemporalVaeConfig& config,
                                 const nn::ParameterOptions& parameters)
    : config_(config),
      encoder_(register_module("encoder", TemporalEncoder(config, parameters))),
      quant_conv_(register_module(
          "quant_conv",
          conv(2 * config.latent_embed_dim, 2 * config.embed_dim, 1, true, parameters))),
      post_quant_conv_(register_module(
          "post_quant_conv", conv(config.embed_dim, config.latent_embed_dim, 1, true, parameters))),
      decoder_(register_module("decoder", TemporalDecoder(config, parameters))) {}

Tensor TemporalVaeImpl::encode(const Tensor& x_BCTHW) const {
  const std::int64_t missing =
      config_.latent_frames(x_BCTHW.size(2)) * config_.temporal_ratio() - x_BCTHW.size(2);
  const Tensor padded =
      missing > 0 ? at::constant_pad_nd(x_BCTHW, {0, 0, 0, 0, missing, 0}) : x_BCTHW;
  return quant_conv_->forward(encoder_->forward(nn::channels_last(padded)), nullptr);
}

Tensor TemporalVaeImpl::decode(const Tensor& z_BCTHW, std::int64_t num_frames) const {
  const std::int64_t latents = z_BCTHW.size(2);
  if (num_frames < 1 || config_.latent_frames(num_frames) != latents) {
    const std::int64_t most = latents * config_.temporal_ratio();
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "vae.frames",
                 .place = "vae.open_sora",
                 .subject = fmt::format("frames of {} latents", latents),
                 .expected = fmt::format("{} to {}", most - config_.temporal_ratio() + 1, most),
                 .got = std::to_string(num_frames)});
  }
  const Tensor z = nn::channels_last(z_BCTHW);
  const Tensor x = decoder_->forward(post_quant_conv_->forward(z, nullptr));
  return x.narrow(2, x.size(2) - num_frames, num_frames);
}

OpenSoraVaeImpl::OpenSoraVaeImpl(const OpenSoraVaeConfig& config,
                                 const nn::ParameterOptions& parameters)
    : config_(config), spatial_vae_(config.spatial, parameters) {
  register_module("spatial_vae", std::make_shared<SpatialHolderImpl>(spatial_vae_));
  temporal_vae_ = register_module("temporal_vae", TemporalVae(config.temporal, parameters));
  std::vector<std::int64_t> shape;
  if (!config.scalar_normalisation) {
    shape = {1, static_cast<std::int64_t>(config.scale.size()), 1, 1, 1};
  }
  scale = register_buffer("scale", nn::make_parameter(shape, parameters));
  shift = register_buffer("shift", nn::make_parameter(shape, parameters));
}

Tensor OpenSoraVaeImpl::encode_frames(const Tensor& x_BCFHW, const Tensor& noise_NCHW) const {
  const Tensor images = nn::fold_frames(nn::channels_last(x_BCFHW));
  const std::int64_t count = images.size(0);
  const std::int64_t batch = config_.micro_batch_size.value_or(count);
  std::vector<Tensor> latents;
  for (std::int64_t begin = 0; begin < count; begin += batch) {
    const std::int64_t size = std::min(batch, count - begin);
    const Posterior posterior =
        Posterior::from_moments(spatial_vae_->encode(images.narrow(0, begin, size)));
    latents.push_back(noise_NCHW.defined() ? posterior.sample(noise_NCHW.narrow(0, begin, size))
                                           : posterior.mode());
  }
  const Tensor all = (latents.size() == 1 ? latents.front() : at::cat(latents, 0)) * kSpatialScale;
  return nn::unfold_frames(all, x_BCFHW.size(0));
}

Tensor OpenSoraVaeImpl::decode_frames(const Tensor& z_BCTHW) const {
  const Tensor images = nn::fold_frames(nn::channels_last(z_BCTHW / kSpatialScale));
  const std::int64_t count = images.size(0);
  const std::int64_t batch = config_.micro_batch_size.value_or(count);
  Tensor pixels;
  for (std::int64_t begin = 0; begin < count; begin += batch) {
    const std::int64_t size = std::min(batch, count - begin);
    const Tensor part = spatial_vae_->decode(images.narrow(0, begin, size));
    if (!pixels.defined()) {
      auto shape = part.sizes().vec();
      shape[0] = count;
      pixels = at::empty(shape, part.options(), c10::MemoryFormat::ChannelsLast);
    }
    pixels.narrow(0, begin, size).copy_(part);
  }
  return nn::unfold_frames(pixels, z_BCTHW.size(0));
}

}  // namespace kinema::vae
