// SPDX-License-Identifier: Apache-2.0
// A run that is cut off and continued from its saved state gives the same bits.
#include <gmock/gmock.h>

#include "core/tensor/from_view.h"
#include "tests/diffusion/diffusion_test_data.h"
#include "tests/support/temp_folder.h"

namespace kinema::diffusion::test {
namespace {

using kinema::test::TempFolder;

class SamplerStateTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  static constexpr std::int64_t kSteps = 8;

  static Tensor advance(Sampler& sampler, Tensor x, std::int64_t from, std::int64_t to) {
    const GaussianData data{.mu = normal("mu", {1, 3, 2, 4, 4})};
    for (std::int64_t i = from; i < to; ++i) {
      x = sampler.step(predict_for(sampler, data, x, i), i, x, noise_if_needed(sampler, i, x))
              .sample;
    }
    return x;
  }
  static Tensor start(const Sampler& sampler) {
    return normal("start", {2, 3, 2, 4, 4}) * sampler.init_noise_sigma();
  }
};

TEST_P(SamplerStateTest, ContinuesWithTheSameBits) {
  const NamedSampler named = all_samplers(kSteps)[GetParam()];
  SCOPED_TRACE(named.name);
  auto sampler = scheduled(named);
  const Tensor whole = advance(*sampler, start(*sampler), 0, sampler->num_steps());
  for (const std::int64_t cut : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, kSteps - 1}) {
    sampler->reset();
    const Tensor x = advance(*sampler, start(*sampler), 0, cut);
    const SamplerState state = sampler->save_state();
    // Through files, as a journal does it.
    const TempFolder folder;
    TensorMap tensors = state.tensors;
    tensors["latents"] = x;
    tensor::save_tensors(folder / "state.safetensors", tensors);
    TensorMap loaded = tensor::load_tensors(folder / "state.safetensors");
    const auto continued =
        load_sampler({.json = parse_json(state.json.dump(), {}), .tensors = loaded});
    const Tensor end = advance(*continued, loaded.at("latents"), cut, continued->num_steps());
    EXPECT_TRUE(at::equal(end, whole)) << "cut at " << cut;
  }
}

TEST_P(SamplerStateTest, ClonesDoNotShareTheirHistory) {
  const NamedSampler named = all_samplers(kSteps)[GetParam()];
  SCOPED_TRACE(named.name);
  auto sampler = scheduled(named);
  const Tensor half = advance(*sampler, start(*sampler), 0, 4);
  const auto copy = sampler->clone();
  const Tensor first = advance(*sampler, half, 4, sampler->num_steps());
  const Tensor second = advance(*copy, half, 4, copy->num_steps());
  EXPECT_TRUE(at::equal(first, second));
  copy->reset();
  EXPECT_TRUE(at::equal(advance(*copy, start(*copy), 0, 4), half));
}

TEST_P(SamplerStateTest, RefusesAnotherOrder) {
  const NamedSampler named = all_samplers(kSteps)[GetParam()];
  SCOPED_TRACE(named.name);
  auto sampler = scheduled(named);
  const Tensor x = advance(*sampler, start(*sampler), 0, 2);
  const auto jump = [&] { (void)advance(*sampler, x, 5, 6); };
  if (sampler->is_multistep()) {
    EXPECT_EQ(error_code(jump), "sampler.order");
    sampler->reset();
  }
  EXPECT_EQ(error_code(jump), "");
}

INSTANTIATE_TEST_SUITE_P(AllSamplers,
                         SamplerStateTest,
                         ::testing::Range<std::size_t>(0, all_samplers(8).size()));

TEST(SamplerState, RefusesWhatIsNotAState) {
  auto sampler = make_sampler(SamplerKind::kUnipc);
  sampler->set_timesteps({.num_steps = 6});
  const Tensor x = normal("x", {1, 2, 1, 2, 2});
  (void)sampler->step(x, 0, x);
  const SamplerState good = sampler->save_state();
  const auto code = [](const SamplerState& state) {
    return error_code([&] { (void)load_sampler(state); });
  };
  EXPECT_EQ(code(good), "");
  SamplerState bad = good;
  bad.tensors.erase("history.0");
  EXPECT_EQ(code(bad), "sampler.state");
  bad = good;
  bad.tensors.erase("last_sample");
  EXPECT_EQ(code(bad), "sampler.state");
  bad = good;
  bad.json["history"] = 1000000;
  EXPECT_EQ(code(bad), "sampler.state");
  bad = good;
  bad.json["kind"] = "ddim";
  EXPECT_EQ(code(bad), "config.value");
  bad = good;
  bad.json["format"] = 2;
  EXPECT_EQ(code(bad), "config.value");
  bad = good;
  bad.json.erase("kind");
  EXPECT_EQ(code(bad), "config.missing");
}

}  // namespace
}  // namespace kinema::diffusion::test
