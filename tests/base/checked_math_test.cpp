// SPDX-License-Identifier: Apache-2.0
#include "core/base/checked_math.h"

#include <array>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

namespace kinema {
namespace {

constexpr auto kMax = std::numeric_limits<std::int64_t>::max();

TEST(CheckedMathTest, SaysWhenASumOverflows) {
  EXPECT_EQ(checked_add<std::int64_t>(2, 3), 5);
  EXPECT_EQ(checked_add<std::int64_t>(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_add<std::uint64_t>(~0ULL, 1ULL), std::nullopt);
}

TEST(CheckedMathTest, SaysWhenAProductOverflows) {
  EXPECT_EQ(checked_mul<std::int64_t>(1LL << 31, 1LL << 31), 1LL << 62);
  EXPECT_EQ(checked_mul<std::int64_t>(1LL << 32, 1LL << 31), std::nullopt);
}

TEST(CheckedMathTest, ProductOfAShape) {
  using Sizes = std::array<std::int64_t, 3>;
  EXPECT_EQ(checked_product<std::int64_t>(Sizes{2, 3, 5}), 30);
  EXPECT_EQ(checked_product<std::int64_t>({}), 1);
  // A zero makes the product zero, whatever the others would overflow to.
  EXPECT_EQ(checked_product<std::int64_t>(Sizes{kMax, kMax, 0}), 0);
  EXPECT_EQ(checked_product<std::int64_t>(Sizes{kMax, 2, 1}), std::nullopt);
}

}  // namespace
}  // namespace kinema
