// SPDX-License-Identifier: Apache-2.0
// Internal: the inner loops that are compiled once per instruction set, as a table of functions.
// rows_<isa>.cpp defines lanes in an unnamed namespace and instantiates the templates of
// row_loops.h with them, so that no code of a wide instruction set can be linked into another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/isa.h"
#include "core/kernels/noise_math.h"

namespace kinema::kernels {

/// Round keys and counter words 1 to 3 of a row; word 0 is the column divided by four.
struct RowAddress {
  noise_math::RoundKeys keys;
  std::uint32_t counter[3];
};

/// Writes numbers first .. first + count - 1 of a row; first + count <= 2^34.
using DrawRow = void (*)(void* out,
                         std::int64_t stride,
                         const RowAddress& address,
                         std::uint64_t first,
                         std::uint64_t count);

struct RowKernels {
  DrawRow normal;
  DrawRow uniform;
  DrawRow bits;
  void (*widen_bf16)(float* out, const std::uint16_t* in, std::size_t count);
  void (*narrow_bf16)(std::uint16_t* out, const float* in, std::size_t count);
};

[[nodiscard]] const RowKernels& baseline_rows() noexcept;
#if defined(__x86_64__)
[[nodiscard]] const RowKernels& avx2_rows() noexcept;
[[nodiscard]] const RowKernels& avx512_rows() noexcept;
#endif

/// The table for `isa`, or for the best supported one below it.
[[nodiscard]] const RowKernels& row_kernels(Isa isa) noexcept;

}  // namespace kinema::kernels
