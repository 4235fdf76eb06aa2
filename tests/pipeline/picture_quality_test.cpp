// SPDX-License-Identifier: Apache-2.0
// PSNR and SSIM against numbers of a plain Python program that follows the paper's formula window
// by window.
#include "pipeline/picture_quality.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"

namespace kinema::pipeline {
namespace {

std::pair<Tensor, Tensor> two_pictures(std::int64_t height, std::int64_t width) {
  Tensor a = at::empty({height, width, 3}, at::kByte);
  Tensor b = at::empty({height, width, 3}, at::kByte);
  auto* pa = a.data_ptr<std::uint8_t>();
  auto* pb = b.data_ptr<std::uint8_t>();
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        const std::int64_t value = (x * 7 + y * 13 + c * 50 + (x * y) % 11 * 9) % 256;
        const std::int64_t other = value + (x * 31 + y * 17 + c * 5) % 41 - 20;
        *pa++ = static_cast<std::uint8_t>(value);
        *pb++ = static_cast<std::uint8_t>(std::clamp<std::int64_t>(other, 0, 255));
      }
    }
  }
  return {a, b};
}

TEST(PictureQualityTest, EqualsTheFormulas) {
  const auto [a, b] = two_pictures(24, 20);
  const PictureQuality quality = compare_pictures(a, b);
  EXPECT_NEAR(quality.psnr_db, 26.851570805664817, 1e-9);
  EXPECT_NEAR(quality.ssim, 0.9709344675878394, 1e-5);
  const auto [small_a, small_b] = two_pictures(8, 9);
  const PictureQuality small = compare_pictures(small_a, small_b);
  EXPECT_NEAR(small.psnr_db, 26.845823674407868, 1e-9);
  EXPECT_NEAR(small.ssim, 0.966320236125873, 1e-5) << "windows shrink with the picture";
}

TEST(PictureQualityTest, EqualPicturesAreBoundedAndOnePixelWorks) {
  const auto [a, b] = two_pictures(24, 20);
  EXPECT_EQ(compare_pictures(a, a).psnr_db, kMaxPsnr);
  EXPECT_NEAR(compare_pictures(a, a).ssim, 1.0, 1e-9);
  const Tensor dot = at::full({1, 1, 3}, 7, at::kByte);
  EXPECT_NEAR(compare_pictures(dot, dot + 1).psnr_db, 20 * std::log10(255.0), 1e-9);
  EXPECT_THROW(static_cast<void>(compare_pictures(a, dot)), Error);
}

TEST(PictureQualityTest, SeriesKnowTheirWorst) {
  const Series series{{30, 20, 40}};
  EXPECT_EQ(series.mean(), 30);
  EXPECT_EQ(series.min(), 20);
  EXPECT_EQ(series.index_of_min(), 1);
}

}  // namespace
}  // namespace kinema::pipeline
