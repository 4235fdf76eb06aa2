// SPDX-License-Identifier: Apache-2.0
// Run-time choice of the instruction set by CPUID, as the compiler's support library reads it.
#include "core/kernels/isa.h"

namespace kinema::kernels {

std::string_view to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::kBaseline:
      return "baseline";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool is_supported(Isa isa) noexcept {
  if (isa == Isa::kBaseline) {
    return true;
  }
#if defined(__x86_64__)
  // The row files are compiled for the whole level, so every part of it is asked for.
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (isa == Isa::kAvx2) {
    return v3;
  }
  return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

Isa best_isa() noexcept {
  if (is_supported(Isa::kAvx512)) {
    return Isa::kAvx512;
  }
  return is_supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kBaseline;
}

}  // namespace kinema::kernels
