// SPDX-License-Identifier: Apache-2.0
// Internal: the functions that every instruction set provides for group_norm_silu.h.
#pragma once

#include <cstdint>

namespace kinema::kernels {

struct GroupNormKernels {
  void (*sums)(const float*,
               std::int64_t,
               std::int64_t,
               std::int64_t,
               const float*,
               double*,
               double*,
               float*) = nullptr;
  void (*apply)(
      float*, const float*, std::int64_t, std::int64_t, const float*, const float*, bool) = nullptr;
};

[[nodiscard]] const GroupNormKernels& baseline_group_norm() noexcept;
#if defined(__x86_64__)
[[nodiscard]] const GroupNormKernels& avx2_group_norm() noexcept;
[[nodiscard]] const GroupNormKernels& avx512_group_norm() noexcept;
#endif

}  // namespace kinema::kernels
