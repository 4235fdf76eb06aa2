// SPDX-License-Identifier: Apache-2.0
// Data N(mu, s^2) has a known score, so every sampler must end at that mean and deviation.
//
// With the exact score every step is affine in the latents and in its noise: the result is
// b + A x_T + sum_i c_i n_i. A batch of unit impulses reads b, A and all c_i off one run in double:
// the mean is b, the variance A^2 + sum c_i^2, with no sampling error. What is left is the error of
// the discretisation, which must shrink with the number of steps by the order of the method.
#include <cmath>
#include <functional>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "core/diffusion/iddpm.h"
#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

constexpr double kMean = 0.7;
constexpr double kDeviation = 0.6;

struct Moments {
  double mean = 0.0;
  double deviation = 0.0;
};

using Predict = std::function<Tensor(const Sampler&, const Tensor&, std::int64_t)>;

Moments moments_of(Sampler& sampler, const Predict& predict) {
  const std::int64_t num_steps = sampler.num_steps();
  // Row 0: all zero. Row 1: start of 1. Row 2 + i: noise of 1 at step i.
  Tensor x = at::zeros({2 + num_steps, 1, 1, 1, 1}, at::kDouble);
  x[1] += sampler.init_noise_sigma();
  for (std::int64_t i = 0; i < num_steps; ++i) {
    const Tensor noise = at::zeros_like(x);
    noise[2 + i] += 1.0;
    x = sampler.step(predict(sampler, x, i), i, x, noise).sample;
  }
  const Tensor base = x[0];
  const Tensor weights = (x.narrow(0, 1, 1 + num_steps) - base).flatten();
  return {.mean = base.item<double>(), .deviation = weights.square().sum().sqrt().item<double>()};
}

Moments exact_score_run(const Json& config, const ScheduleRequest& request) {
  const GaussianData data{.mu = at::full({1}, kMean, at::kDouble), .deviation = kDeviation};
  const auto sampler = make_sampler(config);
  sampler->set_timesteps(request);
  return moments_of(*sampler, [&](const Sampler& s, const Tensor& x, std::int64_t i) {
    return predict_for(s, data, x, i);
  });
}

struct Method {
  std::string what;
  Json config;
  ScheduleRequest request;
  double mean_limit;
  double deviation_limit;
  double improvement;  ///< the error of the deviation shrinks at least so much with 4 n steps
};

// Where the limits come from. Mean: samplers of variance preserving models start from N(0, 1), but
// the exact end of their schedule is N(alpha_T mu, ..) with alpha_T = 6.4e-3, and deterministic
// methods carry this offset of 4.4e-3 along, times the contraction 0.6: 2.7e-3, with every number
// of steps. Stochastic ones forget it. Flow models end at pure noise and have none. Deviation:
// first order methods have an error of c / n, so 4 n steps leave a quarter; second order ones a
// sixteenth, until the first order steps at both ends and the integer grid of times show (then less
// is asked).
std::vector<Method> methods() {
  constexpr double kPrior = 3.5e-3;
  constexpr double kForgets = 1e-4;
  const auto of = [](const char* name, Json more = Json::object()) {
    more["_class_name"] = name;
    return more;
  };
  const char* dpm = "DPMSolverMultistepScheduler";
  const char* unipc = "UniPCMultistepScheduler";
  const char* euler = "EulerDiscreteScheduler";
  const Json flow = {{"prediction_type", "flow_prediction"}, {"use_flow_sigmas", true}};
  const Json no_clip = {{"clip_sample", false}};
  const Json large = {{"clip_sample", false}, {"variance_type", "fixed_large"}};
  return {
      {"rflow", of("RFLOW"), {.num_steps = 64}, 1e-12, 2e-2, 3.5},
      {"flow-euler", of("FlowMatchEulerDiscreteScheduler"), {.num_steps = 64}, 1e-12, 2e-2, 3.5},
      {"ddim", of("DDIMScheduler", no_clip), {.num_steps = 50}, kPrior, 4e-2, 3.5},
      {"ddim eta 1",
       of("DDIMScheduler", no_clip),
       {.num_steps = 50, .eta = 1.0},
       kForgets,
       7e-2,
       3.0},
      {"ddpm small", of("DDPMScheduler", no_clip), {.num_steps = 50}, kForgets, 7e-2, 3.0},
      {"ddpm large", of("DDPMScheduler", large), {.num_steps = 50}, kForgets, 2e-2, 3.5},
      {"euler",
       of(euler, {{"timestep_spacing", "trailing"}}),
       {.num_steps = 50},
       kPrior,
       4e-2,
       3.5},
      {"euler churn",
       of(euler, {{"use_karras_sigmas", true}}),
       {.num_steps = 50, .churn = 5.0},
       kForgets,
       6e-2,
       3.5},
      {"dpmpp 1", of(dpm, {{"solver_order", 1}}), {.num_steps = 24}, kPrior, 8e-2, 3.5},
      {"dpmpp 2", of(dpm), {.num_steps = 24}, kPrior, 1.2e-2, 8.0},
      {"dpmpp 3", of(dpm, {{"solver_order", 3}}), {.num_steps = 24}, kPrior, 1.8e-2, 5.0},
      {"dpmpp 2 karras",
       of(dpm, {{"use_karras_sigmas", true}}),
       {.num_steps = 24},
       kPrior,
       3e-2,
       12.0},
      {"dpmpp sde 2",
       of(dpm, {{"algorithm_type", "sde-dpmsolver++"}}),
       {.num_steps = 48},
       kForgets,
       2e-2,
       3.0},
      {"dpmpp flow", of(dpm, flow), {.num_steps = 24}, 1e-3, 8e-3, 4.0},
      {"unipc 2", of(unipc), {.num_steps = 24}, kPrior, 1.2e-2, 12.0},
      {"unipc 3", of(unipc, {{"solver_order", 3}}), {.num_steps = 24}, kPrior, 1.5e-2, 6.0},
      {"unipc flow", of(unipc, flow), {.num_steps = 24}, 1e-5, 4e-3, 12.0},
  };
}

class GaussianTest : public ::testing::TestWithParam<std::size_t> {};

TEST_P(GaussianTest, ReachesMeanAndDeviation) {
  const Method method = methods()[GetParam()];
  SCOPED_TRACE(method.what);
  const Moments coarse = exact_score_run(method.config, method.request);
  EXPECT_NEAR(coarse.mean, kMean, method.mean_limit);
  EXPECT_NEAR(coarse.deviation, kDeviation, method.deviation_limit);
  ScheduleRequest more = method.request;
  more.num_steps *= 4;
  const Moments fine = exact_score_run(method.config, more);
  EXPECT_NEAR(fine.mean, kMean, method.mean_limit);
  EXPECT_LT(std::fabs(fine.deviation - kDeviation) * method.improvement,
            std::fabs(coarse.deviation - kDeviation));
}

INSTANTIATE_TEST_SUITE_P(Methods, GaussianTest, ::testing::Range<std::size_t>(0, methods().size()));

/// Variance of x0 given x at a level.
double clean_variance(NoiseLevel at) {
  const double variance = kDeviation * kDeviation;
  return variance * at.sigma * at.sigma / (at.alpha * at.alpha * variance + at.sigma * at.sigma);
}

// With the true variance of each reverse step ancestral sampling is exact in any number of steps.
// What is left is the last step, which returns the mean and so loses clean_variance: 1e-4 of 0.36.
TEST(GaussianExactVariance, DdpmWithALearnedVariance) {
  const GaussianData data{.mu = at::full({1}, kMean, at::kDouble), .deviation = kDeviation};
  for (const std::int64_t num_steps : {5, 20}) {
    const auto sampler = make_sampler(Json{{"_class_name", "DDPMScheduler"},
                                           {"clip_sample", false},
                                           {"timestep_spacing", "linspace"},
                                           {"variance_type", "learned"}});
    sampler->set_timesteps({.num_steps = num_steps});
    const Moments moments =
        moments_of(*sampler, [&](const Sampler& s, const Tensor& x, std::int64_t i) {
          const NoiseLevel here = s.level(i);
          const NoiseLevel next = s.level(i + 1);
          const double alpha = here.alpha * here.alpha / (next.alpha * next.alpha);
          const double weight = next.alpha * (1.0 - alpha) / (here.sigma * here.sigma);
          const double posterior =
              next.sigma * next.sigma / (here.sigma * here.sigma) * (1.0 - alpha);
          const Tensor out = data.predict(PredictionType::kEpsilon, x, here);
          const double variance = posterior + weight * weight * clean_variance(here);
          return at::cat({out, at::full_like(out, variance)}, 1);
        });
    EXPECT_NEAR(moments.mean, kMean, 1e-4) << num_steps;
    EXPECT_NEAR(moments.deviation, kDeviation, 2e-4) << num_steps;
  }
}

TEST(GaussianExactVariance, IddpmWithALearnedRange) {
  const GaussianData data{.mu = at::full({1}, kMean, at::kDouble), .deviation = kDeviation};
  for (const std::int64_t num_steps : {5, 20}) {
    IddpmSampler sampler;
    sampler.set_timesteps({.num_steps = num_steps});
    const IddpmTables tables = sampler.tables();
    const Moments moments =
        moments_of(sampler, [&](const Sampler& s, const Tensor& x, std::int64_t i) {
          const std::int64_t step = num_steps - 1 - i;
          const auto value = [&](const Tensor& table) { return table[step].item<double>(); };
          const double weight = value(tables.posterior_mean_coef1);
          const double variance =
              value(tables.posterior_variance) + weight * weight * clean_variance(s.level(i));
          const double low = value(tables.posterior_log_variance);
          const double high = std::log(value(tables.betas));
          const double fraction = (std::log(variance) - low) / (high - low);
          const Tensor out = data.predict(PredictionType::kEpsilon, x, s.level(i));
          return at::cat({out, at::full_like(out, 2.0 * fraction - 1.0)}, 1);
        });
    // float32 tables: 1 - abar_0 is known to 6e-4 relative.
    EXPECT_NEAR(moments.mean, kMean, 2e-4) << num_steps;
    EXPECT_NEAR(moments.deviation, kDeviation, 3e-4) << num_steps;
  }
}

// Stochastic flow sampling noises the predicted x0 again. With a mean as prediction that loses
// variance; it is made for consistency models, whose prediction is a sample: here x0 = mu + s (x -
// alpha mu) / std(x). Then any number of steps is exact.
TEST(GaussianConsistency, StochasticFlowIsExactInAnyNumberOfSteps) {
  for (const std::int64_t num_steps : {1, 2, 7}) {
    const auto sampler = make_sampler(
        Json{{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"stochastic_sampling", true}});
    sampler->set_timesteps({.num_steps = num_steps});
    const Moments moments =
        moments_of(*sampler, [&](const Sampler& s, const Tensor& x, std::int64_t i) {
          const NoiseLevel at = s.level(i);
          const double spread =
              std::sqrt(at.alpha * at.alpha * kDeviation * kDeviation + at.sigma * at.sigma);
          const Tensor x0 = kMean + kDeviation / spread * (x - at.alpha * kMean);
          return (x - x0) / at.sigma;
        });
    EXPECT_NEAR(moments.mean, kMean, 1e-12) << num_steps;
    EXPECT_NEAR(moments.deviation, kDeviation, 1e-12) << num_steps;
  }
}

}  // namespace
}  // namespace kinema::diffusion::test
