// SPDX-License-Identifier: Apache-2.0
// Row kernels for x86-64-v3, eight lanes. Compiled with flags of its own: nothing with external
// linkage but the table may be defined here.
#include <immintrin.h>

#include "core/kernels/row_kernels.h"
#include "core/kernels/row_loops.h"

namespace kinema::kernels {
namespace {

struct Avx2Ops {
  using F = __m256;
  using U = __m256i;
  static constexpr int kLanes = 8;

  static F set(float value) { return _mm256_set1_ps(value); }
  static U set(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  static U lane_index() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F from_int(U a) { return _mm256_cvtepi32_ps(a); }
  static U bits(F a) { return _mm256_castps_si256(a); }
  static F from_bits(U a) { return _mm256_castsi256_ps(a); }
  static U add(U a, U b) { return _mm256_add_epi32(a, b); }
  static U sub(U a, U b) { return _mm256_sub_epi32(a, b); }
  static U bit_and(U a, U b) { return _mm256_and_si256(a, b); }
  static U bit_xor(U a, U b) { return _mm256_xor_si256(a, b); }
  template <int kBits>
  static U shift_left(U a) {
    return _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right(U a) {
    return _mm256_srli_epi32(a, kBits);
  }
  template <int kBits>
  static U shift_right_signed(U a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static void mul_wide(U a, U b, U& high, U& low) {
    const U even = _mm256_mul_epu32(a, b);
    const U odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
    low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  }
  /// Lane k of the four registers goes to numbers 4k .. 4k + 3.
  static void store_interleaved(void* out, const noise_math::Floats<Avx2Ops>& z) {
    auto* const to = static_cast<float*>(out);
    const F low01 = _mm256_unpacklo_ps(z.v[0], z.v[1]);
    const F high01 = _mm256_unpackhi_ps(z.v[0], z.v[1]);
    const F low23 = _mm256_unpacklo_ps(z.v[2], z.v[3]);
    const F high23 = _mm256_unpackhi_ps(z.v[2], z.v[3]);
    const F block0 = _mm256_shuffle_ps(low01, low23, 0x44);
    const F block1 = _mm256_shuffle_ps(low01, low23, 0xEE);
    const F block2 = _mm256_shuffle_ps(high01, high23, 0x44);
    const F block3 = _mm256_shuffle_ps(high01, high23, 0xEE);
    _mm256_storeu_ps(to, _mm256_permute2f128_ps(block0, block1, 0x20));
    _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(block2, block3, 0x20));
    _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(block0, block1, 0x31));
    _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(block2, block3, 0x31));
  }
};

}  // namespace

const RowKernels& avx2_rows() noexcept {
  return kRowKernels<Avx2Ops>;
}

}  // namespace kinema::kernels
