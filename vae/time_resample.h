// SPDX-License-Identifier: Apache-2.0
// Halving and doubling the number of frames, as VidVAE and Open-Sora-Plan do it. All tensors are
// [B, C, T, H, W], channels-last.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/conv.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/causal_conv3d.h"
#include "vae/stream_state.h"

namespace kinema::vae {

/// Output 0 is frame 0, output j the mean of frames 2j-2, 2j-1, 2j: T = 2m+1 gives m+1.
[[nodiscard]] Tensor pool_time(const Tensor& x, TimePadding padding, TimeState* state);

/// Frame 0 once, every later frame twice: T = m+1 gives 2m+1; later chunks of m give 2m.
[[nodiscard]] Tensor repeat_time(const Tensor& x, TimeState* state);

/// Frame 0 as it is; the others interpolated linearly to twice as many (half-frame centres, edges
/// clamped): T = m+1 gives 2m+1. Needs the whole clip.
[[nodiscard]] Tensor interpolate_time(const Tensor& x);

/// Frame 0 bilinear x2 in space, the others trilinear x2 in time and space. Needs the whole clip.
[[nodiscard]] Tensor interpolate_joint(const Tensor& x);

/// sigmoid(mix_factor) pool + (1 - sigmoid) convolution with stride 2 in time. Parameters
/// "mix_factor" [1], "conv.weight", "conv.bias".
class MixedTimeDownImpl final : public torch::nn::Module {
 public:
  MixedTimeDownImpl(std::int64_t channels,
                    TimePadding padding,
                    const nn::ParameterOptions& parameters = {});
  [[nodiscard]] Tensor forward(const Tensor& x, StreamState* stream) const;

  Tensor mix_factor;
  nn::Conv3d conv{nullptr};

 private:
  TimePadding padding_;
};
TORCH_MODULE(MixedTimeDown);

/// sigmoid(mix_factor) u + (1 - sigmoid) convolution(u), u = interpolate_time(x). Parameters
/// "mix_factor" [1], "conv.conv.weight", "conv.conv.bias". Needs the whole clip.
class MixedTimeUpImpl final : public torch::nn::Module {
 public:
  MixedTimeUpImpl(std::int64_t channels,
                  TimePadding padding,
                  const nn::ParameterOptions& parameters = {});
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Tensor mix_factor;
  CausalConv3d conv{nullptr};
};
TORCH_MODULE(MixedTimeUp);

}  // namespace kinema::vae
