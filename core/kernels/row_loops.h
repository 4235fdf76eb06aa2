// SPDX-License-Identifier: Apache-2.0
// Internal: loops over one row, for any lanes (see noise_math.h for what `Ops` holds; here also
// lane_index() and store_interleaved()). Included by the rows_<isa>.cpp files only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/bf16_bits.h"
#include "core/kernels/noise.h"
#include "core/kernels/noise_math.h"
#include "core/kernels/row_kernels.h"

namespace kinema::kernels {

/// 4 * kLanes consecutive numbers, starting at column 4 * block, to contiguous memory.
template <class Ops, Draw kDraw>
KINEMA_ALWAYS_INLINE void draw_blocks(void* out, const RowAddress& address, std::uint32_t block) {
  noise_math::Words<Ops> words{{Ops::add(Ops::set(block), Ops::lane_index()),
                                Ops::set(address.counter[0]),
                                Ops::set(address.counter[1]),
                                Ops::set(address.counter[2])}};
  words = noise_math::philox<Ops>(words, address.keys);
  noise_math::Floats<Ops> numbers;
  if constexpr (kDraw == Draw::kNormal) {
    numbers = noise_math::normals<Ops>(words);
  } else {
    for (int i = 0; i < 4; ++i) {
      if constexpr (kDraw == Draw::kUniform) {
        numbers.v[i] = noise_math::uniform<Ops>(words.v[i]);
      } else {
        numbers.v[i] = Ops::from_bits(words.v[i]);
      }
    }
  }
  Ops::store_interleaved(out, numbers);
}

/// Numbers from .. to - 1 of the 4 * kLanes at `block`; the first goes to `out`.
template <class Ops, Draw kDraw>
__attribute__((noinline)) void draw_some(unsigned char* out,
                                         std::int64_t stride,
                                         const RowAddress& address,
                                         std::uint32_t block,
                                         std::size_t from,
                                         std::size_t to) {
  // Floats and words have one size; the copies move bits and never look at them.
  alignas(64) std::uint32_t chunk[4 * Ops::kLanes];
  draw_blocks<Ops, kDraw>(chunk, address, block);
  if (stride == 1) {
    __builtin_memcpy(out, chunk + from, 4 * (to - from));
    return;
  }
  for (std::size_t i = from; i < to; ++i) {
    __builtin_memcpy(out, &chunk[i], 4);
    out += 4 * stride;
  }
}

template <class Ops, Draw kDraw>
void draw_row(void* out,
              std::int64_t stride,
              const RowAddress& address,
              std::uint64_t first,
              std::uint64_t count) {
  constexpr std::uint64_t kStep = 4 * Ops::kLanes;
  auto* bytes = static_cast<unsigned char*>(out);
  const std::uint64_t end = first + count;
  const auto block = [](std::uint64_t column) { return static_cast<std::uint32_t>(column / 4); };
  while (first < end) {
    if (stride == 1 && first % 4 == 0) {
      for (; end - first >= kStep; first += kStep, bytes += 4 * kStep) {
        draw_blocks<Ops, kDraw>(bytes, address, block(first));
      }
      if (first == end) {
        return;
      }
    }
    const std::uint64_t from = first % 4;
    const std::uint64_t to = end - first < kStep - from ? from + (end - first) : kStep;
    draw_some<Ops, kDraw>(bytes, stride, address, block(first), from, to);
    bytes += 4 * static_cast<std::int64_t>(to - from) * stride;
    first += to - from;
  }
}

/// Integer loops that compilers vectorise; `Ops` only makes one copy per instruction set.
template <class Ops>
void widen_bf16_row(float* out, const std::uint16_t* in, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = __builtin_bit_cast(float, widen_bf16_bits(in[i]));
  }
}

template <class Ops>
void narrow_bf16_row(std::uint16_t* out, const float* in, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = narrow_bf16_bits(__builtin_bit_cast(std::uint32_t, in[i]));
  }
}

template <class Ops>
constexpr RowKernels kRowKernels{.normal = draw_row<Ops, Draw::kNormal>,
                                 .uniform = draw_row<Ops, Draw::kUniform>,
                                 .bits = draw_row<Ops, Draw::kBits>,
                                 .widen_bf16 = widen_bf16_row<Ops>,
                                 .narrow_bf16 = narrow_bf16_row<Ops>};

}  // namespace kinema::kernels
