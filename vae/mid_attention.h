// SPDX-License-Identifier: Apache-2.0
// The attention in the middle of an autoencoder: one head over all channels, tokens are positions.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::vae {

/// One projection: weight [C, C] and bias [C] (or undefined).
struct Projection {
  Tensor weight;
  Tensor bias;
};

struct AttentionWeights {
  Projection query;
  Projection key;
  Projection value;
  Projection output;
};

/// softmax(q k^T / sqrt(C)) v over the positions of each image, then the output projection.
/// @param x_NCHW  normalised input (no residual inside).  @return [N, C, H, W], channels-last.
[[nodiscard]] Tensor image_attention(const Tensor& x_NCHW, const AttentionWeights& weights);

/// Attention as Open-Sora-Plan 1.0 computes it: q, k, v [B, C, T, H, W] are read as [B T, C, H W]
/// without moving T, which mixes frames and channels for T > 1. Needed for weights trained so.
[[nodiscard]] Tensor mixed_attention(const Tensor& x_BCTHW, const AttentionWeights& weights);

/// softmax(q k^T / sqrt(K)) v, [N, S, K] each, without ever holding all S x S scores on CPU.
[[nodiscard]] Tensor attend(const Tensor& query_NSK,
                            const Tensor& key_NSK,
                            const Tensor& value_NSK);

}  // namespace kinema::vae
