// SPDX-License-Identifier: Apache-2.0
#include "world/evaluation.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "world/render.h"

namespace kinema::world {
namespace {

TEST(Rate, WilsonIntervalOfKnownCases) {
  // Newcombe 1998, table I, method 3.
  const auto [low, high] = Rate{81, 263}.interval();
  EXPECT_NEAR(low, 0.2553, 5e-5);
  EXPECT_NEAR(high, 0.3662, 5e-5);
  const auto [zero, top] = Rate{0, 20}.interval();
  EXPECT_NEAR(zero, 0.0, 1e-12);
  EXPECT_NEAR(top, 0.1611, 5e-5);
  EXPECT_EQ(Rate{}.interval(), (std::pair<double, double>(0, 1)));
}

TEST(Accuracy, CountsEveryAttributeAndAllOfThem) {
  Accuracy accuracy;
  Score right{true, true, true, true, true, true};
  accuracy.add(right);
  right.motion = false;
  accuracy.add(right);
  EXPECT_EQ(accuracy["motion"].right, 1);
  EXPECT_EQ(accuracy["all"].right, 1);
  EXPECT_EQ(accuracy["shape"].right, 2);
  EXPECT_EQ(accuracy["shape"].total, 2);
  EXPECT_EQ(accuracy.to_json()["all"]["rate"], 0.5);
  EXPECT_THROW(static_cast<void>(accuracy["taste"]), Error);
}

Tensor gaussian(std::int64_t count, const Tensor& scale_D, double shift, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn({count, scale_D.size(0)}, generator, at::kDouble) * scale_D + shift;
}

TEST(Frechet, DiagonalGaussiansHaveAClosedForm) {
  // Means 0 and 1 in 3 dimensions, deviations s and t: 3 + sum (s - t)^2.
  const Tensor s = at::tensor({1.0, 2.0, 0.5}, at::kDouble);
  const Tensor t = at::tensor({2.0, 1.0, 0.5}, at::kDouble);
  FeatureStatistics a;
  FeatureStatistics b;
  for (std::uint64_t part = 0; part < 4; ++part) {
    a.add(gaussian(50'000, s, 0, part));
    b.add(gaussian(50'000, t, 1, 100 + part));
  }
  EXPECT_NEAR(frechet_distance(a, b), 3 + 1 + 1, 0.05);
  EXPECT_NEAR(frechet_distance(a, a), 0, 1e-9);
  EXPECT_NEAR(frechet_distance(a, b), frechet_distance(b, a), 1e-9);
}

TEST(Frechet, MomentsEqualLibTorch) {
  const Tensor scale = at::ones({4}, at::kDouble);
  const Tensor x = gaussian(100, scale, 3, 7);
  FeatureStatistics statistics;
  statistics.add(x.narrow(0, 0, 33));
  statistics.add(x.narrow(0, 33, 67));
  EXPECT_TRUE(at::allclose(statistics.mean(), x.mean(0)));
  EXPECT_TRUE(at::allclose(statistics.covariance(), at::cov(x.t())));
}

TEST(Frechet, WrongInputIsRefused) {
  FeatureStatistics a;
  EXPECT_THROW(a.add(at::zeros({3})), Error);
  EXPECT_THROW(a.add(at::full({1, 3}, std::numeric_limits<double>::quiet_NaN())), Error);
  a.add(at::zeros({1, 3}));
  EXPECT_THROW(a.add(at::zeros({1, 4})), Error);
  FeatureStatistics b;
  b.add(at::zeros({5, 3}));
  EXPECT_THROW(static_cast<void>(frechet_distance(a, b)), Error);
}

TEST(PixelFeatures, SeparateMotionsAndIgnoreTheSizeOfTheClip) {
  FeatureStatistics seen;
  FeatureStatistics again;
  FeatureStatistics frozen;
  for (std::int64_t i = 0; i < 300; ++i) {
    const Tensor video = render(make_scene({}, 5, i));
    (i % 2 == 0 ? seen : again).add(pixel_features(video));
    frozen.add(pixel_features(video.narrow(1, 0, 1).expand_as(video)));
  }
  EXPECT_LT(frechet_distance(seen, again), frechet_distance(seen, frozen));
  const Tensor small = pixel_features(at::rand({3, 5, 32, 32}));
  EXPECT_EQ(small.sizes(), pixel_features(at::rand({3, 17, 64, 48})).sizes());
}

}  // namespace
}  // namespace kinema::world
