// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/freenoise.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>

#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

constexpr FreeNoiseConfig kConfig = {.window = 8, .stride = 3};

Tensor frame(const Tensor& video, std::int64_t t) {
  return video.select(2, t);
}

TEST(FreeNoise, EveryBlockRepeatsTheBlockOneWindowEarlier) {
  const Tensor noise = normal("noise", {1, 2, 8, 2, 2});
  const auto orders = block_orders(3, "freenoise", num_noise_blocks(25, kConfig), kConfig.stride);
  const Tensor longer = extend_noise(noise, 25, kConfig, orders);
  ASSERT_EQ(longer.size(2), 25);
  EXPECT_TRUE(at::equal(longer.narrow(2, 0, 8), noise));
  for (std::int64_t p = 8; p + 3 <= 25; p += 3) {
    for (std::int64_t i = 0; i < 3; ++i) {
      int hits = 0;
      for (std::int64_t k = 0; k < 3; ++k) {
        hits += at::equal(frame(longer, p + i), frame(longer, p - 8 + k)) ? 1 : 0;
      }
      EXPECT_EQ(hits, 1) << "frame " << p + i;
    }
  }
}

// With the stride of the window each window is the first one in another order.
TEST(FreeNoise, WindowsHoldTheSameFrames) {
  const FreeNoiseConfig config = {.window = 4, .stride = 4};
  const Tensor noise = at::arange(4, at::kFloat).view({1, 1, 4, 1, 1});
  const Tensor longer = extend_noise(noise, 16, config, block_orders(1, "n", 3, 4));
  for (std::int64_t first = 0; first < 16; first += 4) {
    const Tensor sorted = std::get<0>(longer.narrow(2, first, 4).flatten().sort());
    EXPECT_TRUE(at::equal(sorted, noise.flatten()));
  }
}

TEST(FreeNoise, ShortVideosAreASlice) {
  const Tensor noise = normal("noise", {1, 2, 8, 2, 2});
  EXPECT_EQ(num_noise_blocks(8, kConfig), 0);
  EXPECT_TRUE(at::equal(extend_noise(noise, 5, kConfig, {}), noise.narrow(2, 0, 5)));
}

TEST(FreeNoise, OrdersArePermutationsAndRepeatable) {
  const auto orders = block_orders(11, "freenoise", 200, 5);
  EXPECT_EQ(orders, block_orders(11, "freenoise", 200, 5));
  EXPECT_NE(orders, block_orders(12, "freenoise", 200, 5));
  EXPECT_NE(orders, block_orders(11, "other", 200, 5));
  // A prefix does not depend on how many are drawn.
  const auto few = block_orders(11, "freenoise", 3, 5);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), orders.begin()));
  std::vector<int> first_is(5, 0);
  for (auto order : orders) {
    first_is[static_cast<std::size_t>(order[0])] += 1;
    std::ranges::sort(order);
    EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 4));
  }
  // 200 draws of 5 values: 40 each, standard deviation 5.7.
  for (const int count : first_is) {
    EXPECT_NEAR(count, 40, 24);
  }
}

TEST(FreeNoise, ErrorsNameTheSizes) {
  const Tensor noise = normal("noise", {1, 2, 8, 2, 2});
  const std::vector<std::vector<std::int64_t>> one = {{0, 1, 2}};
  const std::vector<std::vector<std::int64_t>> twice = {{0, 1, 1}};
  const std::vector<std::vector<std::int64_t>> short_one = {{0, 1}};
  EXPECT_EQ(error_code([&] { (void)extend_noise(noise, 12, kConfig, one); }), "freenoise.size");
  EXPECT_EQ(error_code([&] { (void)extend_noise(noise, 11, kConfig, twice); }), "freenoise.size");
  EXPECT_EQ(error_code([&] { (void)extend_noise(noise, 11, kConfig, short_one); }),
            "freenoise.size");
  EXPECT_EQ(error_code([&] { (void)extend_noise(noise.narrow(2, 0, 7), 11, kConfig, one); }),
            "tensor.shape");
  EXPECT_EQ(error_code([&] { (void)extend_noise(noise, 11, {.window = 8, .stride = 9}, one); }),
            "freenoise.size");
}

TEST(WindowedAttention, OneWindowIsPlainAttention) {
  const Tensor q = normal("q", {1, 2, 6, 4}, at::kDouble);
  const Tensor k = normal("k", {1, 2, 6, 4}, at::kDouble);
  const Tensor v = normal("v", {1, 2, 6, 4}, at::kDouble);
  const Tensor plain = at::matmul((at::matmul(q, k.transpose(-1, -2)) / 2.0).softmax(-1), v);
  const Tensor windowed = windowed_attention(q, k, v, plan_windows(6, 8, 4));
  EXPECT_TRUE(at::allclose(windowed, plain, 0.0, 1e-14));
}

}  // namespace
}  // namespace kinema::diffusion::test
