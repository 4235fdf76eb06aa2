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
  Tensor h = conv1_->forward(norm1_->forward_silu(x_NCHW));
  if (!shortcut_.is_empty()) {
    x_NCHW = shortcut_->forward(x_NCHW);
  }
  h = norm2_->forward_silu_consume(std::move(h), nn::NormScope::kFrame);
  return conv2_->forward_add(h, std::move(x_NCHW));
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
