// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/guidance.h"

#include <gmock/gmock.h>

#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

Tensor cond() {
  return normal("cond", {2, 4, 2, 3, 3}, at::kDouble);
}
Tensor uncond() {
  return normal("uncond", {2, 4, 2, 3, 3}, at::kDouble);
}

TEST(GuidanceTest, ScaleOneNeedsNoSecondPass) {
  Guidance guidance({.scale = 1.0});
  EXPECT_FALSE(guidance.needs_unconditional(0, 10));
  EXPECT_TRUE(at::equal(guidance.combine(cond(), {}, 0, 10, 4), cond()));
}

TEST(GuidanceTest, IntervalIsHalfOpen) {
  const Guidance guidance({.scale = 3.0, .start = 0.2, .stop = 0.7});
  std::vector<std::int64_t> active;
  for (std::int64_t step = 0; step < 10; ++step) {
    if (guidance.needs_unconditional(step, 10)) {
      active.push_back(step);
    }
  }
  EXPECT_THAT(active, ::testing::ElementsAre(2, 3, 4, 5, 6));
}

TEST(GuidanceTest, OscillationRestsAtOddSteps) {
  const Guidance guidance({.scale = 3.0, .oscillate_from = 4});
  std::vector<bool> active;
  for (std::int64_t step = 0; step < 9; ++step) {
    active.push_back(guidance.needs_unconditional(step, 9));
  }
  EXPECT_THAT(active,
              ::testing::ElementsAre(true, true, true, true, true, false, true, false, true));
}

TEST(GuidanceTest, UnguidedChannelsAreTheConditionalOnes) {
  Guidance guidance({.scale = 5.0, .guided_channels = 3});
  // 4 latent channels and 4 variances.
  const Tensor c = at::cat({cond(), cond() + 1.0}, 1);
  const Tensor u = at::cat({uncond(), uncond() - 1.0}, 1);
  const Tensor out = guidance.combine(c, u, 0, 10, 4);
  EXPECT_TRUE(at::equal(out.narrow(1, 3, 5), c.narrow(1, 3, 5)));
  const Tensor expected = u.narrow(1, 0, 3) + 5.0 * (c.narrow(1, 0, 3) - u.narrow(1, 0, 3));
  EXPECT_TRUE(at::equal(out.narrow(1, 0, 3), expected));
}

TEST(GuidanceTest, FullRescaleHasTheDeviationOfTheConditional) {
  Guidance guidance({.scale = 9.0, .rescale = 1.0});
  const Tensor out = guidance.combine(cond(), uncond(), 0, 10, 4);
  EXPECT_TRUE(at::allclose(out.flatten(1).std(1), cond().flatten(1).std(1), 1e-12, 1e-12));
}

TEST(GuidanceTest, ZeroInitWithRescaleStaysFinite) {
  Guidance guidance({.kind = GuidanceKind::kCfgZero, .rescale = 0.7, .zero_init_steps = 2});
  EXPECT_FALSE(guidance.needs_unconditional(1, 10));
  const Tensor out = guidance.combine(cond(), {}, 1, 10, 4);
  EXPECT_TRUE(at::equal(out, at::zeros_like(out)));
}

TEST(GuidanceTest, ProjectedUpdateIsOrthogonalWithoutEta) {
  Guidance guidance({.kind = GuidanceKind::kApg, .scale = 4.0, .norm_threshold = 2.0, .eta = 0.0});
  const Tensor update = (guidance.combine(cond(), uncond(), 0, 10, 4) - uncond()) / 4.0;
  const Tensor along = (update * cond()).flatten(1).sum(1);
  EXPECT_LT(along.abs().max().item<double>(), 1e-12);
  EXPECT_LE(update.flatten(1).norm(2, 1).max().item<double>(), 2.0 + 1e-12);
}

TEST(GuidanceTest, MomentumStartsAfreshAtStepZero) {
  Guidance guidance({.kind = GuidanceKind::kApg, .momentum = -0.5});
  const Tensor first = guidance.combine(cond(), uncond(), 0, 10, 4);
  const Tensor second = guidance.combine(cond(), uncond(), 1, 10, 4);
  EXPECT_FALSE(at::equal(first, second));
  // A journal keeps the buffer.
  Guidance continued(guidance.config());
  continued.set_running(guidance.running());
  EXPECT_TRUE(at::equal(continued.combine(cond(), uncond(), 2, 10, 4),
                        guidance.combine(cond(), uncond(), 2, 10, 4)));
  EXPECT_TRUE(at::equal(guidance.combine(cond(), uncond(), 0, 10, 4), first));
}

TEST(GuidanceTest, TangentialKeepsWhatIsAlongTheMainDirection) {
  Guidance guidance({.kind = GuidanceKind::kTangential, .scale = 3.0});
  // u parallel to c is kept whole: plain guidance.
  const Tensor u = 0.5 * cond();
  const Tensor expected = u + 3.0 * (cond() - u);
  EXPECT_TRUE(at::allclose(guidance.combine(cond(), u, 0, 10, 4), expected, 0.0, 1e-12));
  // u orthogonal to a larger c vanishes.
  Tensor c = at::zeros({1, 2, 1, 1, 1}, at::kDouble);
  Tensor small = at::zeros_like(c);
  c[0][0] = 2.0;
  small[0][1] = 1.0;
  EXPECT_TRUE(at::allclose(guidance.combine(c, small, 0, 10, 2), 3.0 * c));
}

TEST(GuidanceTest, TextAndImageScales) {
  const std::vector<double> per_frame = {2.0, 3.0};
  const Tensor both = uncond() * 0.3;
  const Tensor out = combine_text_and_image(cond(), uncond(), both, 7.5, per_frame);
  for (std::int64_t t = 0; t < 2; ++t) {
    const auto crop = [&](const Tensor& all) { return all.select(2, t); };
    const Tensor expected = crop(both) +
                            per_frame[static_cast<std::size_t>(t)] * (crop(uncond()) - crop(both)) +
                            7.5 * (crop(cond()) - crop(uncond()));
    EXPECT_TRUE(at::allclose(crop(out), expected));
  }
  const std::vector<double> three = {1.0, 2.0, 3.0};
  EXPECT_EQ(error_code([&] { (void)combine_text_and_image(cond(), uncond(), both, 7.5, three); }),
            "tensor.shape");
}

TEST(GuidanceTest, ConfigErrors) {
  const auto code = [](const Json& json) {
    return error_code([&] { (void)GuidanceConfig::from_json(json); });
  };
  const GuidanceConfig config{
      .kind = GuidanceKind::kApg, .scale = 3.5, .guided_channels = 3, .momentum = -0.5};
  EXPECT_EQ(GuidanceConfig::from_json(config.to_json()), config);
  EXPECT_EQ(code({{"kind", "cgf"}}), "config.value");
  EXPECT_EQ(code({{"sclae", 3}}), "config.unknown_key");
  EXPECT_EQ(code({{"rescale", 1.5}}), "guidance.range");
  EXPECT_EQ(code({{"start", 0.8}, {"stop", 0.2}}), "guidance.range");
  EXPECT_EQ(code({{"guided_channels", 0}}), "guidance.range");
  Guidance guidance({.scale = 3.0});
  EXPECT_EQ(error_code([&] { (void)guidance.combine(cond(), {}, 0, 10, 4); }), "guidance.shape");
}

/// Adds up what it is told, so that both halves can be told apart.
class TellingDenoiser final : public Denoiser {
 public:
  Tensor predict(const Tensor& latents, const Tensor& timesteps, const Conditioning& c) override {
    num_passes += 1;
    last = c;
    Tensor text = c.context_BMD;
    if (c.context_mask_BM.defined()) {
      text = text * c.context_mask_BM.to(text.scalar_type()).unsqueeze(-1);
    }
    const Tensor told = text.flatten(1).sum(1) + timesteps.to(text.scalar_type());
    return latents + told.view({-1, 1, 1, 1, 1});
  }
  int num_passes = 0;
  Conditioning last;
};

TEST(GuidedDenoiserTest, OneBatchForBothPrompts) {
  TellingDenoiser denoiser;
  Conditioning prompt;
  prompt.context_BMD = normal("prompt", {1, 3, 4}, at::kDouble);
  Conditioning negative;
  negative.context_BMD = normal("negative", {1, 5, 4}, at::kDouble);  // longer
  GuidedDenoiser guided(denoiser, {.scale = 4.0, .stop = 0.5}, prompt, negative);
  const Tensor x = normal("x", {1, 2, 3, 2, 2}, at::kDouble);
  const Tensor t = at::full({1}, 10.0, at::kDouble);
  const double text = prompt.context_BMD.sum().item<double>();
  const double null = negative.context_BMD.sum().item<double>();
  const Tensor out = guided.predict(x, t, 0, 10);
  EXPECT_TRUE(at::allclose(out, x + 10.0 + null + 4.0 * (text - null), 1e-12, 1e-12));
  EXPECT_EQ(denoiser.num_passes, 1);
  EXPECT_EQ(denoiser.last.context_BMD.size(0), 2);
  // Outside the interval: the prompt alone.
  EXPECT_TRUE(at::allclose(guided.predict(x, t, 5, 10), x + 10.0 + text, 1e-12, 1e-12));
  EXPECT_EQ(denoiser.last.context_BMD.size(0), 1);
}

TEST(ConditioningTest, WindowsSliceWhatBelongsToFrames) {
  Conditioning all;
  all.context_BMD = normal("text", {1, 3, 4});
  all.frame_mask_BT = at::tensor({1, 0, 1, 1, 0}, at::kInt).to(at::kBool).view({1, 5});
  all.image_BCTHW = normal("image", {1, 2, 5, 2, 2});
  const Conditioning part = all.window(1, 3);
  EXPECT_EQ(part.frame_offset, 1);
  EXPECT_EQ(part.window(1, 2).frame_offset, 2);
  EXPECT_TRUE(at::equal(part.frame_mask_BT, all.frame_mask_BT.narrow(1, 1, 3)));
  EXPECT_TRUE(at::equal(part.image_BCTHW, all.image_BCTHW.narrow(2, 1, 3)));
  EXPECT_TRUE(at::equal(part.context_BMD, all.context_BMD));
  EXPECT_EQ(error_code([&] { (void)all.window(3, 3); }), "conditioning.window");
  Conditioning without = all;
  without.image_BCTHW = Tensor();
  EXPECT_EQ(error_code([&] { (void)concat(all, without); }), "conditioning.concat");
}

}  // namespace
}  // namespace kinema::diffusion::test
