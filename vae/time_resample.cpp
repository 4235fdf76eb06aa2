// SPDX-License-Identifier: Apache-2.0
#include "vae/time_resample.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_trilinear3d.h>

namespace kinema::vae {
namespace {

constexpr std::int64_t kPoolFrames = 3;
constexpr std::int64_t kPoolStride = 2;

/// Means of frames 2j, 2j+1, 2j+2 of an extended clip.
Tensor pool_extended(const Tensor& x) {
  const std::int64_t last = x.size(2);
  return (x.slice(2, 0, last - 2, 2) + x.slice(2, 1, last - 1, 2) + x.slice(2, 2, last, 2)) /
         static_cast<double>(kPoolFrames);
}

Tensor extend_for_pool(const Tensor& x, TimePadding padding, TimeState* state) {
  return extend_time(x, kPoolFrames - 1, kPoolFrames - kPoolStride, padding, state);
}

/// Frames of a and b in turn: a0 b0 a1 b1 ... Channels-last.
Tensor interleave_frames(const Tensor& a, const Tensor& b) {
  const auto s = a.sizes();
  return at::stack({a.permute({0, 2, 3, 4, 1}), b.permute({0, 2, 3, 4, 1})}, 2)
      .view({s[0], 2 * s[2], s[3], s[4], s[1]})
      .permute({0, 4, 1, 2, 3});
}

nn::Conv3dOptions conv3x3x3(std::int64_t channels, std::int64_t time_stride) {
  return {.in_channels = channels,
          .out_channels = channels,
          .stride = {time_stride, 1, 1},
          .padding = {0, 1, 1}};
}

Tensor mix(const Tensor& mix_factor, const Tensor& a, const Tensor& b) {
  const Tensor weight = mix_factor.sigmoid();
  return weight * a + (1 - weight) * b;
}

}  // namespace

Tensor pool_time(const Tensor& x, TimePadding padding, TimeState* state) {
  return pool_extended(extend_for_pool(x, padding, state));
}

Tensor repeat_time(const Tensor& x, TimeState* state) {
  const bool started = state != nullptr && state->started();
  if (state != nullptr) {
    state->chunks += 1;
  }
  const Tensor twice = interleave_frames(x, x);
  return started ? twice : twice.narrow(2, 1, twice.size(2) - 1);
}

Tensor interpolate_time(const Tensor& x) {
  const std::int64_t later = x.size(2) - 1;
  if (later == 0) {
    return x;
  }
  const Tensor rest = x.narrow(2, 1, later);
  const Tensor before = at::cat({rest.narrow(2, 0, 1), rest.narrow(2, 0, later - 1)}, 2);
  const Tensor after = at::cat({rest.narrow(2, 1, later - 1), rest.narrow(2, later - 1, 1)}, 2);
  const Tensor near = 0.75 * rest;
  return at::cat({x.narrow(2, 0, 1), interleave_frames(near + 0.25 * before, near + 0.25 * after)},
                 2);
}

Tensor interpolate_joint(const Tensor& x) {
  const std::int64_t later = x.size(2) - 1;
  const auto resize = [&](const Tensor& part, std::int64_t frames) {
    const std::array<std::int64_t, 3> size = {frames, 2 * x.size(3), 2 * x.size(4)};
    return at::upsample_trilinear3d(part, size, /*align_corners=*/false);
  };
  const Tensor first = resize(x.narrow(2, 0, 1), 1);
  return later == 0 ? first : at::cat({first, resize(x.narrow(2, 1, later), 2 * later)}, 2);
}

MixedTimeDownImpl::MixedTimeDownImpl(std::int64_t channels,
                                     TimePadding padding,
                                     const nn::ParameterOptions& parameters)
    : mix_factor(register_parameter("mix_factor", nn::make_parameter({1}, parameters))),
      conv(register_module("conv", nn::Conv3d(conv3x3x3(channels, kPoolStride), parameters))),
      padding_(padding) {}

Tensor MixedTimeDownImpl::forward(const Tensor& x, StreamState* stream) const {
  const Tensor extended = extend_for_pool(x, padding_, next_state(stream));
  return mix(mix_factor, pool_extended(extended), conv->forward(extended));
}

MixedTimeUpImpl::MixedTimeUpImpl(std::int64_t channels,
                                 TimePadding padding,
                                 const nn::ParameterOptions& parameters)
    : mix_factor(register_parameter("mix_factor", nn::make_parameter({1}, parameters))),
      conv(register_module("conv", CausalConv3d(conv3x3x3(channels, 1), padding, parameters))) {}

Tensor MixedTimeUpImpl::forward(const Tensor& x) const {
  const Tensor up = interpolate_time(x);
  return mix(mix_factor, up, conv->forward(up, nullptr));
}

}  // namespace kinema::vae
