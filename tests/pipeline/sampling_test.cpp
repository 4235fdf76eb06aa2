// SPDX-License-Identifier: Apache-2.0
// The sampling loop with a denoiser made of arithmetic: windows, queues, given frames, journals.
#include "pipeline/sampling.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/tensor/noise.h"
#include "pipeline/journal.h"
#include "pipeline/long_video.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kChannels = 2;
constexpr std::int64_t kRows = 3;
constexpr std::int64_t kColumns = 5;

/// Mixes a frame with its neighbours, its time and the text; remembers how much it saw.
class FakeDenoiser final : public diffusion::Denoiser {
 public:
  Tensor predict(const Tensor& latents_BCTHW,
                 const Tensor& timesteps,
                 const diffusion::Conditioning& conditioning) override {
    ++calls;
    most_frames = std::max(most_frames, latents_BCTHW.size(2));
    told_frames.push_back(
        conditioning.num_frames_B.defined() ? conditioning.num_frames_B[0].item<double>() : 0.0);
    seen_text.push_back(conditioning.context_BMD[0].mean().item<double>());
    if (conditioning.frame_mask_BT.defined()) {
      masks.push_back(conditioning.frame_mask_BT.clone());
    }
    const Tensor times = timesteps.dim() == 2 ? timesteps.view({latents_BCTHW.size(0), 1, -1, 1, 1})
                                              : timesteps.view({-1, 1, 1, 1, 1});
    const Tensor text = conditioning.context_BMD.mean({1, 2}).view({-1, 1, 1, 1, 1});
    const Tensor mixed = latents_BCTHW - 0.3 * latents_BCTHW.mean(2, true);
    Tensor result = at::tanh(mixed + times / 1000 + text);
    if (calls == bad_call) {
      result = result * std::numeric_limits<double>::quiet_NaN();
    }
    return result;
  }

  int calls = 0;
  int bad_call = 0;
  std::int64_t most_frames = 0;
  std::vector<double> told_frames;
  std::vector<double> seen_text;
  std::vector<Tensor> masks;
};

diffusion::Conditioning text(double value) {
  diffusion::Conditioning conditioning;
  conditioning.context_BMD = at::full({1, 4, 3}, value);
  return conditioning;
}

SamplingTask task_of(LongMode mode, std::int64_t frames, std::int64_t window, std::int64_t steps) {
  SamplingTask task;
  task.plan = plan_long_video(mode, frames, window, steps);
  task.size = {.channels = kChannels, .frames = frames, .height = kRows, .width = kColumns};
  task.seed = 7;
  task.guidance = 2.0;
  task.scenes.push_back({.first_latent = 0, .conditional = text(0.5), .negative = text(-0.5)});
  return task;
}

std::unique_ptr<diffusion::Sampler> sampler_of(std::int64_t steps, const char* name = "rflow") {
  auto sampler = diffusion::make_sampler(diffusion::parse_sampler_kind(name));
  sampler->set_timesteps({.num_steps = steps});
  return sampler;
}

Tensor run(const SamplingTask& task,
           FakeDenoiser& denoiser,
           std::int64_t steps,
           const char* sampler = "rflow") {
  return sample_latents(task, denoiser, sampler_of(steps, sampler), nullptr, null_progress());
}

/// Cancels after some steps.
class CancelAfter final : public ProgressObserver {
 public:
  explicit CancelAfter(std::int64_t steps) : steps_(steps) {}
  void on_stage(std::string_view, std::int64_t, std::string_view) override {}
  void on_step(std::int64_t done, const Metrics&) override { done_ = done; }
  void on_stage_end() override {}
  [[nodiscard]] bool cancelled() const override { return done_ >= steps_; }

 private:
  std::int64_t steps_;
  std::int64_t done_ = 0;
};

TEST(LongVideoTest, OneWindowIsPlainSamplingToTheLastBit) {
  FakeDenoiser plain;
  const Tensor expected = run(task_of(LongMode::kExact, 4, 0, 4), plain, 4);
  for (const LongMode mode : {LongMode::kFused, LongMode::kFreeNoise, LongMode::kFifo}) {
    for (const std::int64_t window : {4, 6}) {
      FakeDenoiser denoiser;
      EXPECT_TRUE(at::equal(run(task_of(mode, 4, window, 4), denoiser, 4), expected))
          << to_string(mode) << " window " << window;
      EXPECT_EQ(denoiser.calls, 4);
    }
  }
}

TEST(LongVideoTest, EveryModeMakesExactlyTheFramesAskedForThroughTheWindow) {
  for (const std::int64_t frames : {1, 4, 5, 7, 13, 30}) {
    for (const LongMode mode : {LongMode::kFused, LongMode::kFifo}) {
      FakeDenoiser denoiser;
      const Tensor latents = run(task_of(mode, frames, 4, 8), denoiser, 8);
      EXPECT_EQ(latents.sizes(), at::IntArrayRef({1, kChannels, frames, kRows, kColumns}))
          << to_string(mode);
      EXPECT_TRUE(latents.isfinite().all().item<bool>());
      EXPECT_LE(denoiser.most_frames, 4) << "memory does not grow with the video";
      const SamplingTask task = task_of(mode, frames, 4, 8);
      EXPECT_EQ(denoiser.calls, window_passes(task.plan, frames, 8)) << to_string(mode);
    }
  }
}

TEST(LongVideoTest, FifoWithAnOddWindowHasNoLookAhead) {
  FakeDenoiser denoiser;
  const SamplingTask task = task_of(LongMode::kFifo, 10, 3, 6);
  EXPECT_FALSE(task.plan.fifo_look_ahead);
  EXPECT_EQ(run(task, denoiser, 6).size(2), 10);
  EXPECT_EQ(denoiser.calls, window_passes(task.plan, 10, 6));
}

TEST(LongVideoTest, FifoSaysWhichStepsFit) {
  try {
    static_cast<void>(plan_long_video(LongMode::kFifo, 20, 4, 30));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "request.steps");
    EXPECT_THAT(error.details().expected, HasSubstr("28 or 32"));
  }
  FakeDenoiser denoiser;
  EXPECT_THROW(static_cast<void>(run(task_of(LongMode::kFifo, 20, 4, 8), denoiser, 8, "dpmpp")),
               Error);
}

TEST(LongVideoTest, FreeNoiseRepeatsTheNoiseOfTheFirstWindow) {
  const SamplingTask task = task_of(LongMode::kFreeNoise, 11, 4, 1);
  EXPECT_EQ(task.plan.stride, 1);
  EXPECT_EQ(task.plan.windows.size(), 8U);
  // With a velocity of zero the latents stay the noise.
  class Still final : public diffusion::Denoiser {
   public:
    Tensor predict(const Tensor& x, const Tensor&, const diffusion::Conditioning&) override {
      return at::zeros_like(x);
    }
  } still;
  const Tensor latents = sample_latents(task, still, sampler_of(1), nullptr, null_progress());
  const Tensor first =
      tensor::normal_noise({.seed = 7, .name = "latents"}, {kChannels, 4, kRows, kColumns});
  EXPECT_TRUE(at::equal(latents[0].narrow(1, 0, 4), first));
  for (std::int64_t t = 4; t < 11; ++t) {
    EXPECT_TRUE(at::equal(latents.select(2, t), latents.select(2, t - 4))) << t;
  }
}

TEST(LongVideoTest, ScenesChangeThePromptOfTheirWindows) {
  for (const LongMode mode : {LongMode::kFused, LongMode::kFifo}) {
    // One step, where windows know nothing of each other yet; fifo has four at least.
    const std::int64_t steps = mode == LongMode::kFused ? 1 : 4;
    SamplingTask task = task_of(mode, 16, 4, steps);
    task.guidance = 1.0;
    task.scenes.push_back({.first_latent = 8, .conditional = text(0.9), .negative = text(0.9)});
    FakeDenoiser denoiser;
    const Tensor latents = run(task, denoiser, steps);
    EXPECT_THAT(denoiser.seen_text, testing::Contains(testing::DoubleNear(0.5, 1e-6)));
    EXPECT_THAT(denoiser.seen_text, testing::Contains(testing::DoubleNear(0.9, 1e-6)));
    task.scenes.pop_back();
    FakeDenoiser other;
    const Tensor plain = run(task, other, steps);
    if (mode == LongMode::kFused) {
      EXPECT_TRUE(at::equal(latents.narrow(2, 0, 6), plain.narrow(2, 0, 6)));
    }
    EXPECT_FALSE(at::equal(latents.select(2, 15), plain.select(2, 15)));
  }
  EXPECT_EQ(scene_of({{.first_latent = 0}, {.first_latent = 8}}, 6, 4).first_latent, 8);
  EXPECT_EQ(scene_of({{.first_latent = 0}, {.first_latent = 8}}, 5, 4).first_latent, 0);
  EXPECT_EQ(scene_of({{.first_latent = 0}, {.first_latent = 8}}, -9, 4).first_latent, 0);
}

TEST(GivenLatentsTest, GivenLatentsComeOutUntouchedAndAreToldAsGiven) {
  for (const LongMode mode : {LongMode::kExact, LongMode::kFused, LongMode::kFreeNoise}) {
    for (const char* sampler : {"rflow", "ddim", "dpmpp"}) {
      SamplingTask task = task_of(mode, 9, 4, 3);
      task.given_BCTHW =
          tensor::normal_noise({.seed = 1, .name = "given"}, {kChannels, 9, kRows, kColumns})
              .unsqueeze(0);
      task.mask_BT = at::ones({1, 9});
      task.mask_BT.narrow(1, 0, 2).zero_();
      task.mask_BT.narrow(1, 7, 2).zero_();
      FakeDenoiser denoiser;
      const Tensor latents = run(task, denoiser, 3, sampler);
      const auto given = [](const Tensor& x) {
        return at::cat({x.narrow(2, 0, 2), x.narrow(2, 7, 2)}, 2);
      };
      EXPECT_TRUE(at::equal(given(latents), given(task.given_BCTHW))) << to_string(mode) << sampler;
      EXPECT_FALSE(at::equal(latents.select(2, 4), task.given_BCTHW.select(2, 4)));
      ASSERT_FALSE(denoiser.masks.empty());
      const Tensor& mask = denoiser.masks.front();
      EXPECT_FALSE(mask[0][0].item<bool>());
      EXPECT_TRUE(mask[0][3].item<bool>());
    }
  }
  SamplingTask fifo = task_of(LongMode::kFifo, 9, 4, 4);
  fifo.mask_BT = at::ones({1, 9});
  FakeDenoiser denoiser;
  EXPECT_THROW(static_cast<void>(run(fifo, denoiser, 4)), Error);
}

TEST(SamplingTest, ResumedAnywhereGivesTheSameBits) {
  for (const LongMode mode : {LongMode::kExact, LongMode::kFused, LongMode::kFifo}) {
    for (const char* name : {"rflow", "ddpm"}) {
      const SamplingTask task = task_of(mode, 7, 4, 4);
      FakeDenoiser whole;
      const Tensor expected = run(task, whole, 4, name);
      const std::int64_t total = num_progress_steps(task.plan, 7, 4);
      for (std::int64_t stop = 1; stop < total; ++stop) {
        test::TempFolder folder;
        VideoRequest request;
        const Journal journal = Journal::create(folder / "a.mp4", request);
        FakeDenoiser denoiser;
        CancelAfter cancel(stop);
        EXPECT_THROW(static_cast<void>(
                         sample_latents(task, denoiser, sampler_of(4, name), &journal, cancel)),
                     Error);
        EXPECT_FALSE(finished_latents(task.plan, 7, 4, journal).has_value());
        const Tensor resumed =
            sample_latents(task, denoiser, sampler_of(4, name), &journal, null_progress());
        EXPECT_TRUE(at::equal(resumed, expected)) << to_string(mode) << name << " after " << stop;
        EXPECT_TRUE(at::equal(*finished_latents(task.plan, 7, 4, journal), expected));
      }
    }
  }
}

TEST(SamplingTest, NotANumberIsToldWithTheStep) {
  for (const LongMode mode : {LongMode::kExact, LongMode::kFifo}) {
    FakeDenoiser denoiser;
    denoiser.bad_call = 2;
    try {
      static_cast<void>(run(task_of(mode, 7, 4, 4), denoiser, 4));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "generate.not_finite");
      EXPECT_THAT(error.details().subject, HasSubstr("step 2"));
    }
  }
}

TEST(SamplingTest, TheObserverSeesCleanLatentsOfTheVideo) {
  FakeDenoiser denoiser;
  std::vector<std::int64_t> steps;
  const SamplingTask task = task_of(LongMode::kExact, 3, 0, 4);
  const Tensor latents =
      sample_latents(task,
                     denoiser,
                     sampler_of(4),
                     nullptr,
                     null_progress(),
                     [&](std::int64_t done, const Tensor& x0) {
                       steps.push_back(done);
                       EXPECT_EQ(x0.sizes(), at::IntArrayRef({1, kChannels, 3, kRows, kColumns}));
                     });
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4}));
  FakeDenoiser again;
  EXPECT_TRUE(at::equal(latents, run(task, again, 4))) << "looking changes nothing";
}

}  // namespace
}  // namespace kinema::pipeline
