// SPDX-License-Identifier: Apache-2.0
// In-place building blocks of inference: each is one pass over memory (core/kernels/token_rows.h)
// where a kernel applies, else a few plain operations with the same result. None keeps gradients.
//
// Letters: F frames of all samples (B x T), S positions, D width, N heads, K head width, R vectors
// of modulation: one for each sample or one for each frame, so F is a multiple of R.
#pragma once

#include <cstdint>

#include "core/attention/rotary.h"
#include "core/tensor/tensor.h"

namespace kinema::dit {

/// A run of frames and positions of the residual stream [F, S, D].
struct Part {
  std::int64_t first_frame = 0;
  std::int64_t num_frames = 0;
  std::int64_t first_position = 0;
  std::int64_t num_positions = 0;

  [[nodiscard]] Tensor of(const Tensor& x_FSD) const;
};

/// LayerNorm(x) (1 + scale) + shift for the part.
/// @param x_FSD  the whole stream.  @param shift_RD, scale_RD  D contiguous, equal strides.
/// @return contiguous [f, s, D].
[[nodiscard]] Tensor modulate_part(const Tensor& x_FSD,
                                   const Part& part,
                                   const Tensor& shift_RD,
                                   const Tensor& scale_RD,
                                   double eps);

/// x += gate y for the part, or x += y for an undefined gate.  @param y_fsD  contiguous.
void add_gated_part(Tensor& x_FSD, const Part& part, const Tensor& y_fsD, const Tensor& gate_RD);

/// What happens to queries and keys before they meet.
struct QueryKeyRule {
  Tensor query_weight_K{};  ///< root mean square norm; undefined: none
  Tensor key_weight_K{};
  double eps = 1e-6;
  const attention::RotaryTable* rotary = nullptr;  ///< null: no rotation
  std::int64_t rows_per_position = 1;  ///< row r has position r / rows_per_position % length
  bool rotate_first = false;
};

/// In place on contiguous qkv [..., 3, N, K].
void norm_rotate(Tensor& qkv, std::int64_t num_heads, const QueryKeyRule& rule);

/// Attention among the frames of each position. @param qkv  contiguous [B * T, s, 3 D].
/// @return [B * T, s, D].
[[nodiscard]] Tensor attend_over_frames(const Tensor& qkv,
                                        std::int64_t batch,
                                        std::int64_t num_heads);

/// Plain twins, of any dtype and device, for tests and where no kernel applies.
namespace plain {
[[nodiscard]] Tensor modulate_part(const Tensor& x_FSD,
                                   const Part& part,
                                   const Tensor& shift_RD,
                                   const Tensor& scale_RD,
                                   double eps);
void add_gated_part(Tensor& x_FSD, const Part& part, const Tensor& y_fsD, const Tensor& gate_RD);
void norm_rotate(Tensor& qkv, std::int64_t num_heads, const QueryKeyRule& rule);
[[nodiscard]] Tensor attend_over_frames(const Tensor& qkv,
                                        std::int64_t batch,
                                        std::int64_t num_heads);
}  // namespace plain

}  // namespace kinema::dit
