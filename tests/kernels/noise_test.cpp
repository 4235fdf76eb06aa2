// SPDX-License-Identifier: Apache-2.0
// Addressed noise: pinned numbers, windows that equal crops, and instruction sets that agree.
#include "core/kernels/noise.h"

#include <bit>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/noise_golden.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace kinema::kernels {
namespace {

constexpr Isa kAllIsas[] = {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512};
constexpr float kUntouched = -77.0F;

NoiseKey grid_key(std::uint64_t seed = 5) {
  return noise_key(seed, "latents", Draw::kNormal, Addressing::kGrid);
}

/// A contiguous [frames, channels, rows, columns] box.
NoiseRegion box(NoiseKey key,
                std::uint32_t frames,
                std::uint32_t channels,
                std::uint32_t rows,
                std::uint32_t columns) {
  NoiseRegion region;
  region.key = key;
  region.num_frames = frames;
  region.num_channels = channels;
  region.num_rows = rows;
  region.num_columns = columns;
  region.row_stride = columns;
  region.channel_stride = region.row_stride * rows;
  region.frame_stride = region.channel_stride * channels;
  return region;
}

std::size_t count(const NoiseRegion& region) {
  return count_rows(region) * region.num_columns;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) {
    bits.push_back(std::bit_cast<std::uint32_t>(value));
  }
  return bits;
}

class NoiseIsaTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_supported(GetParam())) {
      GTEST_SKIP() << "this CPU has no " << to_string(GetParam());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Isas, NoiseIsaTest, testing::ValuesIn(kAllIsas), [](const auto& test) {
  return std::string(to_string(test.param));
});

TEST(NoiseKeyTest, KeysArePinned) {
  for (const golden::KeyCase& want : golden::kKeys) {
    const NoiseKey key = noise_key(want.seed,
                                   want.name,
                                   static_cast<Draw>(want.draw),
                                   static_cast<Addressing>(want.addressing));
    EXPECT_EQ(key.low, want.low) << want.seed << want.name;
    EXPECT_EQ(key.high, want.high) << want.seed << want.name;
  }
}

TEST(NoiseKeyTest, SeedsNamesAndUsesNeverShareAKey) {
  std::set<std::uint64_t> keys;
  std::size_t tried = 0;
  for (const char* name : {"", "a", "b", "ab", "ba", "latents", "latents/0", "latents/1"}) {
    for (std::uint64_t seed = 0; seed < 1000; ++seed) {
      for (const Draw draw : {Draw::kNormal, Draw::kUniform, Draw::kBits}) {
        for (const Addressing addressing : {Addressing::kGrid, Addressing::kFlat}) {
          const NoiseKey key = noise_key(seed, name, draw, addressing);
          keys.insert((std::uint64_t{key.high} << 32U) | key.low);
          ++tried;
        }
      }
    }
  }
  EXPECT_EQ(keys.size(), tried);
}

TEST(NoiseKeyTest, OneBitOfTheSeedChangesHalfOfTheKey) {
  double changed = 0;
  constexpr int kSeeds = 500;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (int bit = 0; bit < 64; ++bit) {
      const NoiseKey a = grid_key(seed);
      const NoiseKey b = grid_key(seed ^ (std::uint64_t{1} << bit));
      changed += std::popcount(a.low ^ b.low) + std::popcount(a.high ^ b.high);
    }
  }
  EXPECT_NEAR(changed / (kSeeds * 64), 32.0, 0.2);
}

TEST_P(NoiseIsaTest, NumbersArePinned) {
  for (const golden::GridCase& want : golden::kGrid) {
    NoiseRegion region = box(grid_key(want.seed), 1, 1, 1, 1);
    region.first_frame = want.frame;
    region.first_channel = want.channel;
    region.first_row = want.row;
    region.first_column = want.column;
    float value = kUntouched;
    fill_normal(&value, region, {}, GetParam());
    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), want.bits) << want.column;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(reference::normal_at(
                  region.key, want.frame, want.channel, want.row, want.column)),
              want.bits);
  }
  for (const golden::FlatCase& want : golden::kFlat) {
    const NoiseKey key = noise_key(want.seed, "latents", Draw::kNormal, Addressing::kFlat);
    float value = kUntouched;
    fill_normal_flat(&value, key, want.index, 1, GetParam());
    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), want.bits) << want.index;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(reference::normal_at(key, want.index)), want.bits);
  }
}

TEST_P(NoiseIsaTest, RandomRegionsEqualTheReferenceBitForBit) {
  std::mt19937 random(1);
  const auto below = [&](std::uint32_t bound) {
    return static_cast<std::uint32_t>(random() % bound);
  };
  for (int round = 0; round < 300; ++round) {
    NoiseRegion region =
        box(grid_key(random()), 1 + below(3), 1 + below(4), 1 + below(5), 1 + below(150));
    region.first_frame = below(1000);
    region.first_channel = below(16);
    region.first_row = below(200);
    region.first_column = round % 3 == 0 ? 0xFFFFFFFFU - region.num_columns + 1 : below(300);
    std::vector<float> got(count(region), kUntouched);
    std::vector<float> want(count(region), kUntouched);
    fill_normal(got.data(), region, {}, GetParam());
    reference::fill_normal(want.data(), region);
    ASSERT_EQ(bits_of(got), bits_of(want)) << "round " << round;
  }
}

TEST_P(NoiseIsaTest, AnyWindowIsTheCropOfTheWhole) {
  const NoiseRegion whole = box(grid_key(), 5, 4, 13, 70);
  std::vector<float> all(count(whole));
  fill_normal(all.data(), whole, {}, GetParam());
  std::mt19937 random(2);
  for (int round = 0; round < 400; ++round) {
    const auto cut = [&](std::uint32_t size, std::uint32_t& first, std::uint32_t& num) {
      first = static_cast<std::uint32_t>(random() % size);
      num = 1 + static_cast<std::uint32_t>(random() % (size - first));
    };
    NoiseRegion window = whole;
    cut(5, window.first_frame, window.num_frames);
    cut(4, window.first_channel, window.num_channels);
    cut(13, window.first_row, window.num_rows);
    cut(70, window.first_column, window.num_columns);
    // The strides of the whole stay: the window is written in place over a blank.
    std::vector<float> got(all.size(), kUntouched);
    const auto offset = (window.first_frame * whole.frame_stride) +
                        (window.first_channel * whole.channel_stride) +
                        (window.first_row * whole.row_stride) + window.first_column;
    fill_normal(got.data() + offset, window, {}, GetParam());
    std::vector<float> want(all.size(), kUntouched);
    for (std::uint32_t t = window.first_frame; t < window.first_frame + window.num_frames; ++t) {
      for (std::uint32_t c = window.first_channel; c < window.first_channel + window.num_channels;
           ++c) {
        for (std::uint32_t y = window.first_row; y < window.first_row + window.num_rows; ++y) {
          const auto row =
              (t * whole.frame_stride) + (c * whole.channel_stride) + (y * whole.row_stride);
          for (std::uint32_t x = window.first_column; x < window.first_column + window.num_columns;
               ++x) {
            want[static_cast<std::size_t>(row + x)] = all[static_cast<std::size_t>(row + x)];
          }
        }
      }
    }
    ASSERT_EQ(bits_of(got), bits_of(want)) << "round " << round;
  }
}

TEST_P(NoiseIsaTest, StridesPlaceNumbersAndTouchNothingElse) {
  // Columns outermost and rows backwards: [columns, frames, channels, rows] in gaps of two.
  NoiseRegion region = box(grid_key(), 2, 3, 4, 37);
  const std::vector<float> want = [&] {
    std::vector<float> numbers(count(region));
    reference::fill_normal(numbers.data(), region);
    return numbers;
  }();
  region.row_stride = -2;
  region.channel_stride = 2 * 4;
  region.frame_stride = region.channel_stride * 3;
  region.column_stride = region.frame_stride * 2;
  std::vector<float> got(37 * 2 * 3 * 4 * 2, kUntouched);
  fill_normal(got.data() + 6, region, {}, GetParam());
  std::size_t i = 0;
  for (std::size_t t = 0; t < 2; ++t) {
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t y = 0; y < 4; ++y) {
        for (std::size_t x = 0; x < 37; ++x) {
          const std::size_t at = (x * 48) + (t * 24) + (c * 8) + 6 - (2 * y);
          ASSERT_EQ(got[at], want[i++]);
          ASSERT_EQ(got[at + 1], kUntouched);
        }
      }
    }
  }
}

TEST_P(NoiseIsaTest, RowRangesAndThreadsChangeNothing) {
  const NoiseRegion region = box(grid_key(), 3, 5, 7, 53);
  std::vector<float> want(count(region));
  fill_normal(want.data(), region, {}, GetParam());
  for (const std::uint64_t num_threads : {1U, 2U, 3U, 8U, 200U}) {
    std::vector<float> got(count(region), kUntouched);
    std::vector<std::thread> threads;
    const std::uint64_t rows = count_rows(region);
    for (std::uint64_t i = 0; i < num_threads; ++i) {
      threads.emplace_back([&, i] {
        fill_normal(got.data(),
                    region,
                    {.begin = rows * i / num_threads, .end = rows * (i + 1) / num_threads},
                    GetParam());
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_EQ(bits_of(got), bits_of(want)) << num_threads;
  }
}

TEST_P(NoiseIsaTest, FlatStreamsEqualTheReferenceAcrossTheirSeams) {
  const NoiseKey key = noise_key(11, "mask", Draw::kNormal, Addressing::kFlat);
  const std::uint64_t starts[] = {0,
                                  1,
                                  3,
                                  1000003,
                                  (std::uint64_t{1} << 32U) - 30,
                                  (std::uint64_t{1} << 34U) - 301,
                                  (std::uint64_t{5} << 34U) - 2,
                                  UINT64_MAX - 499};
  for (const std::uint64_t start : starts) {
    for (const std::size_t size : {0U, 1U, 5U, 64U, 499U, 500U}) {
      std::vector<float> got(size + 1, kUntouched);
      std::vector<std::uint32_t> words(size);
      fill_normal_flat(got.data(), key, start, size, GetParam());
      fill_bits_flat(words.data(), key, start, size, GetParam());
      for (std::size_t i = 0; i < size; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]),
                  std::bit_cast<std::uint32_t>(reference::normal_at(key, start + i)));
        ASSERT_EQ(words[i], reference::bits_at(key, start + i));
      }
      ASSERT_EQ(got[size], kUntouched);
    }
  }
}

TEST_P(NoiseIsaTest, UniformAndBitsEqualTheReference) {
  NoiseRegion region = box(grid_key(), 2, 3, 5, 91);
  region.first_column = 6;
  std::vector<float> uniform(count(region));
  std::vector<std::uint32_t> words(count(region));
  fill_uniform(uniform.data(), region, {}, GetParam());
  fill_bits(words.data(), region, {}, GetParam());
  std::size_t i = 0;
  for (std::uint32_t t = 0; t < 2; ++t) {
    for (std::uint32_t c = 0; c < 3; ++c) {
      for (std::uint32_t y = 0; y < 5; ++y) {
        for (std::uint32_t x = 0; x < 91; ++x, ++i) {
          ASSERT_EQ(words[i], reference::bits_at(region.key, t, c, y, x + 6));
          ASSERT_EQ(uniform[i], static_cast<float>(words[i] >> 8U) * 0x1p-24F);
        }
      }
    }
  }
  std::vector<float> flat(100);
  fill_uniform_flat(flat.data(), region.key, 7, 100, GetParam());
  for (std::size_t k = 0; k < flat.size(); ++k) {
    ASSERT_EQ(flat[k], static_cast<float>(reference::bits_at(region.key, 7 + k) >> 8U) * 0x1p-24F);
  }
}

TEST_P(NoiseIsaTest, EmptyRegionsWriteNothing) {
  for (int axis = 0; axis < 4; ++axis) {
    NoiseRegion region = box(grid_key(), 2, 2, 2, 8);
    (axis == 0   ? region.num_frames
     : axis == 1 ? region.num_channels
     : axis == 2 ? region.num_rows
                 : region.num_columns) = 0;
    std::vector<float> out(64, kUntouched);
    fill_normal(out.data(), region, {}, GetParam());
    EXPECT_EQ(out, std::vector<float>(64, kUntouched)) << axis;
  }
}

#if defined(__SSE2__)
TEST_P(NoiseIsaTest, FlushToZeroModesChangeNothing) {
  const NoiseRegion region = box(grid_key(), 4, 4, 64, 256);
  std::vector<float> want(count(region));
  fill_normal(want.data(), region, {}, GetParam());
  std::vector<float> got(count(region));
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040U);
  fill_normal(got.data(), region, {}, GetParam());
  _mm_setcsr(mode);
  EXPECT_EQ(bits_of(got), bits_of(want));
}
#endif

TEST(NoiseTest, AnUnsupportedIsaRunsTheBestOneWithTheSameBits) {
  const NoiseRegion region = box(grid_key(), 2, 3, 4, 77);
  std::vector<float> want(count(region));
  reference::fill_normal(want.data(), region);
  for (const Isa isa : kAllIsas) {
    std::vector<float> got(count(region));
    fill_normal(got.data(), region, {}, isa);
    EXPECT_EQ(bits_of(got), bits_of(want)) << to_string(isa);
  }
  EXPECT_TRUE(is_supported(Isa::kBaseline));
  EXPECT_TRUE(is_supported(best_isa()));
}

}  // namespace
}  // namespace kinema::kernels
