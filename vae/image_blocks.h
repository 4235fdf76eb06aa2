// SPDX-License-Identifier: Apache-2.0
// Blocks that work on images, or on the frames of a video one by one.
#pragma once

#include <cstdint>
#include <string>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::vae {

struct ResBlockOptions {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::int64_t num_groups = 32;
  double norm_eps = 1e-6;
  std::string shortcut_name = "conv_shortcut";  ///< of the 1x1 convolution where widths differ
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1x1 convolution on x where widths differ.
class ResBlock2dImpl final : public torch::nn::Module {
 public:
  explicit ResBlock2dImpl(const ResBlockOptions& options,
                          const nn::ParameterOptions& parameters = {});

  /// @param x_NCHW  channels-last; used up when no gradient is wanted.
  [[nodiscard]] Tensor forward(Tensor x_NCHW) const;

 private:
  nn::GroupNorm norm1_;
  nn::Conv2d conv1_;
  nn::GroupNorm norm2_;
  nn::Conv2d conv2_;
  nn::Conv2d shortcut_{nullptr};
};
TORCH_MODULE(ResBlock2d);

/// Zero column on the right, zero row at the bottom, 3x3 convolution with stride 2: halves H and W,
/// rounding down. Parameters "conv.*".
class Downsample2dImpl final : public torch::nn::Module {
 public:
  explicit Downsample2dImpl(std::int64_t channels, const nn::ParameterOptions& parameters = {});
  [[nodiscard]] Tensor forward(const Tensor& x_NCHW) const;

 private:
  nn::Conv2d conv_;
};
TORCH_MODULE(Downsample2d);

/// Every pixel four times, then a 3x3 convolution. Parameters "conv.*".
class Upsample2dImpl final : public torch::nn::Module {
 public:
  explicit Upsample2dImpl(std::int64_t channels, const nn::ParameterOptions& parameters = {});
  [[nodiscard]] Tensor forward(const Tensor& x_NCHW) const;

 private:
  nn::Conv2d conv_;
};
TORCH_MODULE(Upsample2d);

using nn::repeat_pixels;

}  // namespace kinema::vae
