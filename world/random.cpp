// SPDX-License-Identifier: Apache-2.0
#include "world/random.h"

#include "core/kernels/noise.h"

namespace kinema::world {

// Scene i owns the words i * 2^20 .. of one flat stream; no scene needs more than 2^20 of them.
Random::Random(std::uint64_t seed, std::string_view purpose, std::uint64_t index)
    : seed_(seed), purpose_(purpose), position_(index << 20U) {}

std::uint32_t Random::next() {
  const auto key =
      kernels::noise_key(seed_, purpose_, kernels::Draw::kBits, kernels::Addressing::kFlat);
  return kernels::reference::bits_at(key, position_++);
}

double Random::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(next()) * 0x1p-32);
}

std::int64_t Random::below(std::int64_t count) {
  return static_cast<std::int64_t>(
      (static_cast<std::uint64_t>(next()) * static_cast<std::uint64_t>(count)) >> 32U);
}

}  // namespace kinema::world
