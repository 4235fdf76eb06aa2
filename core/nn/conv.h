// SPDX-License-Identifier: Apache-2.0
// 2-D and 3-D convolutions for channels-last tensors.
//
// A tensor [B, C, H, W] or [B, C, T, H, W] is channels-last when C is innermost in memory. Layers
// here give channels-last results, and channels-last inputs pass from layer to layer without
// copies. A video in this layout is also a batch of images: fold_frames() and unfold_frames() cost
// nothing.
#pragma once

#include <array>
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::nn {

struct Conv2dOptions {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::array<std::int64_t, 2> kernel = {3, 3};
  std::array<std::int64_t, 2> stride = {1, 1};
  std::array<std::int64_t, 2> padding = {0, 0};  ///< zeros on both sides
  bool bias = true;
};

struct Conv3dOptions {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::array<std::int64_t, 3> kernel = {3, 3, 3};  ///< time, rows, columns
  std::array<std::int64_t, 3> stride = {1, 1, 1};
  std::array<std::int64_t, 3> padding = {0, 0, 0};
  bool bias = true;
};

/// Parameters "weight" [O, I, kh, kw] and, with bias, "bias" [O].
class Conv2dImpl final : public torch::nn::Module {
 public:
  explicit Conv2dImpl(const Conv2dOptions& options, const ParameterOptions& parameters = {});

  /// @param x_BCHW  dtype of the weight.  @return channels-last [B, O, H', W'].
  [[nodiscard]] Tensor forward(const Tensor& x_BCHW) const;
  /// The same on every frame of [B, C, T, H, W].
  [[nodiscard]] Tensor forward_frames(const Tensor& x_BCTHW) const;
  /// forward(x) + addend, which belongs to the caller alone and may become the result.
  [[nodiscard]] Tensor forward_add(const Tensor& x_BCHW, Tensor addend) const;
  /// forward() of x with every pixel repeated 2 x 2. Needs kernel 3x3, stride 1, padding 1.
  [[nodiscard]] Tensor forward_doubled(const Tensor& x_BCHW) const;

  [[nodiscard]] const Conv2dOptions& options() const noexcept { return options_; }

  Tensor weight;
  Tensor bias;

 private:
  Conv2dOptions options_;
};
TORCH_MODULE(Conv2d);

/// Parameters "weight" [O, I, kt, kh, kw] and, with bias, "bias" [O].
class Conv3dImpl final : public torch::nn::Module {
 public:
  explicit Conv3dImpl(const Conv3dOptions& options, const ParameterOptions& parameters = {});

  /// @param x_BCTHW  dtype of the weight.  @return channels-last [B, O, T', H', W'].
  [[nodiscard]] Tensor forward(const Tensor& x_BCTHW) const;
  /// forward(x) + addend, which belongs to the caller alone and may become the result.
  [[nodiscard]] Tensor forward_add(const Tensor& x_BCTHW, Tensor addend) const;
  /// forward() of x with every pixel repeated 2 x 2. Needs kernel (1, 3, 3), stride 1, padding 1 in
  /// space.
  [[nodiscard]] Tensor forward_doubled(const Tensor& x_BCTHW) const;

  [[nodiscard]] const Conv3dOptions& options() const noexcept { return options_; }

  Tensor weight;
  Tensor bias;

 private:
  Conv3dOptions options_;
};
TORCH_MODULE(Conv3d);

/// x itself if C is innermost in memory, else a copy that is. 4 or 5 axes.
[[nodiscard]] Tensor channels_last(const Tensor& x);

/// [B, C, T, H, W] -> [B T, C, H, W], a view for channels-last x.
[[nodiscard]] Tensor fold_frames(const Tensor& x_BCTHW);
/// [B T, C, H, W] -> [B, C, T, H, W], a view for channels-last x.
[[nodiscard]] Tensor unfold_frames(const Tensor& x_NCHW, std::int64_t batch);

/// Nearest neighbour x 2 in rows and columns. 4 axes; channels-last.
[[nodiscard]] Tensor repeat_pixels(const Tensor& x_NCHW);

/// Stores all 4- and 5-axis parameters of `module` channels-last, which saves a copy per call.
void use_channels_last_weights(torch::nn::Module& module);

}  // namespace kinema::nn
