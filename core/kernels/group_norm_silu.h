// SPDX-License-Identifier: Apache-2.0
// The two passes of group normalisation (arXiv 1803.08494) over channels-last data: sums, then
// scale, shift and SiLU in one go. A pass works on a range of positions, so callers cut the work as
// they like; the sums are taken around a pivot, so that a large mean costs no digits.
//
//   position: C floats, channels innermost.  group g: channels g C/G .. (g+1) C/G - 1.
#pragma once

#include <cstdint>

#include "core/kernels/cuda_status.h"
#include "core/kernels/isa.h"

namespace kinema::kernels {

/// sums[g] = sum of (x - pivots[g]), squares[g] = sum of its squares, over all positions and the
/// channels of the group. In double across runs of 64 positions, fp32 inside.
/// @param channels  any number; num_groups divides it.  @param buffer  2 * channels floats.
void group_sums(const float* x,
                std::int64_t num_positions,
                std::int64_t channels,
                std::int64_t num_groups,
                const float* pivots,
                double* sums,
                double* squares,
                float* buffer,
                Isa isa = best_isa()) noexcept;

/// out = x * scale + shift per channel, then, with `silu`, v / (1 + exp(-v)) of that (relative
/// error below 2^-21). out may be x.
void scale_shift_silu(float* out,
                      const float* x,
                      std::int64_t num_positions,
                      std::int64_t channels,
                      const float* scale,
                      const float* shift,
                      bool silu,
                      Isa isa = best_isa()) noexcept;

/// Group norm and, if wanted, SiLU of `num_samples` runs of positions, on the device behind the
/// pointers. `stream` is a cudaStream_t.
/// @param x, out  [num_samples, num_positions, channels].
CudaStatus group_norm_silu_cuda(float* out,
                                const float* x,
                                std::int64_t num_samples,
                                std::int64_t num_positions,
                                std::int64_t channels,
                                std::int64_t num_groups,
                                double eps,
                                const float* weight,
                                const float* bias,
                                bool silu,
                                void* stream) noexcept;

namespace reference {
/// Everything in double by the definition. out may be x.
void group_norm_silu(float* out,
                     const float* x,
                     std::int64_t num_positions,
                     std::int64_t channels,
                     std::int64_t num_groups,
                     double eps,
                     const float* weight,
                     const float* bias,
                     bool silu);
}  // namespace reference

}  // namespace kinema::kernels
