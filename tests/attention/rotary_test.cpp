// SPDX-License-Identifier: Apache-2.0
#include "core/attention/rotary.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "core/base/error.h"

namespace kinema::attention {
namespace {

at::Generator seeded() {
  return at::make_generator<at::CPUGeneratorImpl>(9);
}

double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Rotary, RotatesThePairsByTheAngle) {
  const Tensor x = at::randn({1, 3, 1, 8}, seeded(), at::kFloat);
  const RotaryTable table = rotary_table(at::tensor({0.0F, 1.0F, 2.5F}), rotary_frequencies(8));
  const Tensor turned = apply_rotary(x, table);
  const Tensor halves = apply_rotary(x, table, RotaryPairs::kHalves);
  for (int l = 0; l < 3; ++l) {
    for (int j = 0; j < 4; ++j) {
      const double position = l == 2 ? 2.5 : l;
      const double angle = position * std::pow(10000.0, -2.0 * j / 8.0);
      const auto value = [&](const Tensor& tensor, int k) {
        return tensor[0][l][0][k].item<double>();
      };
      const double c = std::cos(angle);
      const double s = std::sin(angle);
      EXPECT_NEAR(value(turned, 2 * j), value(x, 2 * j) * c - value(x, 2 * j + 1) * s, 1e-6);
      EXPECT_NEAR(value(turned, 2 * j + 1), value(x, 2 * j + 1) * c + value(x, 2 * j) * s, 1e-6);
      EXPECT_NEAR(value(halves, j), value(x, j) * c - value(x, j + 4) * s, 1e-6);
      EXPECT_NEAR(value(halves, j + 4), value(x, j + 4) * c + value(x, j) * s, 1e-6);
    }
  }
}

TEST(Rotary, ProductsDependOnDistanceOnly) {
  auto generator = seeded();
  const Tensor q = at::randn({12}, generator, at::kFloat).expand({1, 6, 1, 12});
  const Tensor k = at::randn({12}, generator, at::kFloat).expand({1, 6, 1, 12});
  const RotaryTable table = rotary_table(at::arange(6, at::kFloat), rotary_frequencies(12));
  const Tensor products =
      at::einsum("blnk,bmnk->lm", {apply_rotary(q, table), apply_rotary(k, table)});
  for (int distance = 0; distance < 5; ++distance) {
    for (int l = 0; l + distance < 6; ++l) {
      EXPECT_NEAR(
          products[l][l + distance].item<double>(), products[0][distance].item<double>(), 1e-5);
    }
  }
}

TEST(Rotary, LeavesOtherChannelsAlone) {
  const Tensor x = at::randn({2, 4, 3, 10}, seeded(), at::kFloat);
  const Tensor turned =
      apply_rotary(x, rotary_table(at::arange(4, at::kFloat), rotary_frequencies(6)));
  EXPECT_TRUE(at::equal(turned.narrow(-1, 6, 4), x.narrow(-1, 6, 4)));
  EXPECT_GT(worst(turned.narrow(-1, 0, 6), x.narrow(-1, 0, 6)), 0.1);
}

TEST(Rotary, GridTableHasOneAngleForEachAxis) {
  // 16 channels: 8 pairs, 4 for frames, 2 each for rows and columns.
  const RotaryTable table = rotary_table_3d(2, 3, 4, 16);
  EXPECT_EQ(table.length(), 24);
  EXPECT_EQ(table.width(), 16);
  const Tensor sin = table.sin_LJ.view({2, 3, 4, 8});
  for (int t = 0; t < 2; ++t) {
    for (int h = 0; h < 3; ++h) {
      for (int w = 0; w < 4; ++w) {
        EXPECT_NEAR(sin[t][h][w][0].item<double>(), std::sin(t), 1e-6);
        EXPECT_NEAR(sin[t][h][w][4].item<double>(), std::sin(h), 1e-6);
        EXPECT_NEAR(sin[t][h][w][6].item<double>(), std::sin(w), 1e-6);
        EXPECT_NEAR(sin[t][h][w][7].item<double>(), std::sin(w * 0.01), 1e-6);
      }
    }
  }
}

TEST(Rotary, RefusesAnotherLength) {
  const RotaryTable table = rotary_table(at::arange(4, at::kFloat), rotary_frequencies(6));
  EXPECT_THROW((void)apply_rotary(at::zeros({1, 5, 1, 6}), table), Error);
}

}  // namespace
}  // namespace kinema::attention
