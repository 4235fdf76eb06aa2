// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (RoFormer, arXiv 2104.09864): channel pairs of queries and keys are
// rotated by position times a frequency. Angles are always float32.
//
// Letters: L positions, K head width (channels that rotate: R <= K), J = R / 2 pairs.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::attention {

/// Which channels form pair j.
enum class RotaryPairs {
  kInterleaved,  ///< 2 j and 2 j + 1 (GPT-J, Open-Sora)
  kHalves,       ///< j and j + R / 2 (GPT-NeoX, Llama)
};

/// f_j = theta^(-2 j / R), float32 [J]. The content of "rope.freqs" in Open-Sora checkpoints.
[[nodiscard]] Tensor rotary_frequencies(std::int64_t rotary_width, double theta = 10000.0);

/// Angles of a run of positions, one per axis of the video or one alone.
struct RotaryTable {
  Tensor cos_LJ;  ///< float32
  Tensor sin_LJ;

  [[nodiscard]] std::int64_t length() const { return cos_LJ.size(0); }
  [[nodiscard]] std::int64_t width() const { return 2 * cos_LJ.size(1); }
};

/// @param positions_L  float.  @param frequencies_J  from rotary_frequencies() or a checkpoint.
[[nodiscard]] RotaryTable rotary_table(const Tensor& positions_L, const Tensor& frequencies_J);

/// Positions of a grid of frames, rows and columns, flattened in this order. The pairs are shared
/// out: a third of them each to rows and columns, the rest to frames; each axis has frequencies of
/// its own.
[[nodiscard]] RotaryTable rotary_table_3d(std::int64_t frames,
                                          std::int64_t rows,
                                          std::int64_t columns,
                                          std::int64_t head_width,
                                          double theta = 10000.0);

/// Rotates the first table.width() channels of x. @param x_BLNK  positions on axis 1; the table has
/// length L.  @return the same shape, dtype of x; computed in float32. Differentiable.
[[nodiscard]] Tensor apply_rotary(const Tensor& x_BLNK,
                                  const RotaryTable& table,
                                  RotaryPairs pairs = RotaryPairs::kInterleaved);

}  // namespace kinema::attention
