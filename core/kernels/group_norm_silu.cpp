// SPDX-License-Identifier: Apache-2.0
// Dispatch of the group norm passes, and their plain oracle.
#include "core/kernels/group_norm_silu.h"

#include <cmath>

#include "core/kernels/group_norm_isa.h"

namespace kinema::kernels {
namespace {

const GroupNormKernels& kernels_of(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && is_supported(Isa::kAvx512)) {
    return avx512_group_norm();
  }
  if (isa != Isa::kBaseline && is_supported(Isa::kAvx2)) {
    return avx2_group_norm();
  }
#endif
  static_cast<void>(isa);
  return baseline_group_norm();
}

}  // namespace

void group_sums(const float* x,
                std::int64_t num_positions,
                std::int64_t channels,
                std::int64_t num_groups,
                const float* pivots,
                double* sums,
                double* squares,
                float* buffer,
                Isa isa) noexcept {
  kernels_of(isa).sums(x, num_positions, channels, num_groups, pivots, sums, squares, buffer);
}

void scale_shift_silu(float* out,
                      const float* x,
                      std::int64_t num_positions,
                      std::int64_t channels,
                      const float* scale,
                      const float* shift,
                      bool silu,
                      Isa isa) noexcept {
  kernels_of(isa).apply(out, x, num_positions, channels, scale, shift, silu);
}

namespace reference {

void group_norm_silu(float* out,
                     const float* x,
                     std::int64_t num_positions,
                     std::int64_t channels,
                     std::int64_t num_groups,
                     double eps,
                     const float* weight,
                     const float* bias,
                     bool silu) {
  const std::int64_t per_group = channels / num_groups;
  const auto count = static_cast<double>(per_group * num_positions);
  for (std::int64_t g = 0; g < num_groups; ++g) {
    double mean = 0.0;
    for (std::int64_t i = 0; i < num_positions * per_group; ++i) {
      mean += static_cast<double>(x[i / per_group * channels + g * per_group + i % per_group]);
    }
    mean /= count;
    double variance = 0.0;
    for (std::int64_t i = 0; i < num_positions * per_group; ++i) {
      const double d =
          static_cast<double>(x[i / per_group * channels + g * per_group + i % per_group]) - mean;
      variance += d * d;
    }
    variance /= count;
    for (std::int64_t i = 0; i < num_positions * per_group; ++i) {
      const std::int64_t c = g * per_group + i % per_group;
      const std::int64_t at = i / per_group * channels + c;
      const double normed = (static_cast<double>(x[at]) - mean) / std::sqrt(variance + eps);
      const double v = normed * static_cast<double>(weight[c]) + static_cast<double>(bias[c]);
      out[at] = static_cast<float>(silu ? v / (1.0 + std::exp(-v)) : v);
    }
  }
}

}  // namespace reference

}  // namespace kinema::kernels
