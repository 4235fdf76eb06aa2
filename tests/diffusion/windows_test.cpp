// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/windows.h"

#include <gmock/gmock.h>

#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

TEST(WindowPlan, CoversEveryFrameAndEndsWithTheVideo) {
  for (std::int64_t frames = 1; frames <= 40; ++frames) {
    for (std::int64_t window = 1; window <= 17; ++window) {
      for (std::int64_t stride = 1; stride <= window; ++stride) {
        const auto plan = plan_windows(frames, window, stride);
        ASSERT_EQ(plan.front().first, 0);
        ASSERT_EQ(plan.back().end(), frames);
        for (std::size_t j = 0; j < plan.size(); ++j) {
          ASSERT_EQ(plan[j].length, std::min(window, frames));
          ASSERT_EQ(plan[j].index, static_cast<std::int64_t>(j));
          if (j > 0) {
            const std::int64_t step = plan[j].first - plan[j - 1].first;
            ASSERT_GE(step, 1);
            ASSERT_LE(step, stride);
          }
        }
        // None is superfluous: without its last window the plan would not reach the end.
        if (plan.size() > 1) {
          ASSERT_LT(plan[plan.size() - 2].end(), frames);
        }
      }
    }
  }
}

TEST(WindowPlan, RefusesImpossibleSizes) {
  for (const auto& [frames, window, stride] :
       {std::array<std::int64_t, 3>{0, 4, 2}, {8, 4, 0}, {8, 4, 5}, {8, 0, 0}, {-1, 4, 2}}) {
    EXPECT_EQ(error_code([&] { (void)plan_windows(frames, window, stride); }), "windows.size");
  }
}

TEST(WindowWeights, SumToOnePerFrame) {
  for (const auto weights :
       {WindowWeights::kFlat, WindowWeights::kTriangular, WindowWeights::kRamp}) {
    const auto plan = plan_windows(29, 8, 5);
    const auto factors = normalised_weights(plan, 29, weights);
    std::vector<double> sums(29, 0.0);
    for (std::size_t j = 0; j < plan.size(); ++j) {
      for (std::size_t i = 0; i < factors[j].size(); ++i) {
        EXPECT_GT(factors[j][i], 0.0);
        sums[static_cast<std::size_t>(plan[j].first) + i] += factors[j][i];
      }
    }
    for (const double sum : sums) {
      EXPECT_NEAR(sum, 1.0, 1e-15);
    }
    EXPECT_EQ(factors[0][0], 1.0);  // the first frame has one window
  }
}

TEST(WindowWeights, NameGapsAndOverhangs) {
  const std::vector<Window> gap = {{.first = 0, .length = 3}, {.first = 4, .length = 3}};
  EXPECT_EQ(error_code([&] { (void)normalised_weights(gap, 7, WindowWeights::kFlat); }),
            "windows.coverage");
  EXPECT_EQ(error_code([&] { (void)normalised_weights(gap, 5, WindowWeights::kFlat); }),
            "windows.coverage");
  EXPECT_EQ(error_code([&] { (void)normalised_weights({}, 5, WindowWeights::kFlat); }),
            "windows.coverage");
}

TEST(MergeWindows, GivesBackWhatAllWindowsAgreeOn) {
  const Tensor video = normal("video", {2, 3, 21, 2, 2}, at::kDouble);
  const auto plan = plan_windows(21, 8, 6);
  std::vector<Tensor> parts;
  for (const Window& window : plan) {
    parts.push_back(video.narrow(2, window.first, window.length));
  }
  for (const auto weights :
       {WindowWeights::kFlat, WindowWeights::kTriangular, WindowWeights::kRamp}) {
    EXPECT_TRUE(at::allclose(merge_windows(parts, plan, weights, 2), video, 0.0, 1e-14));
  }
  parts.back() = parts.back().narrow(2, 0, 3);
  EXPECT_EQ(error_code([&] { (void)merge_windows(parts, plan, WindowWeights::kFlat, 2); }),
            "windows.shape");
}

class FusedSampling : public ::testing::TestWithParam<std::size_t> {};

// One window that holds the whole video is plain sampling, to the bit, for every sampler.
TEST_P(FusedSampling, OneWindowIsPlainSampling) {
  const NamedSampler named = all_samplers(6)[GetParam()];
  SCOPED_TRACE(named.name);
  const auto plain = scheduled(named);
  const auto fused = scheduled(named);
  const GaussianData data{.mu = normal("mu", {1, 2, 5, 2, 2})};
  for (const auto weights : {WindowWeights::kFlat, WindowWeights::kTriangular}) {
    plain->reset();
    fused->reset();
    const FusedPredictor predictor(plan_windows(5, 8, 4), weights);
    Tensor x = normal("start", {1, 2, 5, 2, 2}) * plain->init_noise_sigma();
    Tensor y = x;
    for (std::int64_t i = 0; i < plain->num_steps(); ++i) {
      const Tensor noise = noise_if_needed(*plain, i, x);
      x = plain->step(predict_for(*plain, data, x, i), i, x, noise).sample;
      const Tensor out = predictor.predict(
          y, at::zeros({1}), [&](const Tensor& crop, const Tensor&, const Window&) {
            return predict_for(*fused, data, crop, i);
          });
      y = fused->step(out, i, y, noise).sample;
    }
    EXPECT_TRUE(at::equal(x, y));
  }
}

// A network that works frame by frame does not notice windows.
TEST_P(FusedSampling, WindowsDoNotChangeAFrameWiseNetwork) {
  const NamedSampler named = all_samplers(6)[GetParam()];
  SCOPED_TRACE(named.name);
  const auto plain = scheduled(named);
  const auto fused = scheduled(named);
  const GaussianData data{.mu = normal("mu", {1, 2, 13, 2, 2}, at::kDouble)};
  const FusedPredictor predictor(plan_windows(13, 6, 4), WindowWeights::kTriangular);
  Tensor x = normal("start", {1, 2, 13, 2, 2}, at::kDouble) * plain->init_noise_sigma();
  Tensor y = x;
  for (std::int64_t i = 0; i < plain->num_steps(); ++i) {
    const Tensor noise = noise_if_needed(*plain, i, x);
    x = plain->step(predict_for(*plain, data, x, i), i, x, noise).sample;
    const Tensor out = predictor.predict(
        y, at::zeros({1}), [&](const Tensor& crop, const Tensor&, const Window& w) {
          const GaussianData part{.mu = data.mu.narrow(2, w.first, w.length)};
          return predict_for(*fused, part, crop, i);
        });
    y = fused->step(out, i, y, noise).sample;
  }
  EXPECT_TRUE(at::allclose(x, y, 1e-10, 1e-10));
}

INSTANTIATE_TEST_SUITE_P(AllSamplers,
                         FusedSampling,
                         ::testing::Range<std::size_t>(0, all_samplers(6).size()));

TEST(FusedPredictorTest, HandsOutCropsTimesAndWindows) {
  const FusedPredictor predictor(plan_windows(7, 4, 3), WindowWeights::kFlat);
  const Tensor x = normal("x", {2, 1, 7, 1, 1});
  const Tensor times_BT = at::arange(14, at::kFloat).view({2, 7});
  std::vector<std::int64_t> firsts;
  const Tensor out = predictor.predict(
      x, times_BT, [&](const Tensor& crop, const Tensor& times, const Window& window) {
        EXPECT_TRUE(at::equal(crop, x.narrow(2, window.first, 4)));
        EXPECT_TRUE(at::equal(times, times_BT.narrow(1, window.first, 4)));
        firsts.push_back(window.first);
        return at::cat({crop, crop}, 1).to(at::kBFloat16);
      });
  EXPECT_THAT(firsts, ::testing::ElementsAre(0, 3));
  EXPECT_EQ(out.size(1), 2);
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_EQ(error_code([&] {
              (void)predictor.predict(
                  x.narrow(2, 0, 6),
                  times_BT,
                  [](const Tensor& crop, const Tensor&, const Window&) { return crop; });
            }),
            "tensor.shape");
}

}  // namespace
}  // namespace kinema::diffusion::test
