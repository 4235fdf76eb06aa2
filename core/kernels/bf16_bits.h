// SPDX-License-Identifier: Apache-2.0
// One bfloat16 conversion on bit patterns, shared by the row kernels and CUDA (see bf16.h).
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"

namespace kinema::kernels {

// No external linkage: the copy of a wide instruction set must never be linked into another file.
KINEMA_HOST_DEVICE static inline std::uint32_t widen_bf16_bits(std::uint16_t value) {
  return static_cast<std::uint32_t>(value) << 16U;
}

KINEMA_HOST_DEVICE static inline std::uint16_t narrow_bf16_bits(std::uint32_t bits) {
  const std::uint32_t head = bits >> 16U;
  const std::uint32_t nearest_even = (bits + 0x7FFFU + (head & 1U)) >> 16U;
  // A NaN with its payload in the lower half alone would become infinite: it gets the quiet bit.
  const std::uint32_t nan = (head & 0x7FU) == 0U ? head | 0x40U : head;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return static_cast<std::uint16_t>(is_nan ? nan : nearest_even);
}

}  // namespace kinema::kernels
