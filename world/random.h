// SPDX-License-Identifier: Apache-2.0
// A sequence of random numbers of its own for every (seed, purpose, index).
#pragma once

#include <cstdint>
#include <string_view>

namespace kinema::world {

class Random {
 public:
  Random(std::uint64_t seed, std::string_view purpose, std::uint64_t index);

  /// In [low, high).
  [[nodiscard]] double uniform(double low, double high);
  /// 0 .. count - 1.
  [[nodiscard]] std::int64_t below(std::int64_t count);
  [[nodiscard]] bool chance(double probability) { return uniform(0, 1) < probability; }

 private:
  std::uint32_t next();

  std::uint64_t seed_;
  std::string_view purpose_;
  std::uint64_t position_;
};

}  // namespace kinema::world
