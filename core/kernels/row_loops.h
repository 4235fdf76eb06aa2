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
inline void draw_blocks(void* out, const RowAddress& address, std::uint32_t block) {
  noise_math::Words<Ops> words{{Ops::add(Ops::set(block), Ops::lane_index()),
                                Ops::set(address.counter[0]),
                                Ops::set(address.counter[1]),
                                Ops::set(address.counter[2])}};
  words = noise_math::philox<Ops>(words, address.key[0], address.key[1]);
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

template <class Ops, Draw kDraw>
void draw_row(void* out,
              std::int64_t stride,
              const RowAddress& address,
              std::uint64_t first,
              std::uint64_t count) {
  // Floats and words have one size; the copy below moves bits and never looks at them.
  constexpr std::uint64_t kStep = 4 * Ops::kLanes;
  auto* const bytes = static_cast<unsigned char*>(out);
  const std::uint64_t end = first + count;
  for (std::uint64_t column = first & ~std::uint64_t{3}; column < end; column += kStep) {
    const auto block = static_cast<std::uint32_t>(column >> 2U);
    if (stride == 1 && column >= first && end - column >= kStep) {
      draw_blocks<Ops, kDraw>(bytes + (4 * (column - first)), address, block);
      continue;
    }
    alignas(64) std::uint32_t chunk[kStep];
    draw_blocks<Ops, kDraw>(chunk, address, block);
    const std::uint64_t from = column >= first ? 0 : first - column;
    const std::uint64_t to = end - column < kStep ? end - column : kStep;
    for (std::uint64_t i = from; i < to; ++i) {
      const auto position = static_cast<std::int64_t>(column + i - first);
      __builtin_memcpy(bytes + (4 * position * stride), &chunk[i], 4);
    }
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
