// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/fifo.h"

#include <gmock/gmock.h>

#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

constexpr std::int64_t kWindow = 4;

/// Records what the network is asked.
struct Call {
  std::int64_t first = 0;
  std::vector<double> times{};
};

class FifoTest : public ::testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Sampler> ddim(std::int64_t num_steps) {
    auto sampler = make_sampler(Json{{"_class_name", "DDIMScheduler"}, {"clip_sample", false}});
    sampler->set_timesteps({.num_steps = num_steps});
    return sampler;
  }
  static Tensor noise(const std::string& name, std::int64_t frames) {
    return normal(name, {1, 2, frames, 2, 2}, at::kDouble);
  }
  /// A frame-wise network for data N(mu, s^2): each frame at the level of its time.
  static FifoQueue::Predict predictor(const Sampler& sampler, std::vector<Call>* calls = nullptr) {
    return [&sampler, calls](const Tensor& crop, const Tensor& times_BT, const Window& window) {
      const GaussianData data{.mu = at::full({1}, 0.4, at::kDouble)};
      Call call{.first = window.first};
      std::vector<Tensor> frames;
      for (std::int64_t t = 0; t < crop.size(2); ++t) {
        const double time = times_BT[0][t].item<double>();
        call.times.push_back(time);
        std::int64_t index = 0;
        while (sampler.timesteps()[static_cast<std::size_t>(index)] != time) {
          ++index;
        }
        frames.push_back(
            data.predict(PredictionType::kEpsilon, crop.narrow(2, t, 1), sampler.level(index)));
      }
      if (calls != nullptr) {
        calls->push_back(call);
      }
      return at::cat(frames, 2);
    };
  }
};

TEST_P(FifoTest, EmitsExactlyTheFramesAskedFor) {
  const auto sampler = ddim(12);
  FifoQueue queue({.window = kWindow, .num_partitions = 3, .look_ahead = GetParam()}, *sampler);
  EXPECT_EQ(queue.num_warm_up(), 8);
  queue.fill(*sampler, noise("clip", kWindow), noise("fill", queue.size()));
  std::int64_t emitted = 0;
  for (std::int64_t i = 0; i < 8 + 25; ++i) {
    const Tensor frame =
        queue.step(*sampler, predictor(*sampler), {}, noise("fresh " + std::to_string(i), 1));
    EXPECT_EQ(frame.defined(), i >= 8);
    emitted += frame.defined() ? 1 : 0;
    EXPECT_EQ(queue.num_emitted(), emitted);
    EXPECT_EQ(queue.latents_BCTHW().size(2), queue.size());
  }
  EXPECT_EQ(emitted, 25);
}

// A frame that enters as noise and walks through the queue is sampled exactly as alone.
TEST_P(FifoTest, AFrameIsSampledAsAlone) {
  const auto sampler = ddim(12);
  FifoQueue queue({.window = kWindow, .num_partitions = 3, .look_ahead = GetParam()}, *sampler);
  queue.fill(*sampler, noise("clip", kWindow), noise("fill", queue.size()));
  const Tensor start = noise("fresh 0", 1);
  Tensor frame;
  // Enters at the end of iteration 0, takes 12 steps, leaves at iteration 12.
  for (std::int64_t i = 0; i <= 12; ++i) {
    frame = queue.step(*sampler, predictor(*sampler), {}, noise("fresh " + std::to_string(i), 1));
  }
  const GaussianData data{.mu = at::full({1}, 0.4, at::kDouble)};
  Tensor x = start;
  for (std::int64_t i = 0; i < 12; ++i) {
    x = sampler->step(predict_for(*sampler, data, x, i), i, x).sample;
  }
  EXPECT_TRUE(at::allclose(frame, x, 0.0, 1e-12));
}

TEST_P(FifoTest, WindowsSeeFallingLevels) {
  const auto sampler = ddim(12);
  FifoQueue queue({.window = kWindow, .num_partitions = 3, .look_ahead = GetParam()}, *sampler);
  queue.fill(*sampler, noise("clip", kWindow), noise("fill", queue.size()));
  std::vector<Call> calls;
  (void)queue.step(*sampler, predictor(*sampler, &calls), {}, noise("fresh", 1));
  const std::int64_t front = GetParam() ? kWindow / 2 : 0;
  ASSERT_EQ(calls.size(), GetParam() ? 6U : 3U);
  EXPECT_EQ(queue.size(), 12 + front);
  for (const Call& call : calls) {
    for (std::size_t t = 0; t < call.times.size(); ++t) {
      const std::int64_t slot = call.first + static_cast<std::int64_t>(t);
      const auto index = static_cast<std::size_t>(11 - std::max<std::int64_t>(slot - front, 0));
      EXPECT_EQ(call.times[t], sampler->timesteps()[index]) << slot;
    }
  }
}

TEST_P(FifoTest, FillNoisesTheClipToEachLevel) {
  const auto sampler = ddim(8);
  FifoQueue queue({.window = kWindow, .num_partitions = 2, .look_ahead = GetParam()}, *sampler);
  const Tensor clip = noise("clip", kWindow);
  const Tensor fill = noise("fill", queue.size());
  queue.fill(*sampler, clip, fill);
  const std::int64_t front = GetParam() ? kWindow / 2 : 0;
  for (std::int64_t slot = 0; slot < queue.size(); ++slot) {
    const std::int64_t frame = std::max<std::int64_t>(slot - front - 4, 0);
    const std::int64_t index = 7 - std::max<std::int64_t>(slot - front, 0);
    const Tensor expected =
        sampler->add_noise(clip.narrow(2, frame, 1), fill.narrow(2, slot, 1), index);
    EXPECT_TRUE(at::equal(queue.latents_BCTHW().narrow(2, slot, 1), expected)) << slot;
  }
}

TEST_P(FifoTest, ContinuesWithTheSameBits) {
  const auto sampler = ddim(8);
  const FifoConfig config = {.window = kWindow, .num_partitions = 2, .look_ahead = GetParam()};
  FifoQueue whole(config, *sampler);
  FifoQueue cut(config, *sampler);
  whole.fill(*sampler, noise("clip", kWindow), noise("fill", whole.size()));
  for (std::int64_t i = 0; i < 12; ++i) {
    if (i == 5) {
      cut.restore(whole.latents_BCTHW().clone(), whole.num_iterations());
    }
    const Tensor fresh = noise("fresh " + std::to_string(i), 1);
    const Tensor frame = whole.step(*sampler, predictor(*sampler), {}, fresh);
    if (i >= 5) {
      const Tensor again = cut.step(*sampler, predictor(*sampler), {}, fresh);
      EXPECT_TRUE(at::equal(frame, again)) << i;
    }
  }
  EXPECT_TRUE(at::equal(whole.latents_BCTHW(), cut.latents_BCTHW()));
}

INSTANTIATE_TEST_SUITE_P(LookAhead, FifoTest, ::testing::Bool());

TEST(FifoErrors, RefuseSizesThatDoNotFit) {
  auto sampler = make_sampler(SamplerKind::kDdim);
  sampler->set_timesteps({.num_steps = 12});
  const auto code = [&](const FifoConfig& config) {
    return error_code([&] { (void)FifoQueue(config, *sampler); });
  };
  EXPECT_EQ(code({.window = 4, .num_partitions = 3}), "");
  EXPECT_EQ(code({.window = 4, .num_partitions = 2}), "fifo.steps");
  EXPECT_EQ(code({.window = 3, .num_partitions = 4, .look_ahead = true}), "fifo.steps");
  EXPECT_EQ(code({.window = 3, .num_partitions = 4, .look_ahead = false}), "");
  EXPECT_EQ(code({.window = 0, .num_partitions = 4}), "fifo.steps");
  EXPECT_EQ(code({.window = 1LL << 62, .num_partitions = 4}), "fifo.steps");
  auto multistep = make_sampler(SamplerKind::kUnipc);
  multistep->set_timesteps({.num_steps = 12});
  EXPECT_EQ(error_code([&] { (void)FifoQueue({.window = 4, .num_partitions = 3}, *multistep); }),
            "sampler.per_frame");
  FifoQueue empty({.window = 4, .num_partitions = 3}, *sampler);
  EXPECT_EQ(error_code([&] { (void)empty.step(*sampler, {}, {}, {}); }), "fifo.steps");
}

}  // namespace
}  // namespace kinema::diffusion::test
