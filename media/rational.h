// SPDX-License-Identifier: Apache-2.0
// Exact ratios for frame rates and time bases.
#pragma once

#include <cmath>
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

/// The ratio that a rate in frames per second stands for: 30 is 30/1, 29.97 is 30000/1001, others
/// are taken to a thousandth.
[[nodiscard]] inline Rational rational_rate(double fps) {
  if (fps == std::floor(fps)) {
    return {static_cast<std::int64_t>(fps), 1};
  }
  const double film = std::round(fps * 1.001);
  if (std::abs(fps * 1.001 - film) < 1e-3) {
    return {static_cast<std::int64_t>(film) * 1000, 1001};
  }
  return {std::llround(fps * 1000), 1000};
}

}  // namespace kinema::media
