// SPDX-License-Identifier: Apache-2.0
// The polynomials against double precision, from the integers that they start from.
#include "core/kernels/noise_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

namespace kinema::kernels {
namespace {

using noise_math::ScalarOps;

/// Extreme and boundary words, and a dense sample of all of them.
std::vector<std::uint32_t> sample_words() {
  std::vector<std::uint32_t> words;
  for (std::uint32_t i = 0; i < 4096; ++i) {
    for (int bit = 0; bit < 32; ++bit) {
      words.push_back((std::uint32_t{1} << bit) + i - 2048);
    }
    words.push_back(0xB504F333U + i - 2048);  // u = sqrt(1/2), where the exponent changes
    words.push_back(0x5A82799AU + i - 2048);
  }
  for (std::uint64_t word = 0; word < (std::uint64_t{1} << 32U); word += 4093) {
    words.push_back(static_cast<std::uint32_t>(word));
  }
  return words;
}

double error_in_ulp(double got, double want) {
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, exponent - 24);
}

double reference_minus_two_log(std::uint32_t r) {
  return r < 0x80000000U ? -2.0 * std::log((r + 0.5) * 0x1p-32)
                         : -2.0 * std::log1p(-(4294967295.5 - r) * 0x1p-32);
}

/// Cosine and sine of 2 pi r / 2^32, reduced in integers first.
std::pair<double, double> reference_cos_sin(std::uint32_t r) {
  const std::uint32_t quarter = (r + 0x20000000U) >> 30U;
  const auto rest = static_cast<std::int32_t>(r - (quarter << 30U));
  const double angle = rest * (std::numbers::pi / 2 * 0x1p-30);
  const double c = std::cos(angle);
  const double s = std::sin(angle);
  switch (quarter) {
    case 0:
      return {c, s};
    case 1:
      return {-s, c};
    case 2:
      return {-c, -s};
    default:
      return {s, -c};
  }
}

TEST(NoiseMathTest, LogarithmIsWithinFourUlp) {
  double worst = 0;
  for (const std::uint32_t r : sample_words()) {
    const float got = noise_math::minus_two_log<ScalarOps>(r);
    ASSERT_GT(got, 0.0F) << r;
    worst = std::max(worst, error_in_ulp(got, reference_minus_two_log(r)));
  }
  EXPECT_LT(worst, 3.3);  // 3.20 over all words
}

TEST(NoiseMathTest, RadiusIsWithinThreeUlp) {
  double worst = 0;
  for (const std::uint32_t r : sample_words()) {
    const float got = ScalarOps::sqrt(noise_math::minus_two_log<ScalarOps>(r));
    worst = std::max(worst, error_in_ulp(got, std::sqrt(reference_minus_two_log(r))));
  }
  EXPECT_LT(worst, 2.3);  // 2.18 over all words
}

TEST(NoiseMathTest, CosineAndSineAreWithinThreeUlp) {
  double worst_cosine = 0;
  double worst_sine = 0;
  for (const std::uint32_t r : sample_words()) {
    float cosine = 0;
    float sine = 0;
    noise_math::cos_sin<ScalarOps>(r, cosine, sine);
    const auto [want_cosine, want_sine] = reference_cos_sin(r);
    if (want_cosine != 0) {
      worst_cosine = std::max(worst_cosine, error_in_ulp(cosine, want_cosine));
    } else {
      EXPECT_EQ(cosine, 0.0F);
    }
    if (want_sine != 0) {
      worst_sine = std::max(worst_sine, error_in_ulp(sine, want_sine));
    } else {
      EXPECT_EQ(sine, 0.0F);
    }
    EXPECT_NEAR((double{cosine} * cosine) + (double{sine} * sine), 1.0, 5e-7);
  }
  EXPECT_LT(worst_cosine, 2.5);
  EXPECT_LT(worst_sine, 2.5);
}

TEST(NoiseMathTest, QuarterTurnsAreExact) {
  const float cosines[] = {1, 0, -1, 0};
  const float sines[] = {0, 1, 0, -1};
  for (std::uint32_t quarter = 0; quarter < 4; ++quarter) {
    float cosine = 2;
    float sine = 2;
    noise_math::cos_sin<ScalarOps>(quarter << 30U, cosine, sine);
    EXPECT_EQ(cosine, cosines[quarter]);
    EXPECT_EQ(sine, sines[quarter]);
  }
}

TEST(NoiseMathTest, ExtremeWordsGiveFiniteNumbersWithinTheBound) {
  const std::uint32_t extremes[] = {0,
                                    1,
                                    0x1FFFFFFF,
                                    0x20000000,
                                    0x3FFFFFFF,
                                    0x40000000,
                                    0x7FFFFFFF,
                                    0x80000000,
                                    0x80000001,
                                    0xBFFFFFFF,
                                    0xC0000000,
                                    0xDFFFFFFF,
                                    0xE0000000,
                                    0xFFFFFFFE,
                                    0xFFFFFFFF};
  float largest = 0;
  for (const std::uint32_t radius : extremes) {
    for (const std::uint32_t angle : extremes) {
      float z0 = NAN;
      float z1 = NAN;
      noise_math::box_muller<ScalarOps>(radius, angle, z0, z1);
      ASSERT_TRUE(std::isfinite(z0) && std::isfinite(z1)) << radius << ' ' << angle;
      largest = std::max({largest, std::fabs(z0), std::fabs(z1)});
    }
  }
  EXPECT_NEAR(largest, std::sqrt(66 * std::numbers::ln2), 1e-5);
}

TEST(NoiseMathTest, UniformCoversZeroToBelowOne) {
  EXPECT_EQ(noise_math::uniform<ScalarOps>(0), 0.0F);
  EXPECT_EQ(noise_math::uniform<ScalarOps>(255), 0.0F);
  EXPECT_EQ(noise_math::uniform<ScalarOps>(256), 0x1p-24F);
  EXPECT_EQ(noise_math::uniform<ScalarOps>(0x80000000U), 0.5F);
  EXPECT_EQ(noise_math::uniform<ScalarOps>(0xFFFFFFFFU), 1.0F - 0x1p-24F);
}

}  // namespace
}  // namespace kinema::kernels
