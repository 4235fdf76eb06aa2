// SPDX-License-Identifier: Apache-2.0
#include "vae/wan_vae.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "core/base/error.h"
#include "core/nn/linear.h"
#include "vae/causal_conv3d.h"
#include "vae/cogvideox_vae.h"
#include "vae/norm_kernels.h"

namespace kinema::vae {
namespace {

nn::Conv3d conv3x3x3(std::int64_t in, std::int64_t out, const nn::ParameterOptions& parameters) {
  return nn::Conv3d(
      nn::Conv3dOptions{
          .in_channels = in, .out_channels = out, .kernel = {3, 3, 3}, .padding = {0, 1, 1}},
      parameters);
}

nn::Conv3d conv1x1x1(std::int64_t in, std::int64_t out, const nn::ParameterOptions& parameters) {
  return nn::Conv3d(nn::Conv3dOptions{.in_channels = in, .out_channels = out, .kernel = {1, 1, 1}},
                    parameters);
}

/// conv(x) + addend, with the state of the next layer.
Tensor convolve(const Tensor& x,
                const nn::Conv3dImpl& conv,
                StreamState* stream,
                Tensor addend = {}) {
  return causal_conv3d(x, conv, TimePadding::kZeros, next_state(stream), std::move(addend));
}

void norm_silu_out(Tensor& out, const Tensor& x, const WanRmsNormImpl& norm) {
  rms_norm_activate_out(out, x, norm.gamma, nn::Activation::kSilu);
}

/// The container of the reference's Sequential; index 0 has no parameters.
struct ResampleSequenceImpl final : torch::nn::Module {
  explicit ResampleSequenceImpl(const nn::Conv2d& conv) { register_module("1", conv); }
};

bool doubles_time(WanResampleImpl::Mode mode) {
  return mode == WanResampleImpl::Mode::kUp3d;
}

bool is_up(WanResampleImpl::Mode mode) {
  return mode == WanResampleImpl::Mode::kUp2d || mode == WanResampleImpl::Mode::kUp3d;
}

}  // namespace

WanRmsNormImpl::WanRmsNormImpl(std::int64_t channels,
                               bool images,
                               const nn::ParameterOptions& parameters) {
  std::vector<std::int64_t> shape = {channels, 1, 1};
  if (!images) {
    shape.push_back(1);
  }
  gamma = register_parameter("gamma", nn::make_parameter(shape, parameters));
}

WanResidualBlockImpl::WanResidualBlockImpl(std::int64_t in_channels,
                                           std::int64_t out_channels,
                                           const nn::ParameterOptions& parameters)
    : norm1_(register_module("norm1", WanRmsNorm(in_channels, /*images=*/false, parameters))),
      norm2_(register_module("norm2", WanRmsNorm(out_channels, /*images=*/false, parameters))),
      conv1_(register_module("conv1", conv3x3x3(in_channels, out_channels, parameters))),
      conv2_(register_module("conv2", conv3x3x3(out_channels, out_channels, parameters))) {
  if (in_channels != out_channels) {
    conv_shortcut_ =
        register_module("conv_shortcut", conv1x1x1(in_channels, out_channels, parameters));
  }
}

Tensor WanResidualBlockImpl::forward(Tensor x_BCTHW, StreamState* stream) const {
  // Where x is not the shortcut itself, the norm may work in place.
  Tensor shortcut = conv_shortcut_ ? conv_shortcut_->forward(x_BCTHW) : x_BCTHW;
  Tensor h = conv_shortcut_ ? std::move(x_BCTHW) : at::empty_like(x_BCTHW);
  norm_silu_out(h, conv_shortcut_ ? h : x_BCTHW, *norm1_);
  x_BCTHW.reset();
  h = convolve(h, *conv1_, stream);
  norm_silu_out(h, h, *norm2_);
  return convolve(h, *conv2_, stream, std::move(shortcut));
}

WanAttentionBlockImpl::WanAttentionBlockImpl(std::int64_t channels,
                                             const nn::ParameterOptions& parameters)
    : norm_(register_module("norm", WanRmsNorm(channels, /*images=*/true, parameters))) {
  nn::Conv2dOptions options = {.in_channels = channels, .kernel = {1, 1}};
  options.out_channels = 3 * channels;
  to_qkv_ = register_module("to_qkv", nn::Conv2d(options, parameters));
  options.out_channels = channels;
  proj_ = register_module("proj", nn::Conv2d(options, parameters));
}

Tensor WanAttentionBlockImpl::forward(const Tensor& x_BCTHW) const {
  const auto s = x_BCTHW.sizes();
  const std::int64_t channels = s[1];
  const std::int64_t positions = s[3] * s[4];
  Tensor h = at::empty_like(x_BCTHW);
  rms_norm_activate_out(h, x_BCTHW, norm_->gamma, std::nullopt);
  // A channels-last picture is a list of pixels; the 1x1 convolutions are matrix products.
  const auto matrix = [](const Tensor& weight_OI11) {
    return weight_OI11.reshape({weight_OI11.size(0), weight_OI11.size(1)});
  };
  const Tensor pixels_NSC = nn::fold_frames(nn::channels_last(h))
                                .permute({0, 2, 3, 1})
                                .reshape({s[0] * s[2], 1, positions, channels});
  const Tensor qkv = nn::linear(pixels_NSC, matrix(to_qkv_->weight), to_qkv_->bias);
  const auto parts = qkv.chunk(3, -1);
  const Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
  const Tensor out_NSC = nn::linear(mixed, matrix(proj_->weight), proj_->bias);
  const Tensor out_NCHW =
      out_NSC.reshape({s[0] * s[2], s[3], s[4], channels}).permute({0, 3, 1, 2});
  return nn::unfold_frames(out_NCHW, s[0]).add_(x_BCTHW);
}

WanResampleImpl::WanResampleImpl(std::int64_t channels,
                                 Mode mode,
                                 const nn::ParameterOptions& parameters)
    : mode_(mode) {
  nn::Conv2dOptions options = {.in_channels = channels, .out_channels = channels};
  if (is_up(mode)) {
    options.out_channels = channels / 2;
    options.padding = {1, 1};
  } else {
    options.stride = {2, 2};
  }
  conv_ = nn::Conv2d(options, parameters);
  register_module("resample", std::make_shared<ResampleSequenceImpl>(conv_));
  if (mode == Mode::kDown3d || mode == Mode::kUp3d) {
    nn::Conv3dOptions time = {.in_channels = channels,
                              .out_channels = doubles_time(mode) ? 2 * channels : channels,
                              .kernel = {3, 1, 1}};
    time.stride[0] = doubles_time(mode) ? 1 : 2;
    time_conv_ = register_module("time_conv", nn::Conv3d(time, parameters));
  }
}

Tensor WanResampleImpl::forward(Tensor x_BCTHW, StreamState* stream) const {
  switch (mode_) {
    case Mode::kDown2d:
      return conv_->forward_frames(pad_right_bottom(x_BCTHW));
    case Mode::kDown3d:
      return wan_time_down(
          conv_->forward_frames(pad_right_bottom(x_BCTHW)), *time_conv_, next_state(stream));
    case Mode::kUp3d:
      x_BCTHW = wan_time_up(x_BCTHW, *time_conv_, next_state(stream));
      [[fallthrough]];
    case Mode::kUp2d:
      return upsample_conv2x(x_BCTHW, *conv_);
  }
  return x_BCTHW;
}

Tensor wan_time_down(const Tensor& x_BCTHW, const nn::Conv3dImpl& time_conv, TimeState* state) {
  const std::int64_t frames = x_BCTHW.size(2);
  const bool started = state != nullptr && state->started();
  Tensor y = x_BCTHW;
  if (started) {
    y = time_conv.forward(at::cat({state->cache, x_BCTHW}, 2));
  } else if (frames > 1) {
    y = at::cat({x_BCTHW.narrow(2, 0, 1), time_conv.forward(x_BCTHW)}, 2);
  }
  if (state != nullptr) {
    state->cache = x_BCTHW.narrow(2, frames - 1, 1).clone(c10::MemoryFormat::ChannelsLast3d);
    state->chunks += 1;
  }
  return y;
}

Tensor wan_time_up(const Tensor& x_BCTHW, const nn::Conv3dImpl& time_conv, TimeState* state) {
  const bool started = state != nullptr && state->started();
  const std::int64_t alone = started ? 0 : 1;  // frame 0 of the clip
  const std::int64_t frames = x_BCTHW.size(2) - alone;
  const auto s = x_BCTHW.sizes();
  if (frames == 0) {
    if (state != nullptr) {
      state->chunks += 1;
    }
    return x_BCTHW;
  }
  Tensor input = at::empty(
      {s[0], s[1], 2 + frames, s[3], s[4]}, x_BCTHW.options(), c10::MemoryFormat::ChannelsLast3d);
  Tensor before = input.narrow(2, 0, 2);
  if (started && state->cache.defined()) {
    before.copy_(state->cache);
  } else {
    before.zero_();
  }
  input.narrow(2, 2, frames).copy_(x_BCTHW.narrow(2, alone, frames));
  if (state != nullptr) {
    state->cache = input.narrow(2, frames, 2).clone(c10::MemoryFormat::ChannelsLast3d);
    state->chunks += 1;
  }
  const Tensor doubled = time_conv.forward(input);
  Tensor y = at::empty({s[0], s[1], alone + 2 * frames, s[3], s[4]},
                       x_BCTHW.options(),
                       c10::MemoryFormat::ChannelsLast3d);
  y.narrow(2, 0, alone).copy_(x_BCTHW.narrow(2, 0, alone));
  y.slice(2, alone, std::nullopt, 2).copy_(doubled.narrow(1, 0, s[1]));
  y.slice(2, alone + 1, std::nullopt, 2).copy_(doubled.narrow(1, s[1], s[1]));
  return y;
}

WanMidBlockImpl::WanMidBlockImpl(std::int64_t channels, const nn::ParameterOptions& parameters)
    : first_(channels, channels, parameters),
      second_(channels, channels, parameters),
      attention_(channels, parameters) {
  torch::nn::ModuleList attentions;
  torch::nn::ModuleList resnets;
  attentions->push_back(attention_);
  resnets->push_back(first_);
  resnets->push_back(second_);
  register_module("attentions", attentions);
  register_module("resnets", resnets);
}

Tensor WanMidBlockImpl::forward(Tensor x_BCTHW, StreamState* stream) const {
  x_BCTHW = first_->forward(std::move(x_BCTHW), stream);
  x_BCTHW = attention_->forward(x_BCTHW);
  return second_->forward(std::move(x_BCTHW), stream);
}

WanEncoderImpl::WanEncoderImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters) {
  std::int64_t width = config.base_dim;
  conv_in_ = register_module("conv_in", conv3x3x3(config.in_channels, width, parameters));
  torch::nn::ModuleList list;
  double scale = 1.0;
  for (std::int64_t level = 0; level < config.num_levels(); ++level) {
    const std::int64_t out = config.base_dim * config.dim_mult[static_cast<std::size_t>(level)];
    const bool has_attention =
        std::find(config.attn_scales.begin(), config.attn_scales.end(), scale) !=
        config.attn_scales.end();
    for (std::int64_t i = 0; i < config.num_res_blocks; ++i) {
      layers_.push_back({.residual = WanResidualBlock(width, out, parameters)});
      list->push_back(layers_.back().residual);
      width = out;
      if (has_attention) {
        layers_.push_back({.attention = WanAttentionBlock(out, parameters)});
        list->push_back(layers_.back().attention);
      }
    }
    if (level + 1 < config.num_levels()) {
      const auto mode = config.temporal_downsample[static_cast<std::size_t>(level)]
                            ? WanResampleImpl::Mode::kDown3d
                            : WanResampleImpl::Mode::kDown2d;
      layers_.push_back({.resample = WanResample(out, mode, parameters)});
      list->push_back(layers_.back().resample);
      scale /= 2.0;
    }
  }
  register_module("down_blocks", list);
  mid_block_ = register_module("mid_block", WanMidBlock(width, parameters));
  norm_out_ = register_module("norm_out", WanRmsNorm(width, /*images=*/false, parameters));
  conv_out_ = register_module("conv_out", conv3x3x3(width, 2 * config.z_dim, parameters));
}

Tensor WanEncoderImpl::forward(const Tensor& x_BCFHW, StreamState* stream) const {
  Tensor x = convolve(x_BCFHW, *conv_in_, stream);
  for (const Layer& layer : layers_) {
    if (layer.residual) {
      x = layer.residual->forward(std::move(x), stream);
    } else if (layer.attention) {
      x = layer.attention->forward(x);
    } else {
      x = layer.resample->forward(std::move(x), stream);
    }
  }
  x = mid_block_->forward(std::move(x), stream);
  norm_silu_out(x, x, *norm_out_);
  return convolve(x, *conv_out_, stream);
}

WanUpBlockImpl::WanUpBlockImpl(std::int64_t in_channels,
                               std::int64_t out_channels,
                               std::int64_t num_layers,
                               std::optional<WanResampleImpl::Mode> upsample,
                               const nn::ParameterOptions& parameters) {
  torch::nn::ModuleList resnets;
  for (std::int64_t i = 0; i < num_layers; ++i) {
    resnets_.emplace_back(i == 0 ? in_channels : out_channels, out_channels, parameters);
    resnets->push_back(resnets_.back());
  }
  register_module("resnets", resnets);
  if (upsample.has_value()) {
    torch::nn::ModuleList upsamplers;
    upsampler_ = WanResample(out_channels, *upsample, parameters);
    upsamplers->push_back(upsampler_);
    register_module("upsamplers", upsamplers);
  }
}

Tensor WanUpBlockImpl::forward(Tensor x_BCTHW, StreamState* stream) const {
  for (const WanResidualBlock& resnet : resnets_) {
    x_BCTHW = resnet->forward(std::move(x_BCTHW), stream);
  }
  return upsampler_ ? upsampler_->forward(std::move(x_BCTHW), stream) : x_BCTHW;
}

WanDecoderImpl::WanDecoderImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters) {
  const std::int64_t base = config.decoder_base_dim > 0 ? config.decoder_base_dim : config.base_dim;
  std::int64_t width = base * config.dim_mult.back();
  conv_in_ = register_module("conv_in", conv3x3x3(config.z_dim, width, parameters));
  mid_block_ = register_module("mid_block", WanMidBlock(width, parameters));
  torch::nn::ModuleList list;
  for (std::int64_t level = config.num_levels() - 1; level >= 0; --level) {
    const std::int64_t out = base * config.dim_mult[static_cast<std::size_t>(level)];
    std::optional<WanResampleImpl::Mode> upsample;
    if (level > 0) {
      upsample = config.temporal_downsample[static_cast<std::size_t>(level - 1)]
                     ? WanResampleImpl::Mode::kUp3d
                     : WanResampleImpl::Mode::kUp2d;
    }
    up_blocks_.emplace_back(width, out, config.num_res_blocks + 1, upsample, parameters);
    list->push_back(up_blocks_.back());
    width = upsample.has_value() ? out / 2 : out;
  }
  register_module("up_blocks", list);
  norm_out_ = register_module("norm_out", WanRmsNorm(width, /*images=*/false, parameters));
  conv_out_ = register_module("conv_out", conv3x3x3(width, config.out_channels, parameters));
}

Tensor WanDecoderImpl::forward(const Tensor& z_BCTHW, StreamState* stream) const {
  Tensor x = convolve(z_BCTHW, *conv_in_, stream);
  x = mid_block_->forward(std::move(x), stream);
  for (const WanUpBlock& block : up_blocks_) {
    x = block->forward(std::move(x), stream);
  }
  norm_silu_out(x, x, *norm_out_);
  return convolve(x, *conv_out_, stream);
}

WanVaeImpl::WanVaeImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters)
    : encoder_(register_module("encoder", WanEncoder(config, parameters))),
      quant_conv_(
          register_module("quant_conv", conv1x1x1(2 * config.z_dim, 2 * config.z_dim, parameters))),
      post_quant_conv_(
          register_module("post_quant_conv", conv1x1x1(config.z_dim, config.z_dim, parameters))),
      decoder_(register_module("decoder", WanDecoder(config, parameters))) {}

Tensor WanVaeImpl::encode(const Tensor& x_BCFHW, StreamState* stream) const {
  return quant_conv_->forward(encoder_->forward(x_BCFHW, stream));
}

Tensor WanVaeImpl::decode(const Tensor& z_BCTHW, StreamState* stream) const {
  return decoder_->forward(post_quant_conv_->forward(z_BCTHW), stream);
}

}  // namespace kinema::vae
