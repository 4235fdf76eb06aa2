// SPDX-License-Identifier: Apache-2.0
// narrow_linear.h for x86-64-v4. Compiled with flags of its own: nothing with external linkage but
// the table may be defined here.
#include <immintrin.h>

#include "core/kernels/narrow_linear_loops.h"

namespace kinema::kernels {
namespace {

struct Avx512Lanes {
  using F = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kPanelVectors =
      2;  // 12 x 2 sums, 2 loads and 1 broadcast fill 27 of 32 registers
  static constexpr int kTileOutputs = 12;

  static F zero() { return _mm512_setzero_ps(); }
  static F load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, F value) { _mm512_storeu_ps(to, value); }
  static F broadcast(const float* from) { return _mm512_set1_ps(*from); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F multiply_add(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }

  static void widen_bf16(float* to, const std::uint16_t* from, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const __mmask16 lanes = mask(count - i);
      const __m256i half = _mm256_maskz_loadu_epi16(lanes, from + i);
      const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
      _mm512_mask_storeu_ps(to + i, lanes, _mm512_castsi512_ps(bits));
    }
  }

  static void widen_f16(float* to, const std::uint16_t* from, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const __mmask16 lanes = mask(count - i);
      _mm512_mask_storeu_ps(
          to + i, lanes, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from + i)));
    }
  }

 private:
  static __mmask16 mask(std::int64_t left) {
    return left >= kLanes ? static_cast<__mmask16>(0xFFFFU)
                          : static_cast<__mmask16>((1U << left) - 1U);
  }
};

}  // namespace

const NarrowLinearKernels& avx512_narrow_linear() noexcept {
  using Loops = NarrowLinearLoops<Avx512Lanes>;
  static constexpr NarrowLinearKernels kKernels = {Loops::kPanel, Loops::pack, Loops::outputs};
  return kKernels;
}

}  // namespace kinema::kernels
