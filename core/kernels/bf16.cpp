// SPDX-License-Identifier: Apache-2.0
// Dispatch of the conversions, and their plain oracles.
#include "core/kernels/bf16.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/kernels/row_kernels.h"

namespace kinema::kernels {

void widen_bf16(float* out, const std::uint16_t* in, std::size_t count, Isa isa) noexcept {
  row_kernels(isa).widen_bf16(out, in, count);
}

void narrow_bf16(std::uint16_t* out, const float* in, std::size_t count, Isa isa) noexcept {
  row_kernels(isa).narrow_bf16(out, in, count);
}

namespace reference {

float widen_bf16(std::uint16_t value) noexcept {
  const bool negative = (value & 0x8000U) != 0;
  const int exponent = (value >> 7) & 0xFF;
  const int fraction = value & 0x7F;
  if (exponent == 0xFF && fraction != 0) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16U);
  }
  double magnitude = std::numeric_limits<double>::infinity();
  if (exponent == 0) {
    magnitude = std::ldexp(fraction, -126 - 7);
  } else if (exponent != 0xFF) {
    magnitude = std::ldexp(128 + fraction, exponent - 127 - 7);
  }
  return static_cast<float>(negative ? -magnitude : magnitude);
}

std::uint16_t narrow_bf16(float value) noexcept {
  const auto head = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U);
  if (std::isnan(value)) {
    return (head & 0x7FU) != 0 ? head : static_cast<std::uint16_t>(head | 0x40U);
  }
  const auto sign = static_cast<std::uint16_t>(head & 0x8000U);
  // The two neighbours in magnitude, and which of them is nearer.
  const auto below = static_cast<std::uint16_t>(head & 0x7FFFU);
  if (below == 0x7F80U) {
    return head;
  }
  const auto above = static_cast<std::uint16_t>(below + 1);
  const double lower = widen_bf16(below);
  // Beyond the largest finite number the next step would be 2^128.
  const double upper = above == 0x7F80U ? std::ldexp(1.0, 128) : widen_bf16(above);
  const double to_lower = std::fabs(value) - lower;
  const double to_upper = upper - std::fabs(value);
  const bool up = to_upper < to_lower || (to_upper == to_lower && (below & 1U) != 0);
  return static_cast<std::uint16_t>(sign | (up ? above : below));
}

}  // namespace reference

}  // namespace kinema::kernels
