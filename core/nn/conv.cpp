// SPDX-License-Identifier: Apache-2.0
#include "core/nn/conv.h"

#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/upsample_nearest2d.h>

#include "core/nn/group_norm.h"
#include "core/nn/image_conv.h"

namespace kinema::nn {
namespace {

c10::MemoryFormat channels_last_format(std::int64_t num_axes) {
  return num_axes == 5 ? c10::MemoryFormat::ChannelsLast3d : c10::MemoryFormat::ChannelsLast;
}

/// 3x3 in space with the result as large as the input.
bool keeps_size(const Conv2dOptions& o) {
  return o.stride == std::array<std::int64_t, 2>{1, 1} &&
         o.padding == std::array<std::int64_t, 2>{1, 1};
}
bool keeps_size(const Conv3dOptions& o) {
  return o.stride == std::array<std::int64_t, 3>{1, 1, 1} &&
         o.padding == std::array<std::int64_t, 3>{0, 1, 1};
}

bool is_flat(const Conv3dOptions& o) {
  return o.kernel[0] == 1 && o.stride[0] == 1 && o.padding[0] == 0;
}

/// Such layers (pixels to features) are small matrix products in LibTorch, with a copy of the input
/// per tap; as images with the taps among their channels they are not.
bool has_few_inputs(const Conv3dOptions& o) {
  return o.stride[0] == 1 && o.padding[0] == 0 && o.kernel[0] * o.in_channels <= o.out_channels;
}

/// The frames that the taps see side by side in one picture: [B T, taps I, H, W] in, [B T, O, H, W]
/// out.
Tensor convolve_stacked(const Tensor& x_BCTHW,
                        const Tensor& weight,
                        const Tensor& bias,
                        const Conv3dOptions& o) {
  const std::int64_t taps = o.kernel[0];
  const std::int64_t frames = x_BCTHW.size(2) - taps + 1;
  std::vector<Tensor> seen;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    seen.push_back(x_BCTHW.narrow(2, tap, frames));
  }
  const Tensor stacked = channels_last(at::cat(seen, 1));
  const Tensor kernel =
      weight.permute({0, 2, 1, 3, 4})
          .reshape({o.out_channels, taps * o.in_channels, o.kernel[1], o.kernel[2]});
  const std::array<std::int64_t, 2> stride = {o.stride[1], o.stride[2]};
  const std::array<std::int64_t, 2> padding = {o.padding[1], o.padding[2]};
  return at::conv2d(fold_frames(stacked), kernel, bias, stride, padding);
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
  if (keeps_size(options_) && can_filter_minimally(x_BCHW, weight, /*doubled=*/false)) {
    return filter_minimally(x_BCHW, weight, bias, {}, /*doubled=*/false);
  }
  return at::conv2d(channels_last(x_BCHW), weight, bias, options_.stride, options_.padding);
}

Tensor Conv2dImpl::forward_frames(const Tensor& x_BCTHW) const {
  return unfold_frames(forward(fold_frames(x_BCTHW)), x_BCTHW.size(0));
}

Tensor Conv2dImpl::forward_add(const Tensor& x_BCHW, Tensor addend) const {
  if (keeps_size(options_) && can_filter_minimally(x_BCHW, weight, /*doubled=*/false)) {
    return filter_minimally(x_BCHW, weight, bias, addend, /*doubled=*/false);
  }
  return add_consume(forward(x_BCHW), addend);
}

Tensor Conv2dImpl::forward_doubled(const Tensor& x_BCHW) const {
  if (keeps_size(options_) && can_filter_minimally(x_BCHW, weight, /*doubled=*/true)) {
    return filter_minimally(x_BCHW, weight, bias, {}, /*doubled=*/true);
  }
  return forward(repeat_pixels(x_BCHW));
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
  if (keeps_size(options_) && can_filter_minimally(x_BCTHW, weight, /*doubled=*/false)) {
    return filter_minimally(x_BCTHW, weight, bias, {}, /*doubled=*/false);
  }
  if (is_flat(options_)) {
    // Without a time axis in the kernel, frames are a batch of images, which convolve faster.
    const std::array<std::int64_t, 2> stride = {options_.stride[1], options_.stride[2]};
    const std::array<std::int64_t, 2> padding = {options_.padding[1], options_.padding[2]};
    const Tensor y_NCHW =
        at::conv2d(fold_frames(channels_last(x_BCTHW)), weight.squeeze(2), bias, stride, padding);
    return unfold_frames(y_NCHW, x_BCTHW.size(0));
  }
  if (has_few_inputs(options_)) {
    return unfold_frames(convolve_stacked(x_BCTHW, weight, bias, options_), x_BCTHW.size(0));
  }
  return channels_last(
      at::conv3d(channels_last(x_BCTHW), weight, bias, options_.stride, options_.padding));
}

Tensor Conv3dImpl::forward_add(const Tensor& x_BCTHW, Tensor addend) const {
  if (keeps_size(options_) && can_filter_minimally(x_BCTHW, weight, /*doubled=*/false)) {
    return filter_minimally(x_BCTHW, weight, bias, addend, /*doubled=*/false);
  }
  return add_consume(forward(x_BCTHW), addend);
}

Tensor Conv3dImpl::forward_doubled(const Tensor& x_BCTHW) const {
  const Tensor frames = fold_frames(x_BCTHW);
  const std::int64_t batch = x_BCTHW.size(0);
  const Tensor kernel = weight.squeeze(2);
  if (keeps_size(options_) && can_filter_minimally(frames, kernel, /*doubled=*/true)) {
    return unfold_frames(filter_minimally(frames, kernel, bias, {}, /*doubled=*/true), batch);
  }
  return forward(unfold_frames(repeat_pixels(frames), batch));
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

Tensor repeat_pixels(const Tensor& x_NCHW) {
  const std::array<std::int64_t, 2> size = {2 * x_NCHW.size(2), 2 * x_NCHW.size(3)};
  return at::upsample_nearest2d(channels_last(x_NCHW), size);
}

void use_channels_last_weights(torch::nn::Module& module) {
  for (Tensor& parameter : module.parameters()) {
    if (parameter.dim() == 4 || parameter.dim() == 5) {
      parameter.set_data(channels_last(parameter.detach()));
    }
  }
}

}  // namespace kinema::nn
