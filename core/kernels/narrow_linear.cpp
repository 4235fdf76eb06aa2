// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/narrow_linear.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/kernels/narrow_linear_loops.h"

namespace kinema::kernels {
namespace {

/// Null for an instruction set without kernels.
const NarrowLinearKernels* kernels_of(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) {
    return &avx512_narrow_linear();
  }
  if (isa == Isa::kAvx2) {
    return &avx2_narrow_linear();
  }
#endif
  static_cast<void>(isa);
  return nullptr;
}

std::int64_t padded_tokens(const NarrowLinear& linear) {
  const std::int64_t panel = kernels_of(linear.isa)->panel_tokens;
  return (linear.tokens + panel - 1) / panel * panel;
}

float f16_to_float(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  float magnitude = 0.0F;
  if (exponent == 31) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  }
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

float weight_at(const NarrowLinear& p, std::int64_t index) {
  switch (p.type) {
    case WeightType::kF32:
      return static_cast<const float*>(p.weight)[index];
    case WeightType::kBF16:
      return std::bit_cast<float>(
          static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(p.weight)[index]) << 16U);
    case WeightType::kF16:
      return f16_to_float(static_cast<const std::uint16_t*>(p.weight)[index]);
  }
  return 0.0F;
}

}  // namespace

bool has_narrow_linear(Isa isa) noexcept {
  // Isa::kAvx2 does not promise F16C, which the fp16 weights need.
#if defined(__x86_64__)
  __builtin_cpu_init();
  return kernels_of(isa) != nullptr && is_supported(isa) && __builtin_cpu_supports("f16c");
#else
  return kernels_of(isa) != nullptr && is_supported(isa);
#endif
}

std::size_t packed_floats(const NarrowLinear& linear) noexcept {
  return static_cast<std::size_t>(padded_tokens(linear) * linear.in);
}

std::size_t scratch_floats(const NarrowLinear& linear) noexcept {
  return static_cast<std::size_t>(kOutputBlock *
                                  (kWideStride + padded_tokens(linear) + kSumPadding));
}

std::int64_t num_pack_parts(const NarrowLinear& linear) noexcept {
  return padded_tokens(linear) / kernels_of(linear.isa)->panel_tokens;
}

void pack_tokens(const NarrowLinear& linear,
                 float* packed,
                 std::int64_t begin,
                 std::int64_t end) noexcept {
  kernels_of(linear.isa)->pack(linear, packed, begin, end);
}

void linear_outputs(const NarrowLinear& linear,
                    const float* packed,
                    float* scratch,
                    std::int64_t begin,
                    std::int64_t end) noexcept {
  kernels_of(linear.isa)->outputs(linear, packed, scratch, begin, end);
}

namespace reference {

void linear(const NarrowLinear& p) {
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    for (std::int64_t o = 0; o < p.out; ++o) {
      float total = 0.0F;
      for (std::int64_t block = 0; block < p.in; block += kSumBlock) {
        float sum = 0.0F;
        for (std::int64_t k = block; k < std::min(block + kSumBlock, p.in); ++k) {
          sum = std::fma(weight_at(p, o * p.in + k), p.x[token * p.in + k], sum);
        }
        total = block == 0 ? sum : total + sum;
      }
      p.y[token * p.out + o] = total + (p.bias == nullptr ? 0.0F : p.bias[o]);
    }
  }
}

}  // namespace reference

}  // namespace kinema::kernels
