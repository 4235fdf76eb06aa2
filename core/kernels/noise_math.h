// SPDX-License-Identifier: Apache-2.0
// From counters to normal numbers, written once for a CPU scalar, a CPU vector and a CUDA thread.
// Floats see only addition, subtraction, multiplication and square root, which IEEE 754 rounds
// correctly, plus exact conversions: every processor gives the same bits. No fused multiply-add
// (the baseline has none) and no subnormal ever occurs, so flush-to-zero modes change nothing.
//
// `Ops` holds lanes: F (floats), U (32-bit words), and the operations used below. Polynomials are
// our own weighted minimax fits; errors against real numbers are tested in tests/kernels.
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"
#include "core/kernels/philox.h"

#ifdef __FAST_MATH__
#error "noise_math.h needs IEEE arithmetic: compile without -ffast-math"
#endif

namespace kinema::kernels::noise_math {

/// Lanes of one number: the scalar twin, and what one CUDA thread runs.
struct ScalarOps {
  using F = float;
  using U = std::uint32_t;
  static constexpr int kLanes = 1;

  KINEMA_HOST_DEVICE static F set(float value) { return value; }
  KINEMA_HOST_DEVICE static U set(std::uint32_t value) { return value; }
#ifdef __CUDA_ARCH__
  // The named roundings keep the device compiler from contracting a product and a sum.
  __device__ static F add(F a, F b) { return __fadd_rn(a, b); }
  __device__ static F sub(F a, F b) { return __fsub_rn(a, b); }
  __device__ static F mul(F a, F b) { return __fmul_rn(a, b); }
  __device__ static F sqrt(F a) { return __fsqrt_rn(a); }
  __device__ static F from_int(U a) { return __int2float_rn(static_cast<int>(a)); }
  __device__ static U bits(F a) { return __float_as_uint(a); }
  __device__ static F from_bits(U a) { return __uint_as_float(a); }
#else
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F sqrt(F a) { return __builtin_sqrtf(a); }
  /// Signed 32-bit integer, rounded to nearest.
  static F from_int(U a) { return static_cast<float>(static_cast<std::int32_t>(a)); }
  static U bits(F a) { return __builtin_bit_cast(std::uint32_t, a); }
  static F from_bits(U a) { return __builtin_bit_cast(float, a); }
#endif
  KINEMA_HOST_DEVICE static U add(U a, U b) { return a + b; }
  KINEMA_HOST_DEVICE static U sub(U a, U b) { return a - b; }
  KINEMA_HOST_DEVICE static U bit_and(U a, U b) { return a & b; }
  KINEMA_HOST_DEVICE static U bit_xor(U a, U b) { return a ^ b; }
  template <int kBits>
  KINEMA_HOST_DEVICE static U shift_left(U a) {
    return a << kBits;
  }
  template <int kBits>
  KINEMA_HOST_DEVICE static U shift_right(U a) {
    return a >> kBits;
  }
  /// Copies of the sign bit come in from the left.
  template <int kBits>
  KINEMA_HOST_DEVICE static U shift_right_signed(U a) {
    return static_cast<U>(static_cast<std::int32_t>(a) >> kBits);
  }
  /// Both halves of the 64-bit product.
  KINEMA_HOST_DEVICE static void mul_wide(U a, U b, U& high, U& low) {
    const std::uint64_t product = std::uint64_t{a} * b;
    high = static_cast<U>(product >> 32U);
    low = static_cast<U>(product);
  }
};

/// Four registers of words.
template <class Ops>
struct Words {
  typename Ops::U v[4];
};

/// Four registers of floats.
template <class Ops>
struct Floats {
  typename Ops::F v[4];
};

/// The keys of all rounds, in turn for words 0 and 2. In memory a vector unit reads and spreads one
/// for free; computing them in the loop would not be.
struct RoundKeys {
  std::uint32_t v[2 * kPhiloxRounds];
};

KINEMA_HOST_DEVICE inline RoundKeys expand_key(std::uint32_t key0, std::uint32_t key1) {
  RoundKeys keys{};
  for (int round = 0; round < kPhiloxRounds; ++round) {
    keys.v[2 * round] = key0 + (static_cast<std::uint32_t>(round) * kPhiloxWeyl0);
    keys.v[(2 * round) + 1] = key1 + (static_cast<std::uint32_t>(round) * kPhiloxWeyl1);
  }
  return keys;
}

/// Philox 4x32-10 in every lane, see philox.h.
template <class Ops, int kRound = 0>
KINEMA_ALWAYS_INLINE Words<Ops> philox(const Words<Ops>& counter, const RoundKeys& keys) {
  if constexpr (kRound == kPhiloxRounds) {
    return counter;
  } else {
    using U = typename Ops::U;
    U high0;
    U low0;
    U high1;
    U low1;
    Ops::mul_wide(counter.v[0], Ops::set(kPhiloxMultiplier0), high0, low0);
    Ops::mul_wide(counter.v[2], Ops::set(kPhiloxMultiplier1), high1, low1);
    const Words<Ops> next{
        {Ops::bit_xor(Ops::bit_xor(high1, counter.v[1]), Ops::set(keys.v[2 * kRound])),
         low1,
         Ops::bit_xor(Ops::bit_xor(high0, counter.v[3]), Ops::set(keys.v[(2 * kRound) + 1])),
         low0}};
    return philox<Ops, kRound + 1>(next, keys);
  }
}

/// `mask` is all ones or all zeros in each lane.
template <class Ops>
KINEMA_ALWAYS_INLINE typename Ops::U select(typename Ops::U mask,
                                            typename Ops::U if_ones,
                                            typename Ops::U if_zeros) {
  return Ops::bit_xor(if_zeros, Ops::bit_and(mask, Ops::bit_xor(if_ones, if_zeros)));
}

/// c0 + x * (c1 + x * (c2 + ...)).
template <class Ops, class... Rest>
KINEMA_ALWAYS_INLINE typename Ops::F horner(typename Ops::F x, float c0, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    static_cast<void>(x);
    return Ops::set(c0);
  } else {
    return Ops::add(Ops::set(c0), Ops::mul(x, horner<Ops>(x, rest...)));
  }
}

/// -2 ln u for the midpoint u = (r + 1/2) * 2^-32 of one of 2^32 equal parts of (0, 1): from 45.75
/// (r = 0) down to 2^-32 (r = 2^32 - 1).
template <class Ops>
KINEMA_ALWAYS_INLINE typename Ops::F minus_two_log(typename Ops::U r) {
  using F = typename Ops::F;
  using U = typename Ops::U;
  const F one = Ops::set(1.0F);
  // w = u in the lower half and 1 - u in the upper one, so that it is accurate at both ends.
  const U upper = Ops::template shift_right_signed<31>(r);
  const F w =
      Ops::mul(Ops::add(Ops::from_int(Ops::bit_xor(r, upper)), Ops::set(0.5F)), Ops::set(0x1p-32F));
  const U u_bits = select<Ops>(upper, Ops::bits(Ops::sub(one, w)), Ops::bits(w));

  // u = m * 2^e with m in [sqrt(1/2), sqrt(2)) and -33 <= e <= 0; f = m - 1, which is -w for e = 0.
  const U e =
      Ops::template shift_right_signed<23>(Ops::sub(u_bits, Ops::set(std::uint32_t{0x3F3504F3})));
  const F m = Ops::from_bits(Ops::sub(u_bits, Ops::template shift_left<23>(e)));
  const F f = Ops::from_bits(select<Ops>(Ops::template shift_right_signed<31>(e),
                                         Ops::bits(Ops::sub(m, one)),
                                         Ops::bits(Ops::sub(Ops::set(0.0F), w))));
  const F exponent = Ops::from_int(e);

  // ln(1 + f) = f - f^2 / 2 + f^3 P(f); ln 2 is split so that e times its head is exact.
  const F square = Ops::mul(f, f);
  const F p = horner<Ops>(f,
                          0x1.55554ap-2F,
                          -0x1.000220p-2F,
                          0x1.99a596p-3F,
                          -0x1.54788cp-3F,
                          0x1.226e4ap-3F,
                          -0x1.0ce078p-3F,
                          0x1.07d0e6p-3F,
                          -0x1.41ee02p-4F);
  F tail = Ops::mul(Ops::mul(f, square), p);
  tail = Ops::add(tail, Ops::mul(exponent, Ops::set(-0x1.bd0106p-13F)));
  tail = Ops::sub(tail, Ops::mul(square, Ops::set(0.5F)));
  const F log = Ops::add(Ops::add(f, tail), Ops::mul(exponent, Ops::set(0x1.63p-1F)));
  return Ops::mul(log, Ops::set(-2.0F));
}

/// Cosine and sine of the angle 2 pi r / 2^32.
template <class Ops>
KINEMA_ALWAYS_INLINE void cos_sin(typename Ops::U r,
                                  typename Ops::F& cosine,
                                  typename Ops::F& sine) {
  using F = typename Ops::F;
  using U = typename Ops::U;
  // Nearest quarter turn and the rest t in [-1/2, 1/2] quarter turns, in exact integers.
  const U quarter = Ops::template shift_right<30>(Ops::add(r, Ops::set(std::uint32_t{0x20000000})));
  const F t = Ops::mul(Ops::from_int(Ops::sub(r, Ops::template shift_left<30>(quarter))),
                       Ops::set(0x1p-30F));
  const F w = Ops::mul(t, t);
  // sin(pi t / 2) = t (pi/2 + w S(w)), pi/2 as head and tail; cos(pi t / 2) = 1 + w C(w).
  const F s = horner<Ops>(w, -0x1.4abbc0p-1F, 0x1.466032p-4F, -0x1.2dd048p-8F);
  const F s_tail = Ops::add(Ops::mul(w, s), Ops::set(-0x1.777a5cp-25F));
  const F sin_t = Ops::add(Ops::mul(t, Ops::set(0x1.921fb6p+0F)), Ops::mul(t, s_tail));
  const F c = horner<Ops>(w, -0x1.3bd3ccp+0F, 0x1.03c1dep-2F, -0x1.55c664p-6F, 0x1.d9f7bcp-11F);
  const F cos_t = Ops::add(Ops::set(1.0F), Ops::mul(w, c));

  const U odd =
      Ops::sub(Ops::set(std::uint32_t{0}), Ops::bit_and(quarter, Ops::set(std::uint32_t{1})));
  const U two = Ops::set(std::uint32_t{2});
  const U cos_sign = Ops::template shift_left<30>(
      Ops::bit_and(Ops::add(quarter, Ops::set(std::uint32_t{1})), two));
  const U sin_sign = Ops::template shift_left<30>(Ops::bit_and(quarter, two));
  const U cos_bits = Ops::bits(cos_t);
  const U sin_bits = Ops::bits(sin_t);
  cosine = Ops::from_bits(Ops::bit_xor(select<Ops>(odd, sin_bits, cos_bits), cos_sign));
  sine = Ops::from_bits(Ops::bit_xor(select<Ops>(odd, cos_bits, sin_bits), sin_sign));
}

/// Two independent standard normal numbers (Box and Muller, 1958): the radius from r0, the angle
/// from r1. 0 < |(z0, z1)| <= sqrt(66 ln 2) = 6.77.
template <class Ops>
KINEMA_ALWAYS_INLINE void box_muller(typename Ops::U r0,
                                     typename Ops::U r1,
                                     typename Ops::F& z0,
                                     typename Ops::F& z1) {
  typename Ops::F cosine;
  typename Ops::F sine;
  cos_sin<Ops>(r1, cosine, sine);
  const typename Ops::F radius = Ops::sqrt(minus_two_log<Ops>(r0));
  z0 = Ops::mul(radius, cosine);
  z1 = Ops::mul(radius, sine);
}

/// The four normal numbers of the four words of one Philox block.
template <class Ops>
KINEMA_ALWAYS_INLINE Floats<Ops> normals(const Words<Ops>& words) {
  Floats<Ops> z;
  box_muller<Ops>(words.v[0], words.v[1], z.v[0], z.v[1]);
  box_muller<Ops>(words.v[2], words.v[3], z.v[2], z.v[3]);
  return z;
}

/// Uniform in [0, 1): the upper 24 bits of r, exact.
template <class Ops>
KINEMA_ALWAYS_INLINE typename Ops::F uniform(typename Ops::U r) {
  return Ops::mul(Ops::from_int(Ops::template shift_right<8>(r)), Ops::set(0x1p-24F));
}

}  // namespace kinema::kernels::noise_math
