// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic on untrusted sizes: every operation says when it would overflow.
#pragma once

#include <concepts>
#include <optional>
#include <span>

namespace kinema {

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) noexcept {
  T sum{};
  return __builtin_add_overflow(a, b, &sum) ? std::nullopt : std::optional<T>(sum);
}

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T product{};
  return __builtin_mul_overflow(a, b, &product) ? std::nullopt : std::optional<T>(product);
}

/// Product of all sizes; 1 for an empty list (the number of elements of a scalar).
template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_product(std::span<const T> sizes) noexcept {
  T product{1};
  bool overflow = false;
  bool zero = false;
  for (const T size : sizes) {
    zero = zero || size == 0;
    overflow = __builtin_mul_overflow(product, size, &product) || overflow;
  }
  if (zero) {
    return T{0};
  }
  return overflow ? std::nullopt : std::optional<T>(product);
}

}  // namespace kinema
