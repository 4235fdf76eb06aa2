// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/pictures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

TEST(Pictures, BytesAreRoundedAndClamped) {
  const Tensor video = at::tensor({-1.0F, 0.5F, 2.0F}).view({3, 1, 1, 1});
  const Tensor bytes = to_bytes(video);
  EXPECT_EQ(bytes.sizes(), (std::vector<std::int64_t>{1, 1, 1, 3}));
  EXPECT_TRUE(at::equal(bytes.flatten(), at::tensor({0, 128, 255}, at::kByte)));
}

TEST(Pictures, SheetShowsFirstAndLastFrameOfEveryVideo) {
  // Video v is grey, frame f has the value (10 v + f) / 255.
  std::vector<Tensor> videos;
  for (int v = 0; v < 2; ++v) {
    videos.push_back(
        ((at::arange(5, at::kFloat) + 10 * v) / 255).view({1, 5, 1, 1}).expand({3, 5, 4, 6}));
  }
  const io::Image sheet = contact_sheet(videos, 3);
  EXPECT_EQ(sheet.width, 2 + 3 * (6 + 2));
  EXPECT_EQ(sheet.height, 2 + 2 * (4 + 2));
  const auto at_pixel = [&](std::int64_t row, std::int64_t column) {
    const std::int64_t y = 2 + row * 6 + 1;
    const std::int64_t x = 2 + column * 8 + 3;
    return static_cast<int>(sheet.pixels[static_cast<std::size_t>((y * sheet.width + x) * 3)]);
  };
  EXPECT_EQ(at_pixel(0, 0), 0);
  EXPECT_EQ(at_pixel(0, 1), 2);
  EXPECT_EQ(at_pixel(0, 2), 4);
  EXPECT_EQ(at_pixel(1, 0), 10);
  EXPECT_EQ(at_pixel(1, 2), 14);
}

TEST(Pictures, VideosOfTwoSizesAreRefused) {
  EXPECT_THROW(
      static_cast<void>(contact_sheet({at::zeros({3, 1, 4, 4}), at::zeros({3, 1, 4, 5})}, 1)),
      Error);
}

}  // namespace
}  // namespace kinema::tensor
