// SPDX-License-Identifier: Apache-2.0
// The instruction sets that the CPU kernels are compiled for, and the choice at run time.
// All of them give the same bits; they differ in speed only.
#pragma once

#include <string_view>

namespace kinema::kernels {

enum class Isa {
  kBaseline,  ///< what the compiler assumes anyway: SSE2 on x86-64, plain code elsewhere
  kAvx2,      ///< x86-64-v3
  kAvx512,    ///< x86-64-v4
};

/// Name for logs: "baseline", "avx2", "avx512".
[[nodiscard]] std::string_view to_string(Isa isa) noexcept;

/// Whether this build has kernels for `isa` and this CPU and operating system can run them.
[[nodiscard]] bool is_supported(Isa isa) noexcept;

/// The widest supported instruction set.
[[nodiscard]] Isa best_isa() noexcept;

}  // namespace kinema::kernels
