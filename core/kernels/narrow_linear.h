// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b in fp32 arithmetic with a weight that lies in memory as bf16, fp16 or fp32. The
// weight is widened piece by piece inside the product, in the caches, so that a 16-bit weight costs
// half the memory traffic of an fp32 one and no fp32 copy of it ever exists.
//
// Call order: pack_tokens() once, then linear_outputs() for ranges of outputs that cover [0, out),
// from any number of threads. Every instruction set gives the same bits: the sum over the inputs is
// one fused multiply-add after another in blocks of kSumBlock, and block sums are added in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/isa.h"

namespace kinema::kernels {

enum class WeightType { kF32, kBF16, kF16 };

inline constexpr std::int64_t kSumBlock = 256;    ///< inputs summed before the sum joins the total
inline constexpr std::int64_t kOutputBlock = 96;  ///< good length of a range of outputs

/// Whether the kernels below exist for this instruction set and CPU.
[[nodiscard]] bool has_narrow_linear(Isa isa) noexcept;

struct NarrowLinear {
  std::int64_t tokens = 0;       ///< rows of x and y
  std::int64_t in = 0;           ///< inner size
  std::int64_t out = 0;          ///< rows of the weight
  const float* x = nullptr;      ///< [tokens, in], contiguous
  const void* weight = nullptr;  ///< [out, in], contiguous
  WeightType type = WeightType::kBF16;
  const float* bias = nullptr;  ///< [out] or null
  float* y = nullptr;           ///< [tokens, out], contiguous
  Isa isa = best_isa();         ///< has_narrow_linear(isa) must hold
};

/// Floats of the packed x, 64-byte aligned.
[[nodiscard]] std::size_t packed_floats(const NarrowLinear& linear) noexcept;
/// Floats that each thread needs for itself, 64-byte aligned.
[[nodiscard]] std::size_t scratch_floats(const NarrowLinear& linear) noexcept;

/// Number of equal parts that pack_tokens() can be split into.
[[nodiscard]] std::int64_t num_pack_parts(const NarrowLinear& linear) noexcept;
/// Brings inputs of part [begin, end) into the order that the product reads.
void pack_tokens(const NarrowLinear& linear,
                 float* packed,
                 std::int64_t begin,
                 std::int64_t end) noexcept;

/// Computes y[:, begin .. end).
void linear_outputs(const NarrowLinear& linear,
                    const float* packed,
                    float* scratch,
                    std::int64_t begin,
                    std::int64_t end) noexcept;

namespace reference {
/// The same sums in plain loops: equal bits.
void linear(const NarrowLinear& linear);
}  // namespace reference

}  // namespace kinema::kernels
