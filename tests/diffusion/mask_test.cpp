// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <gmock/gmock.h>

#include "core/diffusion/mask_generator.h"
#include "core/diffusion/masked_sampling.h"
#include "tests/diffusion/diffusion_test_data.h"

namespace kinema::diffusion::test {
namespace {

class MaskedSamplingTest : public ::testing::TestWithParam<std::size_t> {};

// Kept frames leave the loop untouched, whatever the network says about them; an edited frame takes
// part in the last steps only.
TEST_P(MaskedSamplingTest, KeptFramesAreKeptToTheBit) {
  const NamedSampler named = all_samplers(6)[GetParam()];
  SCOPED_TRACE(named.name);
  const auto sampler = scheduled(named);
  const std::vector<std::int64_t> shape = {1, 2, 4, 2, 2};
  const float edit = sampler->is_multistep() ? 0.0F : 0.5F;
  const Tensor mask = at::tensor({0.0F, 1.0F, edit, 1.0F}, at::kFloat).view({1, 4});
  const Tensor given = normal("given", shape);
  MaskedSampling masked(mask, *sampler);
  const GaussianData data{.mu = normal("mu", shape)};
  Tensor x = given.clone();
  std::vector<std::int64_t> generated(4, 0);
  for (std::int64_t i = 0; i < sampler->num_steps(); ++i) {
    const Tensor fresh = normal("mask noise " + std::to_string(i), shape);
    const Tensor before = x;
    x = masked.before_step(*sampler, i, x, fresh);
    EXPECT_EQ(at::equal(before, x), !masked.uses_noise(*sampler, i));
    for (std::int64_t t = 0; t < 4; ++t) {
      generated[static_cast<std::size_t>(t)] += masked.generated_BT()[0][t].item<bool>() ? 1 : 0;
    }
    const Tensor seen = masked.model_input(*sampler, i, x);
    if (sampler->kind() != SamplerKind::kIddpm) {
      EXPECT_TRUE(at::equal(seen.select(2, 0), given.select(2, 0)));
    }
    const Tensor out = predict_for(*sampler, data, x, i);
    x = masked.after_step(sampler->step(out, i, x, noise_if_needed(*sampler, i, x)).sample);
  }
  // Open-Sora's ancestral rule sends kept frames through the last step.
  const bool kept_exactly = sampler->kind() != SamplerKind::kIddpm;
  EXPECT_EQ(at::equal(x.select(2, 0), given.select(2, 0)), kept_exactly);
  EXPECT_EQ(generated[0], 0);
  EXPECT_EQ(generated[1], sampler->num_steps());
  EXPECT_EQ(generated[3], sampler->num_steps());
  if (edit > 0.0F) {
    EXPECT_FALSE(at::equal(x.select(2, 2), given.select(2, 2)));
    EXPECT_GT(generated[2], 0);
    EXPECT_LT(generated[2], sampler->num_steps());
  } else {
    EXPECT_TRUE(at::equal(x.select(2, 2), given.select(2, 2)));
    EXPECT_EQ(error_code([&] { MaskedSampling(at::full({1, 4}, 0.5), *sampler); }),
              "mask.multistep");
  }
}

// A mask of ones is no mask.
TEST_P(MaskedSamplingTest, AllOnesIsPlainSampling) {
  const NamedSampler named = all_samplers(6)[GetParam()];
  SCOPED_TRACE(named.name);
  const auto sampler = scheduled(named);
  MaskedSampling masked(at::ones({1, 3}), *sampler);
  const Tensor x = normal("x", {1, 2, 3, 2, 2});
  for (std::int64_t i = 0; i < sampler->num_steps(); ++i) {
    EXPECT_FALSE(masked.uses_noise(*sampler, i));
    EXPECT_TRUE(at::equal(masked.before_step(*sampler, i, x, {}), x));
    EXPECT_TRUE(masked.generated_BT().all().item<bool>());
    EXPECT_TRUE(at::equal(masked.after_step(x + 1.0), x + 1.0));
  }
}

INSTANTIATE_TEST_SUITE_P(AllSamplers,
                         MaskedSamplingTest,
                         ::testing::Range<std::size_t>(0, all_samplers(6).size()));

TEST(MaskedSamplingErrors, RefusesValuesOutsideTheRange) {
  auto sampler = make_sampler(SamplerKind::kRflow);
  sampler->set_timesteps({.num_steps = 4});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value : {-0.1F, 1.1F, nan}) {
    EXPECT_EQ(error_code([&] { MaskedSampling(at::full({1, 2}, value), *sampler); }), "mask.range");
  }
}

std::string pattern(const Tensor& mask_T) {
  std::string text;
  for (std::int64_t t = 0; t < mask_T.size(0); ++t) {
    text += mask_T[t].item<bool>() ? '1' : '0';
  }
  return text;
}

std::string mask_of(MaskRule rule, std::int64_t frames, float u) {
  return pattern(
      make_mask(rule, frames, std::vector<float>(static_cast<std::size_t>(frames) + 2, u)));
}

TEST(MaskGeneratorTest, Rules) {
  EXPECT_EQ(mask_of(MaskRule::kNone, 8, 0.5F), "11111111");
  EXPECT_EQ(mask_of(MaskRule::kQuarterHead, 8, 0.0F), "01111111");
  EXPECT_EQ(mask_of(MaskRule::kQuarterHead, 8, 0.99F), "00111111");
  EXPECT_EQ(mask_of(MaskRule::kQuarterTail, 8, 0.99F), "11111100");
  EXPECT_EQ(mask_of(MaskRule::kQuarterHeadTail, 8, 0.99F), "00111100");
  EXPECT_EQ(mask_of(MaskRule::kQuarterRandom, 8, 0.0F), "01111111");
  EXPECT_EQ(mask_of(MaskRule::kQuarterRandom, 8, 0.99F), "11111100");
  EXPECT_EQ(mask_of(MaskRule::kImageHead, 8, 0.99F), "01111111");
  EXPECT_EQ(mask_of(MaskRule::kImageTail, 8, 0.99F), "11111110");
  EXPECT_EQ(mask_of(MaskRule::kImageHeadTail, 8, 0.99F), "01111110");
  EXPECT_EQ(mask_of(MaskRule::kImageRandom, 8, 0.5F), "11110111");
  EXPECT_EQ(mask_of(MaskRule::kInterpolate, 7, 0.5F), "0101010");
  // Ratio 0.1 + 0.8 u[0] = 0.5; a frame is given where its number is below.
  EXPECT_EQ(pattern(make_mask(MaskRule::kRandom, 4, std::vector<float>{0.5F, 0, 0.4F, 0.6F, 0, 1})),
            "0101");
}

// Short clips: the quarter is one frame, and one frame is left to generate.
TEST(MaskGeneratorTest, ShortClips) {
  for (std::size_t rule = 0; rule < kNumMaskRules; ++rule) {
    for (std::int64_t frames = 1; frames <= 6; ++frames) {
      for (const float u : {0.0F, 0.3F, 0.9F}) {
        const std::string mask = mask_of(static_cast<MaskRule>(rule), frames, u);
        EXPECT_THAT(mask, ::testing::HasSubstr("1")) << rule << " " << frames;
        if (frames == 1) {
          EXPECT_EQ(mask, "1");
        }
      }
    }
  }
  EXPECT_EQ(error_code([] { (void)make_mask(MaskRule::kRandom, 4, {}); }), "mask.uniforms");
}

TEST(MaskGeneratorTest, DrawsRulesByTheirProbability) {
  const auto generator = MaskGenerator::from_json(
      {{"random", 0.1}, {"intepolate", 0.05}, {"quarter_head", 0.2}, {"image_head", 0.25}});
  EXPECT_NEAR(generator.probabilities()[0], 0.4, 1e-12);
  std::map<MaskRule, int> counts;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    counts[generator.rule(3, "train.mask", static_cast<std::uint64_t>(i))] += 1;
  }
  for (std::size_t i = 0; i < kNumMaskRules; ++i) {
    const double p = generator.probabilities()[i];
    const double five_sigma = 5.0 * std::sqrt(kDraws * p * (1.0 - p)) + 1e-9;
    EXPECT_NEAR(counts[static_cast<MaskRule>(i)], kDraws * p, five_sigma) << i;
  }
}

TEST(MaskGeneratorTest, SamplesDoNotDependOnTheBatch) {
  const auto generator = MaskGenerator::from_json({{"random", 0.5}, {"quarter_random", 0.5}});
  const Tensor all = generator.masks_BT(9, "train.mask", 0, 40, 7);
  EXPECT_TRUE(at::equal(generator.masks_BT(9, "train.mask", 13, 5, 7), all.narrow(0, 13, 5)));
  EXPECT_FALSE(at::equal(generator.masks_BT(8, "train.mask", 0, 40, 7), all));
  EXPECT_FALSE(all.all().item<bool>());
}

TEST(MaskGeneratorTest, ConfigErrors) {
  const auto code = [](const Json& json) {
    return error_code([&] { (void)MaskGenerator::from_json(json); });
  };
  EXPECT_EQ(code({{"random", 0.7}, {"image_head", 0.4}}), "mask.probability");
  EXPECT_EQ(code({{"random", -0.1}}), "mask.probability");
  EXPECT_EQ(code({{"quater_head", 0.1}}), "config.unknown_key");
  EXPECT_EQ(code({{"mask_no", 0.9}, {"random", 0.1}}), "");
}

}  // namespace
}  // namespace kinema::diffusion::test
