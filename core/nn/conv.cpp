// SPDX-License-Identifier: Apache-2.0
#include "core/nn/conv.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>

namespace kinema::nn {
namespace {

c10::MemoryFormat channels_last_format(std::int64_t num_axes) {
  return num_axes == 5 ? c10::MemoryFormat::ChannelsLast3d : c10::MemoryFormat::ChannelsLast;
}

}  // namespace

Conv2dImpl::Conv2dImpl(const Conv2dOptions& options, const ParameterOptions& parameters)
    : weight(register_parameter(
          "weight",
          make_parameter(
              {options.out_channels, options.in_channels, options.kernel[0], options.kernel[1]},
              parameters))),
      options_(options) {
  if (options.bias) {
    bias = register_parameter("bias", make_parameter({options.out_channels}, parameters));
  }
}

Tensor Conv2dImpl::forward(const Tensor& x_BCHW) const {
  return at::conv2d(channels_last(x_BCHW), weight, bias, options_.stride, options_.padding);
}

Tensor Conv2dImpl::forward_frames(const Tensor& x_BCTHW) const {
  return unfold_frames(forward(fold_frames(x_BCTHW)), x_BCTHW.size(0));
}

Conv3dImpl::Conv3dImpl(const Conv3dOptions& options, const ParameterOptions& parameters)
    : weight(register_parameter("weight",
                                make_parameter({options.out_channels,
                                                options.in_channels,
                                                options.kernel[0],
                                                options.kernel[1],
                                                options.kernel[2]},
                                               parameters))),
      options_(options) {
  if (options.bias) {
    bias = register_parameter("bias", make_parameter({options.out_channels}, parameters));
  }
}

Tensor Conv3dImpl::forward(const Tensor& x_BCTHW) const {
  // Without a time axis in the kernel, frames are a batch of images, which convolve faster.
  if (options_.kernel[0] == 1 && options_.stride[0] == 1 && options_.padding[0] == 0) {
    const std::array<std::int64_t, 2> stride = {options_.stride[1], options_.stride[2]};
    const std::array<std::int64_t, 2> padding = {options_.padding[1], options_.padding[2]};
    const Tensor y_NCHW =
        at::conv2d(fold_frames(channels_last(x_BCTHW)), weight.squeeze(2), bias, stride, padding);
    return unfold_frames(y_NCHW, x_BCTHW.size(0));
  }
  return at::conv3d(channels_last(x_BCTHW), weight, bias, options_.stride, options_.padding);
}

Tensor channels_last(const Tensor& x) {
  return x.contiguous(channels_last_format(x.dim()));
}

Tensor fold_frames(const Tensor& x_BCTHW) {
  const auto s = x_BCTHW.sizes();
  return x_BCTHW.permute({0, 2, 3, 4, 1})
      .reshape({s[0] * s[2], s[3], s[4], s[1]})
      .permute({0, 3, 1, 2});
}

Tensor unfold_frames(const Tensor& x_NCHW, std::int64_t batch) {
  const auto s = x_NCHW.sizes();
  return x_NCHW.permute({0, 2, 3, 1})
      .reshape({batch, s[0] / batch, s[2], s[3], s[1]})
      .permute({0, 4, 1, 2, 3});
}

void use_channels_last_weights(torch::nn::Module& module) {
  for (Tensor& parameter : module.parameters()) {
    if (parameter.dim() == 4 || parameter.dim() == 5) {
      parameter.set_data(channels_last(parameter.detach()));
    }
  }
}

}  // namespace kinema::nn
