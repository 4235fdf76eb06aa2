// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/losses.h"

#include <cmath>

#include <gmock/gmock.h>

#include "core/diffusion/noise_schedule.h"
#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

const std::vector<std::int64_t> kShape = {2, 3, 4, 2, 2};

Tensor frame_mask() {
  return at::tensor({1, 0, 1, 1, 0, 0, 0, 0}, at::kInt).to(at::kBool).view({2, 4});
}

TEST(LossesTest, MeanCountsGeneratedFramesOnly) {
  const Tensor values = normal("values", kShape, at::kDouble);
  const Tensor mean = mean_of_frames(values, frame_mask());
  const Tensor kept = at::cat({values[0].narrow(1, 0, 1), values[0].narrow(1, 2, 2)}, 1);
  EXPECT_NEAR(mean[0].item<double>(), kept.mean().item<double>(), 1e-14);
  EXPECT_EQ(mean[1].item<double>(), 0.0);  // nothing to generate
  EXPECT_TRUE(at::allclose(mean_of_frames(values), values.flatten(1).mean(1)));
}

TEST(LossesTest, PerfectPredictionsHaveNoLoss) {
  const Tensor x0 = normal("x0", kShape, at::kDouble);
  const Tensor noise = normal("noise", kShape, at::kDouble);
  EXPECT_EQ(rflow_loss(x0 - noise, x0, noise).sum().item<double>(), 0.0);
  EXPECT_EQ(rflow_loss(noise - x0, x0, noise, {}, PredictionType::kFlow).sum().item<double>(), 0.0);
  const std::vector<double> alphas = make_alphas_cumprod({});
  const Tensor times = at::tensor({10, 900}, at::kLong);
  for (const auto type :
       {PredictionType::kEpsilon, PredictionType::kSample, PredictionType::kVelocity}) {
    std::vector<Tensor> rows;
    for (std::int64_t b = 0; b < 2; ++b) {
      const double alpha = alphas[static_cast<std::size_t>(times[b].item<std::int64_t>())];
      rows.push_back(prediction_target(
          type, x0[b], noise[b], {.alpha = std::sqrt(alpha), .sigma = std::sqrt(1.0 - alpha)}));
    }
    const Tensor loss = ddpm_loss(alphas, type, at::stack(rows), x0, noise, times);
    EXPECT_LT(loss.max().item<double>(), 1e-28);
  }
  EXPECT_EQ(
      error_code([&] { (void)ddpm_loss(alphas, PredictionType::kFlow, x0, x0, noise, times); }),
      "losses.prediction");
  EXPECT_EQ(error_code([&] {
              (void)ddpm_loss(alphas, PredictionType::kEpsilon, x0, x0, noise, times + 500);
            }),
            "losses.timestep");
}

TEST(LossesTest, GivenFramesEnterClean) {
  const Tensor x0 = normal("x0", kShape);
  const Tensor noise = normal("noise", kShape);
  const Tensor times = at::tensor({1000.0F, 250.0F}, at::kFloat);
  const Tensor x = rflow_add_noise(x0, noise, times, frame_mask());
  EXPECT_TRUE(at::equal(x[0].select(1, 0), noise[0].select(1, 0)));
  EXPECT_TRUE(at::equal(x[0].select(1, 1), x0[0].select(1, 1)));
  EXPECT_TRUE(at::equal(x[1], x0[1]));
}

// Central differences of the whole loss in double, against autograd.
TEST(LossesTest, IddpmGradientMatchesFiniteDifferences) {
  IddpmTables tables = make_iddpm_tables({}, space_timesteps(1000, "1000"));
  const std::vector<std::int64_t> shape = {2, 1, 2, 1, 2};
  const Tensor x0 = 0.3 * normal("x0", shape, at::kDouble);
  const Tensor noise = normal("noise", shape, at::kDouble);
  const Tensor steps = at::tensor({0, 400}, at::kLong);
  const Tensor x_t = iddpm_add_noise(tables, x0, noise, steps);
  const Tensor values = 0.5 * normal("out", {2, 2, 2, 1, 2}, at::kDouble);
  const auto bound = [&](const Tensor& out) {
    return iddpm_loss(tables, out, x0, x_t, noise, steps).bound_B.sum();
  };
  const Tensor out = values.clone().requires_grad_(true);
  bound(out).backward();
  const Tensor gradient = out.grad();
  // The noise half gets nothing from the bound.
  EXPECT_EQ(gradient.narrow(1, 0, 1).abs().max().item<double>(), 0.0);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const std::int64_t channel = (i / 4) % 2;
    if (channel == 0) {
      continue;
    }
    const double step = 1e-5;
    const auto moved = [&](double by) {
      Tensor copy = values.clone();
      copy.view({-1})[i] += by;
      return bound(copy).item<double>();
    };
    EXPECT_NEAR(
        gradient.view({-1})[i].item<double>(), (moved(step) - moved(-step)) / (2.0 * step), 1e-7);
  }
}

TEST(LossesTest, TimesAreRepeatableAndInRange) {
  const RflowConfig config;
  const auto times = [&](const TimeSamplingConfig& sampling, std::uint64_t first, std::int64_t n) {
    return sample_rflow_timesteps(sampling, config, 5, "train.time", first, n);
  };
  const TimeSamplingConfig uniform{.method = TimeSampling::kUniform};
  const Tensor many = times(uniform, 0, 4000);
  EXPECT_TRUE(at::equal(times(uniform, 100, 50), many.narrow(0, 100, 50)));
  EXPECT_GE(many.min().item<float>(), 0.0F);
  EXPECT_LT(many.max().item<float>(), 1000.0F);
  // Mean 500, deviation 288.7; the standard error of the mean is 4.6.
  EXPECT_NEAR(many.mean().item<double>(), 500.0, 23.0);
  const Tensor normal_times = times({}, 0, 4000);
  // sigmoid(N(0, 1)): mean 0.5, deviation 0.208; the standard error of the mean is 3.3.
  EXPECT_NEAR(normal_times.mean().item<double>(), 500.0, 17.0);
  EXPECT_NEAR(normal_times.std().item<double>(), 208.0, 15.0);
  const Tensor whole = times({.method = TimeSampling::kUniform, .discrete = true}, 0, 500);
  EXPECT_TRUE(at::equal(whole, whole.floor()));
  const Tensor steps = sample_discrete_timesteps(1000, 5, "train.step", 0, 4000);
  EXPECT_GE(steps.min().item<std::int64_t>(), 0);
  EXPECT_LT(steps.max().item<std::int64_t>(), 1000);
  EXPECT_NEAR(steps.to(at::kDouble).mean().item<double>(), 499.5, 23.0);
}

TEST(LossesTest, TimesShiftWithTheVideo) {
  const RflowConfig config;
  const TimeSamplingConfig sampling;
  const VideoSize size{720, 1280, 102};
  const Tensor plain = sample_rflow_timesteps(sampling, config, 5, "t", 0, 100);
  const Tensor shifted = sample_rflow_timesteps(sampling, config, 5, "t", 0, 100, size);
  for (std::int64_t i = 0; i < 100; ++i) {
    EXPECT_NEAR(shifted[i].item<float>(), rflow_shift_timestep(plain[i].item<float>(), size), 1e-2);
  }
}

}  // namespace
}  // namespace kinema::diffusion::test
