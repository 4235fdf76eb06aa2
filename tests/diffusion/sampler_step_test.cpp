// SPDX-License-Identifier: Apache-2.0
// Steps: times per frame, dtypes, errors, schedules with known numbers.
#include <cmath>

#include <gmock/gmock.h>

#include "core/diffusion/ddim.h"
#include "core/diffusion/iddpm.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/rflow.h"
#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

class SamplerStepTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  SamplerStepTest() : named(all_samplers(6)[GetParam()]), sampler(scheduled(named)) {
    std::vector<std::int64_t> doubled = x.sizes().vec();
    doubled[1] *= sampler->kind() == SamplerKind::kIddpm ? 2 : 1;
    out = normal("out", doubled) * 0.5;
  }
  NamedSampler named;
  std::unique_ptr<Sampler> sampler;
  Tensor x = normal("x", {2, 3, 5, 2, 2});
  Tensor noise = normal("noise", {2, 3, 5, 2, 2});
  Tensor out;
};

TEST_P(SamplerStepTest, EqualTimesPerFrameAreAPlainStep) {
  SCOPED_TRACE(named.name);
  const std::vector<std::int64_t> indices(5, 2);
  const auto per_frame = [&] { return sampler->step_frames(out, indices, x, noise); };
  if (sampler->is_multistep()) {
    EXPECT_EQ(error_code(per_frame), "sampler.per_frame");
    return;
  }
  const StepResult frames = per_frame();
  const StepResult plain = sampler->step(out, 2, x, noise);
  EXPECT_TRUE(at::equal(frames.sample, plain.sample));
  EXPECT_TRUE(at::equal(frames.x0, plain.x0));
}

TEST_P(SamplerStepTest, EachFrameTakesItsOwnStep) {
  SCOPED_TRACE(named.name);
  if (sampler->is_multistep()) {
    GTEST_SUCCEED();
    return;
  }
  const std::vector<std::int64_t> indices = {5, 0, 3, 6, 3};  // 6: finished
  const StepResult frames = sampler->step_frames(out, indices, x, noise);
  for (std::int64_t t = 0; t < 5; ++t) {
    const std::int64_t index = indices[static_cast<std::size_t>(t)];
    const auto crop = [&](const Tensor& all) { return all.narrow(2, t, 1); };
    const Tensor expected =
        index == 6 ? crop(x) : sampler->step(crop(out), index, crop(x), crop(noise)).sample;
    EXPECT_TRUE(at::equal(crop(frames.sample), expected)) << t;
  }
}

TEST_P(SamplerStepTest, NarrowLatentsBecomeFloatAndDoubleStaysDouble) {
  SCOPED_TRACE(named.name);
  const auto stepped = [&](at::ScalarType type) {
    sampler->reset();
    return sampler->step(out.to(type), 0, x.to(type), noise).sample.scalar_type();
  };
  EXPECT_EQ(stepped(at::kBFloat16), at::kFloat);
  EXPECT_EQ(stepped(at::kFloat), at::kFloat);
  EXPECT_EQ(stepped(at::kDouble), at::kDouble);
}

TEST_P(SamplerStepTest, ErrorsNameWhatIsWrong) {
  SCOPED_TRACE(named.name);
  EXPECT_EQ(error_code([&] { (void)sampler->step(out, 6, x, noise); }), "sampler.index");
  EXPECT_EQ(error_code([&] { (void)sampler->step(out, -1, x, noise); }), "sampler.index");
  EXPECT_EQ(error_code([&] { (void)sampler->step(out.narrow(2, 0, 4), 0, x, noise); }),
            "sampler.shape");
  EXPECT_EQ(error_code([&] { (void)sampler->step(out, 0, x); }),
            sampler->needs_noise(0) ? "sampler.noise" : "");
  EXPECT_EQ(error_code([&] { (void)sampler->add_noise(x, noise, 7); }), "sampler.index");
  const auto fresh = make_sampler(named.config);
  EXPECT_EQ(error_code([&] { (void)fresh->step(out, 0, x, noise); }), "sampler.index");
}

TEST_P(SamplerStepTest, NoiseAddedMatchesTheLevel) {
  SCOPED_TRACE(named.name);
  const NoiseLevel at = sampler->level(3);
  const Tensor expected = at.alpha * x + at.sigma * noise;
  EXPECT_TRUE(at::allclose(sampler->add_noise(x, noise, 3), expected, 1e-6, 1e-6));
  EXPECT_LT(sampler->level(4).sigma / sampler->level(4).alpha, at.sigma / at.alpha);
}

INSTANTIATE_TEST_SUITE_P(AllSamplers,
                         SamplerStepTest,
                         ::testing::Range<std::size_t>(0, all_samplers(6).size()));

// Published numbers of the linear schedule.
TEST(NoiseScheduleTest, LinearBetas) {
  const std::vector<double> alphas = make_alphas_cumprod({});
  EXPECT_NEAR(alphas[0], 0.9999, 1e-12);
  EXPECT_NEAR(alphas[100], 0.89514159, 1e-8);
  EXPECT_NEAR(alphas[500], 0.07779666, 1e-8);
  EXPECT_NEAR(alphas[999], 4.03583e-5, 1e-10);
}

TEST(NoiseScheduleTest, ZeroTerminalSnrEndsAtZeroAndKeepsTheStart) {
  BetaConfig config;
  const double first = make_alphas_cumprod(config).front();
  config.rescale_betas_zero_snr = true;
  const std::vector<double> alphas = make_alphas_cumprod(config);
  EXPECT_EQ(alphas.back(), 0.0);
  EXPECT_NEAR(alphas.front(), first, 1e-15);
  // An epsilon model cannot start there.
  DdimConfig ddim{.betas = config, .clip = {.clip_sample = false}};
  ddim.spacing.timestep_spacing = TimestepSpacing::kTrailing;
  DdimSampler sampler(ddim);
  EXPECT_EQ(error_code([&] { sampler.set_timesteps({.num_steps = 5}); }), "sampler.request");
}

TEST(NoiseScheduleTest, BetaQuantileInvertsTheDistribution) {
  EXPECT_EQ(beta_quantile(0.0, 0.6, 0.6), 0.0);
  EXPECT_EQ(beta_quantile(1.0, 0.6, 0.6), 1.0);
  EXPECT_NEAR(beta_quantile(0.5, 0.6, 0.6), 0.5, 1e-15);
  // Beta(1, 1) is uniform; Beta(2, 1) has the distribution x^2.
  EXPECT_NEAR(beta_quantile(0.3, 1.0, 1.0), 0.3, 1e-15);
  EXPECT_NEAR(beta_quantile(0.49, 2.0, 1.0), 0.7, 1e-14);
  for (const double p : {1e-6, 0.01, 0.2, 0.4}) {
    EXPECT_NEAR(beta_quantile(p, 0.6, 0.6) + beta_quantile(1.0 - p, 0.6, 0.6), 1.0, 1e-12);
  }
}

TEST(NoiseScheduleTest, DynamicMuIsALine) {
  EXPECT_DOUBLE_EQ(dynamic_mu(256, 256, 4096, 0.5, 1.15), 0.5);
  EXPECT_DOUBLE_EQ(dynamic_mu(4096, 256, 4096, 0.5, 1.15), 1.15);
  EXPECT_DOUBLE_EQ(dynamic_mu(2176, 256, 4096, 0.5, 1.15), 0.825);
}

// Published values of the shift at t = 500.
TEST(RflowTest, ShiftBySize) {
  const auto shifted = [](std::int64_t height, std::int64_t width, std::int64_t frames) {
    return rflow_shift_timestep(500.0, {height, width, frames});
  };
  EXPECT_NEAR(shifted(240, 426, 51), 707.4931, 1e-3);
  EXPECT_NEAR(shifted(240, 426, 1), 384.4303, 1e-3);
  EXPECT_NEAR(shifted(480, 854, 102), 872.5986, 1e-3);
  EXPECT_NEAR(shifted(720, 1280, 408), 953.5739, 1e-3);
}

TEST(RflowTest, FullNoiseStaysFullNoiseForEverySize) {
  for (std::int64_t frames = 1; frames < 60; ++frames) {
    for (const std::int64_t side : {64, 144, 256, 427, 720, 1080}) {
      const VideoSize size{side, side + 3, frames};
      EXPECT_EQ(rflow_shift_timestep(1000.0, size), 1000.0);
      EXPECT_GT(rflow_shift_timestep(500.0, size), 0.0);
    }
  }
}

TEST(IddpmTest, SpacingErrors) {
  for (const char* text : {"", "a", "10,", "1001", "ddim", "ddim3000", "-5", "999,2", "1e3"}) {
    EXPECT_EQ(error_code([&] { (void)space_timesteps(1000, text); }), "iddpm.spacing") << text;
  }
  EXPECT_EQ(space_timesteps(1000, "1"), std::vector<std::int64_t>{0});
}

TEST(IddpmTest, OneStepAndFixedVariances) {
  for (const char* variance : {"fixed_large", "fixed_small"}) {
    const auto sampler = make_sampler(Json{{"_class_name", "IDDPM"}, {"variance_type", variance}});
    const Tensor x = normal("x", {1, 2, 1, 2, 2});
    for (const std::int64_t num_steps : {1, 3}) {
      sampler->set_timesteps({.num_steps = num_steps});
      Tensor latents = x;
      for (std::int64_t i = 0; i < num_steps; ++i) {
        latents =
            sampler->step(latents * 0.1, i, latents, noise_if_needed(*sampler, i, latents)).sample;
      }
      EXPECT_TRUE(latents.isfinite().all().item<bool>()) << variance << " " << num_steps;
    }
  }
}

}  // namespace
}  // namespace kinema::diffusion::test
