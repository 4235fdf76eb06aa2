// SPDX-License-Identifier: Apache-2.0
// 3x3x3 convolution with fewer multiplications: minimal filtering F(2x2x2, 3x3x3) after Winograd
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308), 64
// multiplications where the definition has 216. All factors are powers of two, so the result
// differs from the direct one by fp32 rounding only.
//
// The CPU does the products as 64 matrix products per block of tiles; blocks depend on the shape
// alone, so results do not depend on the number of threads.
#pragma once

#include "core/nn/conv.h"
#include "core/tensor/tensor.h"

namespace kinema::vae {

/// conv.forward(x), by minimal filtering where that is faster: fp32 on the CPU, kernel 3x3x3,
/// stride 1, padding (0, 1, 1), at least 64 channels on both sides, no gradient wanted.
[[nodiscard]] Tensor convolve(const nn::Conv3dImpl& conv, const Tensor& x_BCTHW);

/// Whether convolve() filters minimally.
[[nodiscard]] bool filters_minimally(const nn::Conv3dImpl& conv, const Tensor& x_BCTHW);

/// The minimal filter itself. @param x_BCTHW  fp32, T + 2 frames.  @param weight_OIKKK  [O, C, 3,
/// 3, 3]; C and O multiples of 8.  @param bias_O  may be undefined.  @return channels-last [B, O,
/// T, H, W].
[[nodiscard]] Tensor winograd_conv3d(const Tensor& x_BCTHW,
                                     const Tensor& weight_OIKKK,
                                     const Tensor& bias_O);

}  // namespace kinema::vae
