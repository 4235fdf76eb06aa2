// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions by minimal filtering (core/kernels/winograd.h) where that
// is faster than LibTorch's: fp32 on the CPU, same size, enough channels and pixels, no gradient.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::nn {

/// Sizes of a convolution without its tensors.
struct FilterSize {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::int64_t taps = 1;     ///< in time
  std::int64_t rows = 0;     ///< of the result
  std::int64_t columns = 0;  ///< of the result
};
/// Whether a 3x3 convolution of this size is worth minimal filtering (fp32 on the CPU).
[[nodiscard]] bool is_filtered_minimally(const FilterSize& size);
/// What filter_minimally() holds besides its input and result, on `threads` threads.
[[nodiscard]] std::int64_t filter_workspace_bytes(const FilterSize& size, std::int64_t threads);

/// Whether filter_minimally() takes this convolution. @param weight  [O, I, 3, 3] or
/// [O, I, taps, 3, 3].  @param x  [N, C, H, W] or [B, C, T, H, W]; `doubled`: every pixel stands
/// for 2 x 2.
/// @param num_past  frames that stand before x.
[[nodiscard]] bool can_filter_minimally(const Tensor& x,
                                        const Tensor& weight,
                                        bool doubled,
                                        std::int64_t num_past = 0);

/// Convolution with stride 1 and one zero row and column around; none in time.
/// @param past    undefined, or frames [B, C, n, H, W] that stand before x: fp32 or bf16, each
/// frame
///                channels-last, any strides (an expanded frame is fine).
/// @param addend  undefined, or a tensor like the result that is added to it; it is overwritten
/// with
///                the result when it is channels-last.
[[nodiscard]] Tensor filter_minimally(const Tensor& x,
                                      const Tensor& weight,
                                      const Tensor& bias,
                                      const Tensor& addend,
                                      bool doubled,
                                      const Tensor& past = {});

}  // namespace kinema::nn
