// SPDX-License-Identifier: Apache-2.0
// Exact ratios for frame rates and time bases.
#pragma once

#include <cstdint>

namespace kinema::media {

/// A ratio of two integers; `den` is never 0 in a value that kinema hands out.
struct Rational {
  std::int64_t num = 0;
  std::int64_t den = 1;

  [[nodiscard]] constexpr double value() const noexcept {
    return den == 0 ? 0.0 : static_cast<double>(num) / static_cast<double>(den);
  }
  [[nodiscard]] constexpr bool positive() const noexcept { return num > 0 && den > 0; }
  bool operator==(const Rational&) const = default;
};

}  // namespace kinema::media
