// SPDX-License-Identifier: Apache-2.0
// Normalisation and activation of video in one pass, written straight where the next convolution
// reads: group statistics, a per-cell affine map (GroupNorm, also spatially conditioned as in MoVQ,
// arXiv 2209.09002), and the channel RMS norm of Wan. For inference: nothing here keeps gradients.
//
// Tensors are [B, C, T, H, W] in channels-last memory, or slices in time of such a tensor; other
// layouts and devices take a plain path with the same result.
#pragma once

#include <cstdint>
#include <optional>

#include "core/nn/activations.h"
#include "core/tensor/tensor.h"

namespace kinema::vae {

/// Mean and 1 / sqrt(variance + eps) of every group of channels over T, H, W.
struct GroupStatistics {
  Tensor mean_BG;  ///< fp32
  Tensor rstd_BG;  ///< fp32
};

/// Sums in double precision around a pivot, so that a large mean costs no digits.
/// @param x_BCTHW  any float dtype.
[[nodiscard]] GroupStatistics group_statistics(const Tensor& x_BCTHW,
                                               std::int64_t num_groups,
                                               double eps);

/// out = activation(x * scale + shift), where scale and shift are coarser than x and resized to it
/// by nearest neighbour.
/// @param out    shape and dtype of x; may be x itself.
/// @param scale  fp32 [B, C, t, h, w], as `shift`. With `first_apart` frame 0 of x takes frame 0 of
///               scale and the rest of x is resized from the rest of scale.
void affine_activate_out(Tensor& out,
                         const Tensor& x_BCTHW,
                         const Tensor& scale,
                         const Tensor& shift,
                         bool first_apart,
                         std::optional<nn::Activation> activation);

/// The plain twin of affine_activate_out(): resizes, then computes with whole tensors. For tests.
[[nodiscard]] Tensor affine_activate_reference(const Tensor& x_BCTHW,
                                               const Tensor& scale,
                                               const Tensor& shift,
                                               bool first_apart,
                                               std::optional<nn::Activation> activation);

/// out = activation(x / max(|x|, 1e-12) * sqrt(C) * gamma), |x| over the channels of one pixel.
/// @param out  shape and dtype of x; may be x itself.  @param gamma_C  C elements.
void rms_norm_activate_out(Tensor& out,
                           const Tensor& x_BCTHW,
                           const Tensor& gamma_C,
                           std::optional<nn::Activation> activation);

}  // namespace kinema::vae
