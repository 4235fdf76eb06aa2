// SPDX-License-Identifier: Apache-2.0
// Whether the numbers are normal and independent. Seeds are fixed, so a verdict never changes from
// run to run; limits are about 4.5 standard errors of a perfect generator.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/kernels/noise.h"

namespace kinema::kernels {
namespace {

constexpr double kLimit = 4.5;

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

std::vector<float> grid(std::uint64_t seed,
                        const char* name,
                        std::uint32_t frames,
                        std::uint32_t channels,
                        std::uint32_t rows,
                        std::uint32_t columns) {
  NoiseRegion region;
  region.key = noise_key(seed, name, Draw::kNormal, Addressing::kGrid);
  region.num_frames = frames;
  region.num_channels = channels;
  region.num_rows = rows;
  region.num_columns = columns;
  region.row_stride = columns;
  region.channel_stride = region.row_stride * rows;
  region.frame_stride = region.channel_stride * channels;
  std::vector<float> numbers(count_rows(region) * columns);
  fill_normal(numbers.data(), region);
  return numbers;
}

/// Chi-square of counts against equal expectations, as a number of standard errors.
double chi_square_errors(const std::vector<std::uint64_t>& counts, double total) {
  const double expected = total / static_cast<double>(counts.size());
  double chi = 0;
  for (const std::uint64_t count : counts) {
    const double difference = static_cast<double>(count) - expected;
    chi += difference * difference / expected;
  }
  const double freedom = static_cast<double>(counts.size()) - 1;
  return (chi - freedom) / std::sqrt(2 * freedom);
}

/// Correlation of a[i] and b[i] times sqrt(n): standard normal if they are independent.
template <class A, class B>
double correlation_errors(std::size_t n, A a, B b) {
  double sum = 0;
  double sum_of_squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = a(i);
    const double y = b(i);
    sum += x * y;
    sum_of_squares += ((x * x) - 1) * ((y * y) - 1);
  }
  // z^2 - 1 has variance 2; both kinds of dependence are reported, the larger one.
  const double root = std::sqrt(static_cast<double>(n));
  return std::max(std::fabs(sum) / root, std::fabs(sum_of_squares) / (2 * root));
}

TEST(NoiseStatisticsTest, MomentsOf16MillionNumbers) {
  const std::vector<float> z = grid(2024, "latents", 16, 16, 250, 250);
  const auto n = static_cast<double>(z.size());
  double m1 = 0;
  double m2 = 0;
  double m3 = 0;
  double m4 = 0;
  for (const float value : z) {
    const double v = value;
    ASSERT_TRUE(std::isfinite(v));
    m1 += v;
    m2 += v * v;
    m3 += v * v * v;
    m4 += v * v * v * v;
  }
  m1 /= n;
  m2 /= n;
  m3 /= n;
  m4 /= n;
  const double variance = m2 - (m1 * m1);
  const double skew = (m3 - (3 * m1 * m2) + (2 * m1 * m1 * m1)) / std::pow(variance, 1.5);
  const double kurtosis =
      (m4 - (4 * m1 * m3) + (6 * m1 * m1 * m2) - (3 * m1 * m1 * m1 * m1)) / (variance * variance);
  EXPECT_LT(std::fabs(m1), kLimit * std::sqrt(1 / n));
  EXPECT_LT(std::fabs(variance - 1), kLimit * std::sqrt(2 / n));
  EXPECT_LT(std::fabs(skew), kLimit * std::sqrt(6 / n));
  EXPECT_LT(std::fabs(kurtosis - 3), kLimit * std::sqrt(24 / n));
}

TEST(NoiseStatisticsTest, KolmogorovSmirnovOfTwoMillionNumbers) {
  std::vector<float> z = grid(1, "latents", 5, 4, 200, 500);
  std::sort(z.begin(), z.end());
  const auto n = static_cast<double>(z.size());
  double distance = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double p = normal_cdf(z[i]);
    distance = std::max(
        {distance, p - (static_cast<double>(i) / n), (static_cast<double>(i + 1) / n) - p});
  }
  // P(sqrt(n) D > 2.2) = 1.3e-4; a distance below 0.3 has about that chance as well.
  EXPECT_LT(distance * std::sqrt(n), 2.2);
  EXPECT_GT(distance * std::sqrt(n), 0.3);
}

TEST(NoiseStatisticsTest, ChiSquareInAThousandEqualBins) {
  const std::vector<float> z = grid(2, "latents", 8, 8, 250, 500);
  std::vector<std::uint64_t> counts(1000);
  for (const float value : z) {
    counts[std::min<std::size_t>(999, static_cast<std::size_t>(normal_cdf(value) * 1000))]++;
  }
  EXPECT_LT(std::fabs(chi_square_errors(counts, static_cast<double>(z.size()))), kLimit);
}

TEST(NoiseStatisticsTest, TailsOf64MillionNumbers) {
  const NoiseKey key = noise_key(3, "tails", Draw::kNormal, Addressing::kFlat);
  constexpr std::uint64_t kChunk = 1U << 16U;
  constexpr std::uint64_t kChunks = 1024;
  std::vector<float> z(kChunk);
  std::array<std::array<double, 7>, 2> counts{};
  float largest = 0;
  for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    fill_normal_flat(z.data(), key, chunk * kChunk, kChunk);
    for (const float value : z) {
      const float magnitude = std::fabs(value);
      if (magnitude > 2) {
        largest = std::max(largest, magnitude);
        for (std::size_t k = 2; k <= 6 && magnitude > static_cast<float>(k); ++k) {
          counts[value > 0 ? 1 : 0][k] += 1;
        }
      }
    }
  }
  for (std::size_t side = 0; side < 2; ++side) {
    for (std::size_t k = 2; k <= 5; ++k) {
      const double expected =
          static_cast<double>(kChunk * kChunks) * normal_cdf(-static_cast<double>(k));
      EXPECT_NEAR(counts[side][k], expected, kLimit * std::sqrt(expected)) << side << ' ' << k;
    }
    EXPECT_LE(counts[side][6], 3);  // 0.07 expected
  }
  EXPECT_GT(largest, 5.0F);
  EXPECT_LT(largest, 6.67F);
}

TEST(NoiseStatisticsTest, NeighboursAreIndependent) {
  constexpr std::size_t kFrames = 8;
  constexpr std::size_t kChannels = 8;
  constexpr std::size_t kRows = 128;
  constexpr std::size_t kColumns = 256;
  const std::vector<float> z = grid(4, "latents", kFrames, kChannels, kRows, kColumns);
  struct Step {
    const char* axis;
    std::size_t stride;
  };
  // Flat steps: near the end of a row a step in x meets the next row, which must be as independent.
  const Step steps[] = {{"x + 1", 1},
                        {"x + 2", 2},
                        {"x + 3", 3},
                        {"x + 4", 4},
                        {"x + 8", 8},
                        {"x + 32", 32},
                        {"y + 1", kColumns},
                        {"y + 1, x + 1", kColumns + 1},
                        {"y + 4", 4 * kColumns},
                        {"channel + 1", kRows * kColumns},
                        {"channel + 1, y + 1", (kRows + 1) * kColumns},
                        {"frame + 1", kChannels * kRows * kColumns},
                        {"frame + 1, channel + 1", (kChannels + 1) * kRows * kColumns}};
  for (const Step& step : steps) {
    const double errors = correlation_errors(
        z.size() - step.stride,
        [&](std::size_t i) { return double{z[i]}; },
        [&](std::size_t i) { return double{z[i + step.stride]}; });
    EXPECT_LT(errors, kLimit) << step.axis;
  }
}

TEST(NoiseStatisticsTest, EachPlaceInABlockIsNormalAndIndependentOfTheOthers) {
  const std::vector<float> z = grid(5, "latents", 4, 4, 128, 1024);
  const std::size_t blocks = z.size() / 4;
  for (std::size_t i = 0; i < 4; ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < blocks; ++k) {
      sum += z[(4 * k) + i];
    }
    EXPECT_LT(std::fabs(sum) / std::sqrt(static_cast<double>(blocks)), kLimit) << i;
    for (std::size_t j = i + 1; j < 4; ++j) {
      const double errors = correlation_errors(
          blocks,
          [&](std::size_t k) { return double{z[(4 * k) + i]}; },
          [&](std::size_t k) { return double{z[(4 * k) + j]}; });
      EXPECT_LT(errors, kLimit) << i << ' ' << j;
    }
  }
}

TEST(NoiseStatisticsTest, PairsFillTheSquareEvenly) {
  const std::vector<float> z = grid(6, "latents", 4, 8, 256, 512);
  constexpr std::size_t kSide = 32;
  std::vector<std::size_t> bin(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    bin[i] = std::min(kSide - 1, static_cast<std::size_t>(normal_cdf(z[i]) * kSide));
  }
  // Distances 1 and 2 within a block, 4 to the next block, 512 to the next row.
  for (const std::size_t distance : {1U, 2U, 4U, 512U, 512U * 256U}) {
    std::vector<std::uint64_t> counts(kSide * kSide);
    std::uint64_t total = 0;
    // Disjoint pairs: firsts and seconds alternate in runs of `distance`.
    for (std::size_t i = 0; i + distance < z.size(); ++i) {
      if ((i / distance) % 2 == 0) {
        counts[(bin[i] * kSide) + bin[i + distance]]++;
        ++total;
      }
    }
    EXPECT_LT(std::fabs(chi_square_errors(counts, static_cast<double>(total))), kLimit) << distance;
  }
}

TEST(NoiseStatisticsTest, StreamsAndConsecutiveSeedsAreIndependent) {
  constexpr std::uint32_t kColumns = 512;
  const auto draw = [](std::uint64_t seed, const char* name) {
    return grid(seed, name, 2, 4, 128, kColumns);
  };
  const std::vector<float> base = draw(0, "latents");
  const auto check = [&](const std::vector<float>& other, const std::string& what) {
    for (const std::size_t shift : {0U, 1U, 4U, kColumns}) {
      const double errors = correlation_errors(
          base.size() - shift,
          [&](std::size_t i) { return double{base[i]}; },
          [&](std::size_t i) { return double{other[i + shift]}; });
      EXPECT_LT(errors, kLimit) << what << " shift " << shift;
    }
  };
  for (const char* name : {"latents2", "latent", "Latents", "", "x"}) {
    check(draw(0, name), name);
  }
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    check(draw(seed, "latents"), "seed " + std::to_string(seed));
  }
  check(draw(std::uint64_t{1} << 32U, "latents"), "seed 2^32");
  check(draw(~std::uint64_t{0}, "latents"), "seed -1");
}

TEST(NoiseStatisticsTest, TheFirstNumberOfManySeedsIsNormal) {
  // A weak key schedule would show here: one number per seed.
  constexpr std::size_t kSeeds = 400000;
  std::vector<std::uint64_t> counts(200);
  double product = 0;
  double previous = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const double z = reference::normal_at(
        noise_key(seed, "latents", Draw::kNormal, Addressing::kGrid), 0, 0, 0, 0);
    counts[std::min<std::size_t>(199, static_cast<std::size_t>(normal_cdf(z) * 200))]++;
    product += z * previous;
    previous = z;
  }
  EXPECT_LT(std::fabs(chi_square_errors(counts, kSeeds)), kLimit);
  EXPECT_LT(std::fabs(product) / std::sqrt(double{kSeeds}), kLimit);
}

TEST(NoiseStatisticsTest, UniformNumbersAndBitsAreEven) {
  const NoiseKey key = noise_key(8, "mask", Draw::kUniform, Addressing::kFlat);
  constexpr std::size_t kCount = 4000000;
  std::vector<float> uniform(kCount);
  fill_uniform_flat(uniform.data(), key, 0, kCount);
  std::vector<std::uint64_t> counts(1000);
  for (const float value : uniform) {
    ASSERT_GE(value, 0.0F);
    ASSERT_LT(value, 1.0F);
    counts[static_cast<std::size_t>(value * 1000)]++;
  }
  EXPECT_LT(std::fabs(chi_square_errors(counts, kCount)), kLimit);
  std::vector<std::uint32_t> words(kCount);
  fill_bits_flat(words.data(), key, 0, kCount);
  for (int bit = 0; bit < 32; ++bit) {
    double ones = 0;
    for (const std::uint32_t word : words) {
      ones += (word >> bit) & 1U;
    }
    EXPECT_NEAR(ones, kCount / 2.0, kLimit * std::sqrt(kCount / 4.0)) << bit;
  }
}

}  // namespace
}  // namespace kinema::kernels
