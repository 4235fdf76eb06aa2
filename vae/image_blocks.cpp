// SPDX-License-Identifier: Apache-2.0
#include "vae/image_blocks.h"

#include <utility>

#include "vae/causal_conv3d.h"

namespace kinema::vae {
namespace {

nn::Conv2d conv3x3(std::int64_t in, std::int64_t out, const nn::ParameterOptions& parameters) {
  return nn::Conv2d(nn::Conv2dOptions{.in_channels = in, .out_channels = out, .padding = {1, 1}},
                    parameters);
}

}  // namespace

ResBlock2dImpl::ResBlock2dImpl(const ResBlockOptions& o, const nn::ParameterOptions& parameters)
    : norm1_(register_module("norm1",
                             nn::GroupNorm(o.num_groups, o.in_channels, o.norm_eps, parameters))),
      conv1_(register_module("conv1", conv3x3(o.in_channels, o.out_channels, parameters))),
      norm2_(register_module("norm2",
                             nn::GroupNorm(o.num_groups, o.out_channels, o.norm_eps, parameters))),
      conv2_(register_module("conv2", conv3x3(o.out_channels, o.out_channels, parameters))) {
  if (o.in_channels != o.out_channels) {
    shortcut_ = register_module(o.shortcut_name,
                                nn::Conv2d(nn::Conv2dOptions{.in_channels = o.in_channels,
                                                             .out_channels = o.out_channels,
                                                             .kernel = {1, 1}},
                                           parameters));
  }
}

Tensor ResBlock2dImpl::forward(Tensor x_NCHW) const {
  constexpr auto kFrame = nn::NormScope::kFrame;
  // Where x is not the shortcut itself, the norm may work in place.
  const bool widens = !shortcut_.is_empty();
  Tensor shortcut = widens ? shortcut_->forward(x_NCHW) : x_NCHW;
  Tensor h = widens ? norm1_->forward_silu_consume(std::move(x_NCHW), kFrame)
                    : norm1_->forward_silu(x_NCHW);
  x_NCHW.reset();
  h = conv1_->forward(h);
  h = norm2_->forward_silu_consume(std::move(h), kFrame);
  return conv2_->forward_add(h, std::move(shortcut));
}

Downsample2dImpl::Downsample2dImpl(std::int64_t channels, const nn::ParameterOptions& parameters)
    : conv_(register_module("conv",
                            nn::Conv2d(nn::Conv2dOptions{.in_channels = channels,
                                                         .out_channels = channels,
                                                         .stride = {2, 2}},
                                       parameters))) {}

Tensor Downsample2dImpl::forward(const Tensor& x_NCHW) const {
  return conv_->forward(pad_right_bottom(x_NCHW));
}

Upsample2dImpl::Upsample2dImpl(std::int64_t channels, const nn::ParameterOptions& parameters)
    : conv_(register_module("conv", conv3x3(channels, channels, parameters))) {}

Tensor Upsample2dImpl::forward(const Tensor& x_NCHW) const {
  return conv_->forward_doubled(x_NCHW);
}

}  // namespace kinema::vae
