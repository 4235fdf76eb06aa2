// SPDX-License-Identifier: Apache-2.0
#include "world/render.h"

#include <cmath>
#include <cstdlib>
#include <numbers>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/io/image.h"

namespace kinema::world {
namespace {

TEST(SignedDistanceTest, AllShapesHaveOneAreaAndTheirCentroidAtTheOrigin) {
  constexpr std::int64_t kSide = 1000;
  const Tensor grid = (at::arange(kSide, at::kFloat) + 0.5) * (3.6 / kSide) - 1.8;
  const Tensor x = grid.view({1, -1}).expand({kSide, kSide});
  const Tensor y = grid.view({-1, 1}).expand({kSide, kSide});
  const double cell = (3.6 / kSide) * (3.6 / kSide);
  for (std::size_t i = 0; i < kShapeNames.size(); ++i) {
    const auto shape = static_cast<Shape>(i);
    const Tensor inside = (signed_distance(shape, x, y) < 0).to(at::kDouble);
    const double area = inside.sum().item<double>() * cell;
    EXPECT_NEAR(area, 0.8 * std::numbers::pi, 0.01) << kShapeNames[i];
    EXPECT_NEAR((inside * x).sum().item<double>() * cell / area, 0, 0.004) << kShapeNames[i];
    EXPECT_NEAR((inside * y).sum().item<double>() * cell / area, 0, 0.004) << kShapeNames[i];
    const double reach = ((x * x + y * y).sqrt() * inside).max().item<double>();
    EXPECT_NEAR(reach, extent_of(shape), 0.01) << kShapeNames[i];
  }
}

TEST(SignedDistanceTest, IsADistanceNearTheOutline) {
  // The gradient of a distance has length 1; anti-aliasing relies on it close to the outline.
  constexpr std::int64_t kSide = 400;
  const double step = 3.2 / kSide;
  const Tensor grid = (at::arange(kSide, at::kDouble) + 0.5) * step - 1.6;
  const Tensor x = grid.view({1, -1}).expand({kSide, kSide});
  const Tensor y = grid.view({-1, 1}).expand({kSide, kSide});
  for (std::size_t i = 0; i < kShapeNames.size(); ++i) {
    const Tensor d = signed_distance(static_cast<Shape>(i), x, y);
    const Tensor gx =
        (d.slice(1, 2) - d.slice(1, 0, kSide - 2)).slice(0, 1, kSide - 1) / (2 * step);
    const Tensor gy =
        (d.slice(0, 2) - d.slice(0, 0, kSide - 2)).slice(1, 1, kSide - 1) / (2 * step);
    const Tensor near = d.slice(0, 1, kSide - 1).slice(1, 1, kSide - 1).abs() < 0.06;
    const Tensor error = ((gx * gx + gy * gy).sqrt() - 1).abs().masked_select(near);
    EXPECT_LT(error.quantile(0.95).item<double>(), 0.05) << kShapeNames[i];
  }
}

TEST(RenderTest, IsDeterministicAndAnyWindowIsTheCropOfTheWhole) {
  const Scene scene = make_scene({.width = 40,
                                  .height = 48,
                                  .frames = 9,
                                  .max_objects = 3,
                                  .textured_probability = 0.5,
                                  .shadow_probability = 1},
                                 5,
                                 11);
  const Tensor whole = render(scene);
  EXPECT_EQ(whole.sizes(), (at::IntArrayRef{3, 9, 48, 40}));
  EXPECT_TRUE(at::equal(whole,
                        render(make_scene({.width = 40,
                                           .height = 48,
                                           .frames = 9,
                                           .max_objects = 3,
                                           .textured_probability = 0.5,
                                           .shadow_probability = 1},
                                          5,
                                          11))));
  EXPECT_TRUE(at::equal(whole.narrow(1, 3, 4), render(scene, 3, 4)));
  EXPECT_GE(whole.min().item<float>(), 0);
  EXPECT_LE(whole.max().item<float>(), 1);
}

TEST(RenderTest, DrawsTheObjectWhereTheSceneSaysInItsColour) {
  WorldConfig config{.gradient_probability = 0};
  for (std::int64_t i = 0; i < 50; ++i) {
    const Scene scene = make_scene(config, 1, i);
    const Tensor video = render(scene);
    const Object& object = scene.objects[0];
    for (const std::int64_t f : {std::int64_t{0}, scene.frames - 1}) {
      const Pose pose = scene.pose(0, f);
      const Tensor background =
          at::tensor({scene.background_rgb[0], scene.background_rgb[1], scene.background_rgb[2]});
      const Tensor colour = at::tensor({object.rgb[0], object.rgb[1], object.rgb[2]});
      const Tensor axis = colour - background;
      const Tensor matte =
          ((video.select(1, f) - background.view({3, 1, 1})) * axis.view({3, 1, 1})).sum(0) /
          axis.square().sum();
      const double expected = 0.8 * std::numbers::pi * pose.radius * pose.radius;
      EXPECT_NEAR(matte.sum().item<double>() / expected, 1, 0.06)
          << kShapeNames[static_cast<std::size_t>(object.shape)];
      const Tensor columns = at::arange(64, at::kFloat) + 0.5;
      EXPECT_NEAR(
          (matte.sum(0) * columns).sum().item<double>() / matte.sum().item<double>(), pose.x, 0.6);
    }
  }
}

// With KINEMA_TEST_PICTURES=FOLDER the frames are written there, to be looked at.
TEST(RenderTest, ContactSheet) {
  std::vector<Tensor> rows;
  for (std::int64_t i = 0; i < 16; ++i) {
    const WorldConfig config{.max_objects = i < 8 ? 1 : 3,
                             .textured_probability = i < 8 ? 0.0 : 0.4,
                             .shadow_probability = i < 8 ? 0.0 : 0.5};
    const Tensor video = render(make_scene(config, 3, i));
    rows.push_back(video.slice(1, 0, 17, 4).permute({0, 2, 1, 3}).flatten(2));
  }
  const std::vector<Tensor> single(rows.begin(), rows.begin() + 8);
  const std::vector<Tensor> several(rows.begin() + 8, rows.end());
  const Tensor sheet_CHW = at::cat({at::cat(single, 1), at::cat(several, 1)}, 2);
  const Tensor bytes = (sheet_CHW * 255).round().to(at::kByte).permute({1, 2, 0}).contiguous();
  EXPECT_EQ(bytes.size(0), 512);
  if (const char* folder = std::getenv("KINEMA_TEST_PICTURES")) {
    io::Image image;
    image.width = bytes.size(1);
    image.height = bytes.size(0);
    image.channels = 3;
    image.pixels.assign(bytes.data_ptr<std::uint8_t>(),
                        bytes.data_ptr<std::uint8_t>() + bytes.numel());
    io::write_png(std::string(folder) + "/world.png", image);
  }
}

}  // namespace
}  // namespace kinema::world
