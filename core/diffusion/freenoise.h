// SPDX-License-Identifier: Apache-2.0
// FreeNoise: long videos from a model trained on short ones, without a second network pass.
// arXiv 2310.15169.
//
// (a) The noise of a long video is the noise of its first `window` frames, shuffled in blocks of
// `stride`: each block of `stride` frames repeats the block one window earlier in another order, so
// that every window holds (almost) the same noise. (b) Temporal attention runs in windows of
// `window` frames; overlapping outputs are averaged with triangular weights
// (WindowWeights::kTriangular). Everything else in a spatial-temporal network works per frame or
// per token.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/diffusion/windows.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

/// Defaults of the paper.
struct FreeNoiseConfig {
  std::int64_t window = 16;  ///< frames that the model was trained on
  std::int64_t stride = 4;   ///< between windows, and the length of a shuffled block
};

/// Orders of `num_blocks` blocks of `length` frames, from a counter-based generator: a function of
/// seed and stream name only.
[[nodiscard]] std::vector<std::vector<std::int64_t>> block_orders(std::uint64_t seed,
                                                                  std::string_view stream,
                                                                  std::int64_t num_blocks,
                                                                  std::int64_t length);

/// Number of shuffled blocks that `num_frames` need.
[[nodiscard]] std::int64_t num_noise_blocks(std::int64_t num_frames, const FreeNoiseConfig& config);

/// Noise for `num_frames` from the noise of the first frames. Block k fills frames
/// p = window + k stride .. p + stride - 1 (cut at the end) with frames p - window + orders[k][i].
/// @param noise_BCTHW  exactly config.window frames; with no more than that wanted, a slice of it.
[[nodiscard]] Tensor extend_noise(const Tensor& noise_BCTHW,
                                  std::int64_t num_frames,
                                  const FreeNoiseConfig& config,
                                  std::span<const std::vector<std::int64_t>> orders);

/// Plain windowed attention over T: softmax(q k^T / sqrt(K)) v inside each window, averaged with
/// triangular weights. The readable form of what a network does in its temporal layers.
/// @param query_BNTK, key_BNTK, value_BNTK  queries already in place (rotary positions applied).
[[nodiscard]] Tensor windowed_attention(const Tensor& query_BNTK,
                                        const Tensor& key_BNTK,
                                        const Tensor& value_BNTK,
                                        std::span<const Window> windows);

}  // namespace kinema::diffusion
