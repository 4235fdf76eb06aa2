// SPDX-License-Identifier: Apache-2.0
// Row kernels for what every machine of the target has: SSE2 on x86-64, one lane elsewhere.
#include "core/kernels/row_kernels.h"
#include "core/kernels/row_loops.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kinema::kernels {
namespace {

#if defined(__SSE2__)
struct BaselineOps {
  using F = __m128;
  using U = __m128i;
  static constexpr int kLanes = 4;

  static F set(float value) { return _mm_set1_ps(value); }
  static U set(std::uint32_t value) { return _mm_set1_epi32(static_cast<int>(value)); }
  static U lane_index() { return _mm_setr_epi32(0, 1, 2, 3); }
  static F add(F a, F b) { return _mm_add_ps(a, b); }
  static F sub(F a, F b) { return _mm_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm_mul_ps(a, b); }
  static F sqrt(F a) { return _mm_sqrt_ps(a); }
  static F from_int(U a) { return _mm_cvtepi32_ps(a); }
  static U bits(F a) { return _mm_castps_si128(a); }
  static F from_bits(U a) { return _mm_castsi128_ps(a); }
  static U add(U a, U b) { return _mm_add_epi32(a, b); }
  static U sub(U a, U b) { return _mm_sub_epi32(a, b); }
  static U bit_and(U a, U b) { return _mm_and_si128(a, b); }
  static U bit_xor(U a, U b) { return _mm_xor_si128(a, b); }
  template <int kBits>
  static U shift_left(U a) {
    return _mm_slli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right(U a) {
    return _mm_srli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right_signed(U a) {
    return _mm_srai_epi32(a, kBits);
  }
  static void mul_wide(U a, U b, U& high, U& low) {
    const U even = _mm_mul_epu32(a, b);
    const U odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), b);
    const U even_mask = _mm_set1_epi64x(0xFFFFFFFF);
    low = _mm_or_si128(_mm_and_si128(even, even_mask), _mm_slli_epi64(odd, 32));
    high = _mm_or_si128(_mm_srli_epi64(even, 32), _mm_andnot_si128(even_mask, odd));
  }
  static void store_interleaved(void* out, const noise_math::Floats<BaselineOps>& z) {
    auto* const to = static_cast<float*>(out);
    F z0 = z.v[0];
    F z1 = z.v[1];
    F z2 = z.v[2];
    F z3 = z.v[3];
    _MM_TRANSPOSE4_PS(z0, z1, z2, z3);
    _mm_storeu_ps(to, z0);
    _mm_storeu_ps(to + 4, z1);
    _mm_storeu_ps(to + 8, z2);
    _mm_storeu_ps(to + 12, z3);
  }
};
#else
struct BaselineOps : noise_math::ScalarOps {
  static U lane_index() { return 0; }
  static void store_interleaved(void* out, const noise_math::Floats<BaselineOps>& z) {
    __builtin_memcpy(out, z.v, sizeof(z.v));
  }
};
#endif

}  // namespace

const RowKernels& baseline_rows() noexcept {
  return kRowKernels<BaselineOps>;
}

}  // namespace kinema::kernels
