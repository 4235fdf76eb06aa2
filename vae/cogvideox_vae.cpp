// SPDX-License-Identifier: Apache-2.0
#include "vae/cogvideox_vae.h"

#include <cmath>
#include <utility>

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "core/base/error.h"
#include "vae/norm_kernels.h"

namespace kinema::vae {
namespace {

constexpr double kNormEps = 1e-6;

nn::Conv3dOptions conv3x3x3(std::int64_t in, std::int64_t out) {
  return {.in_channels = in, .out_channels = out, .kernel = {3, 3, 3}, .padding = {0, 1, 1}};
}

nn::Conv3dOptions conv1x1x1(std::int64_t in, std::int64_t out) {
  return {.in_channels = in, .out_channels = out, .kernel = {1, 1, 1}};
}

CausalConv3d causal(const nn::Conv3dOptions& options, const nn::ParameterOptions& parameters) {
  return CausalConv3d(options, TimePadding::kFirst, parameters);
}

/// conv(x) + addend, with the state of the next layer.
Tensor convolve(const Tensor& x,
                const CausalConv3dImpl& conv,
                StreamState* stream,
                Tensor addend = {}) {
  return causal_conv3d(x, *conv.conv, TimePadding::kFirst, next_state(stream), std::move(addend));
}

CogVideoXResnetOptions resnet_options(const CogVideoXVaeConfig& config, bool decoder) {
  CogVideoXResnetOptions options = {.num_groups = config.norm_num_groups,
                                    .eps = decoder ? kNormEps : config.norm_eps,
                                    .activation = config.act_fn};
  if (decoder) {
    options.latent_channels = config.latent_channels;
  }
  return options;
}

}  // namespace

Tensor cogvideox_pool_time(const Tensor& x_BCTHW) {
  const std::int64_t frames = x_BCTHW.size(2);
  if (frames == 1) {
    return x_BCTHW;
  }
  const std::int64_t first = frames % 2;
  auto shape = x_BCTHW.sizes().vec();
  shape[2] = first + frames / 2;
  Tensor y = at::empty(shape, x_BCTHW.options(), c10::MemoryFormat::ChannelsLast3d);
  if (first == 1) {
    y.narrow(2, 0, 1).copy_(x_BCTHW.narrow(2, 0, 1));
  }
  Tensor pairs = y.narrow(2, first, frames / 2);
  at::add_out(pairs, x_BCTHW.slice(2, first, frames, 2), x_BCTHW.slice(2, first + 1, frames, 2));
  pairs.mul_(0.5);
  return y;
}

Tensor cogvideox_repeat_time(const Tensor& x_BCTHW) {
  const std::int64_t frames = x_BCTHW.size(2);
  if (frames == 1) {
    return x_BCTHW;
  }
  const std::int64_t first = frames % 2;
  auto shape = x_BCTHW.sizes().vec();
  shape[2] = 2 * frames - first;
  Tensor y = at::empty(shape, x_BCTHW.options(), c10::MemoryFormat::ChannelsLast3d);
  if (first == 1) {
    y.narrow(2, 0, 1).copy_(x_BCTHW.narrow(2, 0, 1));
  }
  const Tensor rest = x_BCTHW.narrow(2, first, frames - first);
  y.slice(2, first, shape[2], 2).copy_(rest);
  y.slice(2, first + 1, shape[2], 2).copy_(rest);
  return y;
}

Tensor upsample_conv2x(const Tensor& x_BCTHW, const nn::Conv2dImpl& conv) {
  const Tensor images = nn::fold_frames(nn::channels_last(x_BCTHW));
  return nn::unfold_frames(conv.forward_doubled(images), x_BCTHW.size(0));
}

CogVideoXSpatialNormImpl::CogVideoXSpatialNormImpl(std::int64_t channels,
                                                   std::int64_t latent_channels,
                                                   std::int64_t num_groups,
                                                   const nn::ParameterOptions& parameters)
    : norm_layer(
          register_module("norm_layer", nn::GroupNorm(num_groups, channels, kNormEps, parameters))),
      conv_y(register_module("conv_y", causal(conv1x1x1(latent_channels, channels), parameters))),
      conv_b(register_module("conv_b", causal(conv1x1x1(latent_channels, channels), parameters))) {}

void CogVideoXSpatialNormImpl::forward_out(Tensor& out,
                                           const Tensor& f_BCTHW,
                                           const Tensor& z_BCTHW,
                                           std::optional<nn::Activation> activation) const {
  const std::int64_t channels = f_BCTHW.size(1);
  const GroupStatistics statistics =
      group_statistics(f_BCTHW, norm_layer->num_groups(), norm_layer->eps());
  const auto per_channel = [&](const Tensor& value_BG) {
    return value_BG.repeat_interleave(channels / norm_layer->num_groups(), 1)
        .view({-1, channels, 1, 1, 1});
  };
  const auto constant = [&](const Tensor& value_C) {
    return value_C.to(at::kFloat).view({1, channels, 1, 1, 1});
  };
  // norm(f) y + b = f (rstd g y) + ((beta - mean rstd g) y + b)
  const Tensor slope = per_channel(statistics.rstd_BG) * constant(norm_layer->weight);
  const Tensor offset = constant(norm_layer->bias) - per_channel(statistics.mean_BG) * slope;
  const Tensor y = conv_y->forward(z_BCTHW, nullptr).to(at::kFloat);
  const Tensor b = conv_b->forward(z_BCTHW, nullptr).to(at::kFloat);
  const bool first_apart = f_BCTHW.size(2) > 1 && f_BCTHW.size(2) % 2 == 1;
  affine_activate_out(out, f_BCTHW, y * slope, y * offset + b, first_apart, activation);
}

void CogVideoXNorm::forward_out(Tensor& out,
                                const Tensor& x_BCTHW,
                                const Tensor& z_BCTHW,
                                nn::Activation activation) const {
  if (conditioned) {
    conditioned->forward_out(out, x_BCTHW, z_BCTHW, activation);
    return;
  }
  if (activation == nn::Activation::kSilu) {
    plain->forward_silu_out(out, x_BCTHW, nn::NormScope::kClip);
    return;
  }
  const std::int64_t channels = x_BCTHW.size(1);
  const GroupStatistics statistics = group_statistics(x_BCTHW, plain->num_groups(), plain->eps());
  const auto per_channel = [&](const Tensor& value_BG) {
    return value_BG.repeat_interleave(channels / plain->num_groups(), 1);
  };
  const Tensor slope_BC = per_channel(statistics.rstd_BG) * plain->weight.to(at::kFloat);
  const Tensor offset_BC = plain->bias.to(at::kFloat) - per_channel(statistics.mean_BG) * slope_BC;
  affine_activate_out(out,
                      x_BCTHW,
                      slope_BC.view({-1, channels, 1, 1, 1}),
                      offset_BC.view({-1, channels, 1, 1, 1}),
                      /*first_apart=*/false,
                      activation);
}

CogVideoXResnetImpl::CogVideoXResnetImpl(const CogVideoXResnetOptions& options,
                                         const nn::ParameterOptions& parameters)
    : activation_(options.activation) {
  const auto add_norm = [&](const char* name, std::int64_t channels) {
    CogVideoXNorm norm;
    if (options.latent_channels.has_value()) {
      norm.conditioned = register_module(
          name,
          CogVideoXSpatialNorm(channels, *options.latent_channels, options.num_groups, parameters));
    } else {
      norm.plain = register_module(
          name, nn::GroupNorm(options.num_groups, channels, options.eps, parameters));
    }
    return norm;
  };
  norm1_ = add_norm("norm1", options.in_channels);
  norm2_ = add_norm("norm2", options.out_channels);
  conv1_ = register_module(
      "conv1", causal(conv3x3x3(options.in_channels, options.out_channels), parameters));
  conv2_ = register_module(
      "conv2", causal(conv3x3x3(options.out_channels, options.out_channels), parameters));
  if (options.in_channels != options.out_channels) {
    conv_shortcut_ = register_module(
        "conv_shortcut",
        nn::Conv3d(conv1x1x1(options.in_channels, options.out_channels), parameters));
  }
}

Tensor CogVideoXResnetImpl::forward(Tensor x_BCTHW,
                                    const Tensor& z_BCTHW,
                                    StreamState* stream) const {
  // Where x is not the shortcut itself, the norm may work in place.
  Tensor shortcut = conv_shortcut_ ? conv_shortcut_->forward(x_BCTHW) : x_BCTHW;
  Tensor h = conv_shortcut_ ? std::move(x_BCTHW) : at::empty_like(x_BCTHW);
  norm1_.forward_out(h, conv_shortcut_ ? h : x_BCTHW, z_BCTHW, activation_);
  x_BCTHW.reset();
  h = convolve(h, *conv1_, stream);
  norm2_.forward_out(h, h, z_BCTHW, activation_);
  return convolve(h, *conv2_, stream, std::move(shortcut));
}

CogVideoXResampleImpl::CogVideoXResampleImpl(std::int64_t channels,
                                             bool down,
                                             const nn::ParameterOptions& parameters) {
  nn::Conv2dOptions options = {.in_channels = channels, .out_channels = channels};
  if (down) {
    options.stride = {2, 2};
  } else {
    options.padding = {1, 1};
  }
  conv = register_module("conv", nn::Conv2d(options, parameters));
}

CogVideoXBlockImpl::CogVideoXBlockImpl(const Options& options,
                                       const nn::ParameterOptions& parameters)
    : options_(options) {
  torch::nn::ModuleList resnets;
  for (std::int64_t i = 0; i < options.num_layers; ++i) {
    CogVideoXResnetOptions resnet = options.resnet;
    resnet.in_channels = i == 0 ? options.resnet.in_channels : options.resnet.out_channels;
    resnets_.emplace_back(resnet, parameters);
    resnets->push_back(resnets_.back());
  }
  register_module("resnets", resnets);
  if (options.resample) {
    const bool down = options.kind == Kind::kDown;
    torch::nn::ModuleList list;
    resample_ = CogVideoXResample(options.resnet.out_channels, down, parameters);
    list->push_back(resample_);
    register_module(down ? "downsamplers" : "upsamplers", list);
  }
}

Tensor CogVideoXBlockImpl::downsample(Tensor x_BCTHW) const {
  if (options_.compress_time) {
    x_BCTHW = cogvideox_pool_time(x_BCTHW);
  }
  return resample_->conv->forward_frames(pad_right_bottom(x_BCTHW));
}

Tensor CogVideoXBlockImpl::upsample(Tensor x_BCTHW) const {
  Tensor y = upsample_conv2x(x_BCTHW, *resample_->conv);
  x_BCTHW.reset();
  // The convolution sees one frame, so frames that only differ by being repeated come after it.
  return options_.compress_time ? cogvideox_repeat_time(y) : y;
}

Tensor CogVideoXBlockImpl::forward(Tensor x_BCTHW,
                                   const Tensor& z_BCTHW,
                                   StreamState* stream) const {
  for (const CogVideoXResnet& resnet : resnets_) {
    x_BCTHW = resnet->forward(std::move(x_BCTHW), z_BCTHW, stream);
  }
  if (!resample_) {
    return x_BCTHW;
  }
  return options_.kind == Kind::kDown ? downsample(std::move(x_BCTHW))
                                      : upsample(std::move(x_BCTHW));
}

CogVideoXEncoderImpl::CogVideoXEncoderImpl(const CogVideoXVaeConfig& config,
                                           const nn::ParameterOptions& parameters) {
  const auto& widths = config.block_out_channels;
  conv_in_ =
      register_module("conv_in", causal(conv3x3x3(config.in_channels, widths.front()), parameters));
  torch::nn::ModuleList blocks;
  CogVideoXBlockImpl::Options options = {.kind = CogVideoXBlockImpl::Kind::kDown,
                                         .num_layers = config.layers_per_block,
                                         .resnet = resnet_options(config, /*decoder=*/false)};
  options.resnet.out_channels = widths.front();
  for (std::int64_t i = 0; i < config.num_blocks(); ++i) {
    options.resnet.in_channels = options.resnet.out_channels;
    options.resnet.out_channels = widths[static_cast<std::size_t>(i)];
    options.resample = i + 1 < config.num_blocks();
    options.compress_time = i < config.num_time_blocks();
    down_blocks_.emplace_back(options, parameters);
    blocks->push_back(down_blocks_.back());
  }
  register_module("down_blocks", blocks);
  CogVideoXBlockImpl::Options middle = {.resnet = resnet_options(config, /*decoder=*/false)};
  middle.resnet.in_channels = middle.resnet.out_channels = widths.back();
  mid_block_ = register_module("mid_block", CogVideoXBlock(middle, parameters));
  norm_out_.plain = register_module(
      "norm_out", nn::GroupNorm(config.norm_num_groups, widths.back(), kNormEps, parameters));
  conv_out_ = register_module(
      "conv_out", causal(conv3x3x3(widths.back(), 2 * config.latent_channels), parameters));
}

Tensor CogVideoXEncoderImpl::forward(const Tensor& x_BCFHW, StreamState* stream) const {
  Tensor x = conv_in_->forward(x_BCFHW, stream);
  for (const CogVideoXBlock& block : down_blocks_) {
    x = block->forward(std::move(x), {}, stream);
  }
  x = mid_block_->forward(std::move(x), {}, stream);
  norm_out_.forward_out(x, x, {}, nn::Activation::kSilu);
  return convolve(x, *conv_out_, stream);
}

CogVideoXDecoderImpl::CogVideoXDecoderImpl(const CogVideoXVaeConfig& config,
                                           const nn::ParameterOptions& parameters) {
  const auto& widths = config.block_out_channels;
  conv_in_ = register_module("conv_in",
                             causal(conv3x3x3(config.latent_channels, widths.back()), parameters));
  CogVideoXBlockImpl::Options middle = {.resnet = resnet_options(config, /*decoder=*/true)};
  middle.resnet.in_channels = middle.resnet.out_channels = widths.back();
  mid_block_ = register_module("mid_block", CogVideoXBlock(middle, parameters));
  torch::nn::ModuleList blocks;
  CogVideoXBlockImpl::Options options = {.kind = CogVideoXBlockImpl::Kind::kUp,
                                         .num_layers = config.layers_per_block + 1,
                                         .resnet = resnet_options(config, /*decoder=*/true)};
  options.resnet.out_channels = widths.back();
  for (std::int64_t i = 0; i < config.num_blocks(); ++i) {
    options.resnet.in_channels = options.resnet.out_channels;
    options.resnet.out_channels = widths[static_cast<std::size_t>(config.num_blocks() - 1 - i)];
    options.resample = i + 1 < config.num_blocks();
    options.compress_time = i < config.num_time_blocks();
    up_blocks_.emplace_back(options, parameters);
    blocks->push_back(up_blocks_.back());
  }
  register_module("up_blocks", blocks);
  norm_out_.conditioned = register_module(
      "norm_out",
      CogVideoXSpatialNorm(
          widths.front(), config.latent_channels, config.norm_num_groups, parameters));
  conv_out_ = register_module("conv_out",
                              causal(conv3x3x3(widths.front(), config.out_channels), parameters));
}

Tensor CogVideoXDecoderImpl::forward(const Tensor& z_BCTHW, StreamState* stream) const {
  Tensor x = conv_in_->forward(z_BCTHW, stream);
  x = mid_block_->forward(std::move(x), z_BCTHW, stream);
  for (const CogVideoXBlock& block : up_blocks_) {
    x = block->forward(std::move(x), z_BCTHW, stream);
  }
  norm_out_.forward_out(x, x, z_BCTHW, nn::Activation::kSilu);
  return convolve(x, *conv_out_, stream);
}

CogVideoXVaeImpl::CogVideoXVaeImpl(const CogVideoXVaeConfig& config,
                                   const nn::ParameterOptions& parameters)
    : encoder_(register_module("encoder", CogVideoXEncoder(config, parameters))),
      decoder_(register_module("decoder", CogVideoXDecoder(config, parameters))) {
  // The reference sizes both by the pixel channels; validate() refuses where that cannot work.
  if (config.use_quant_conv) {
    quant_conv_ = register_module(
        "quant_conv",
        nn::Conv3d(conv1x1x1(2 * config.out_channels, 2 * config.out_channels), parameters));
  }
  if (config.use_post_quant_conv) {
    post_quant_conv_ = register_module(
        "post_quant_conv",
        nn::Conv3d(conv1x1x1(config.out_channels, config.out_channels), parameters));
  }
}

Tensor CogVideoXVaeImpl::encode(const Tensor& x_BCFHW, StreamState* stream) const {
  const Tensor moments = encoder_->forward(x_BCFHW, stream);
  return quant_conv_ ? quant_conv_->forward(moments) : moments;
}

Tensor CogVideoXVaeImpl::decode(const Tensor& z_BCTHW, StreamState* stream) const {
  return decoder_->forward(post_quant_conv_ ? post_quant_conv_->forward(z_BCTHW) : z_BCTHW, stream);
}

}  // namespace kinema::vae
