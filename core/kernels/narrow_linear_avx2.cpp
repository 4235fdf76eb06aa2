// SPDX-License-Identifier: Apache-2.0
// narrow_linear.h for x86-64-v3. Compiled with flags of its own: nothing with external linkage but
// the table may be defined here.
#include <immintrin.h>

#include "core/kernels/narrow_linear_loops.h"

namespace kinema::kernels {
namespace {

struct Avx2Lanes {
  using F = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kPanelVectors =
      2;  // 6 x 2 sums, 2 loads and 1 broadcast fill 15 of 16 registers
  static constexpr int kTileOutputs = 6;

  static F zero() { return _mm256_setzero_ps(); }
  static F load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, F value) { _mm256_storeu_ps(to, value); }
  static F broadcast(const float* from) { return _mm256_broadcast_ss(from); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F multiply_add(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }

  static void widen_bf16(float* to, const std::uint16_t* from, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
      _mm256_storeu_ps(to + i, _mm256_castsi256_ps(bits));
    }
    for (; i < count; ++i) {
      to[i] = _mm_cvtss_f32(_mm_castsi128_ps(
          _mm_cvtsi32_si128(static_cast<int>(static_cast<std::uint32_t>(from[i]) << 16U))));
    }
  }

  static void widen_f16(float* to, const std::uint16_t* from, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
      _mm256_storeu_ps(
          to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    }
    for (; i < count; ++i) {
      to[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(from[i])));
    }
  }
};

}  // namespace

const NarrowLinearKernels& avx2_narrow_linear() noexcept {
  using Loops = NarrowLinearLoops<Avx2Lanes>;
  static constexpr NarrowLinearKernels kKernels = {Loops::kPanel, Loops::pack, Loops::outputs};
  return kKernels;
}

}  // namespace kinema::kernels
