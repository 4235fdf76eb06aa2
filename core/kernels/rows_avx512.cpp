// SPDX-License-Identifier: Apache-2.0
// Row kernels for x86-64-v4, sixteen lanes. Compiled with flags of its own: nothing with external
// linkage but the table may be defined here.
#include <immintrin.h>

#include "core/kernels/row_kernels.h"
#include "core/kernels/row_loops.h"

namespace kinema::kernels {
namespace {

struct Avx512Ops {
  using F = __m512;
  using U = __m512i;
  static constexpr int kLanes = 16;

  static F set(float value) { return _mm512_set1_ps(value); }
  static U set(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  static U lane_index() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F from_int(U a) { return _mm512_cvtepi32_ps(a); }
  static U bits(F a) { return _mm512_castps_si512(a); }
  static F from_bits(U a) { return _mm512_castsi512_ps(a); }
  static U add(U a, U b) { return _mm512_add_epi32(a, b); }
  static U sub(U a, U b) { return _mm512_sub_epi32(a, b); }
  static U bit_and(U a, U b) { return _mm512_and_si512(a, b); }
  static U bit_xor(U a, U b) { return _mm512_xor_si512(a, b); }
  template <int kBits>
  static U shift_left(U a) {
    return _mm512_slli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right(U a) {
    return _mm512_srli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right_signed(U a) {
    return _mm512_srai_epi32(a, kBits);
  }
  static void mul_wide(U a, U b, U& high, U& low) {
    const U even = _mm512_mul_epu32(a, b);
    const U odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
    constexpr __mmask16 kOdd = 0xAAAA;
    low = _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32));
    high = _mm512_mask_blend_epi32(kOdd, _mm512_srli_epi64(even, 32), odd);
  }
  /// Lane k of the four registers goes to numbers 4k .. 4k + 3.
  static void store_interleaved(void* out, const noise_math::Floats<Avx512Ops>& z) {
    auto* const to = static_cast<float*>(out);
    const F low01 = _mm512_unpacklo_ps(z.v[0], z.v[1]);
    const F high01 = _mm512_unpackhi_ps(z.v[0], z.v[1]);
    const F low23 = _mm512_unpacklo_ps(z.v[2], z.v[3]);
    const F high23 = _mm512_unpackhi_ps(z.v[2], z.v[3]);
    // 128-bit part k of block<j> holds the four numbers of lane 4k + j.
    const F block0 = _mm512_shuffle_ps(low01, low23, 0x44);
    const F block1 = _mm512_shuffle_ps(low01, low23, 0xEE);
    const F block2 = _mm512_shuffle_ps(high01, high23, 0x44);
    const F block3 = _mm512_shuffle_ps(high01, high23, 0xEE);
    const F front01 = _mm512_shuffle_f32x4(block0, block1, 0x44);
    const F front23 = _mm512_shuffle_f32x4(block2, block3, 0x44);
    const F back01 = _mm512_shuffle_f32x4(block0, block1, 0xEE);
    const F back23 = _mm512_shuffle_f32x4(block2, block3, 0xEE);
    _mm512_storeu_ps(to, _mm512_shuffle_f32x4(front01, front23, 0x88));
    _mm512_storeu_ps(to + 16, _mm512_shuffle_f32x4(front01, front23, 0xDD));
    _mm512_storeu_ps(to + 32, _mm512_shuffle_f32x4(back01, back23, 0x88));
    _mm512_storeu_ps(to + 48, _mm512_shuffle_f32x4(back01, back23, 0xDD));
  }
};

}  // namespace

const RowKernels& avx512_rows() noexcept {
  return kRowKernels<Avx512Ops>;
}

}  // namespace kinema::kernels
