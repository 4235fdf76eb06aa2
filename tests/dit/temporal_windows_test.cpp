// SPDX-License-Identifier: Apache-2.0
// Temporal attention in windows (FreeNoise): against the readable form, and by what it must not
// change.
#include <vector>

#include <ATen/Parallel.h>

#include "core/diffusion/freenoise.h"
#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

using diffusion::Window;

constexpr double kSame = 1e-5;

class WindowedTime : public EveryLayout {
 protected:
  VDitConfig config_ = small_config(GetParam());
  std::unique_ptr<VideoDit> model_ = small_model(config_);
  SmallInputs in_ = small_inputs(config_);

  Tensor predict() { return model_->predict(in_.latents_BCTHW, in_.timesteps_B, in_.conditioning); }
};

TEST_P(WindowedTime, OneWindowIsTheSameBits) {
  const Tensor whole = predict();
  model_->set_temporal_windows(diffusion::plan_windows(4, 4, 4));
  EXPECT_TRUE(at::equal(predict(), whole));
}

TEST_P(WindowedTime, WindowsThatDoNotMeetAreVideosOfTheirOwn) {
  model_->set_temporal_windows({{.first = 0, .length = 1}, {.first = 1, .length = 3, .index = 1}});
  const Tensor windowed = predict();
  model_->set_temporal_windows({});
  const Tensor all = in_.latents_BCTHW;
  in_.latents_BCTHW = all.narrow(2, 1, 3);
  EXPECT_LE(relative_difference(windowed.narrow(2, 1, 3), predict()), kSame);
  in_.latents_BCTHW = all.narrow(2, 0, 1);
  EXPECT_LE(relative_difference(windowed.narrow(2, 0, 1), predict()), kSame);
}

TEST_P(WindowedTime, GroupsChangeNothing) {
  model_->set_temporal_windows(diffusion::plan_windows(4, 3, 1));
  const Tensor whole = predict();
  model_->set_execution({.frame_group = 1, .position_group = 2});
  EXPECT_LE(relative_difference(predict(), whole), kSame);
}

TEST_P(WindowedTime, AnotherLengthThanTheWindowsCoverIsRefused) {
  model_->set_temporal_windows(diffusion::plan_windows(5, 3, 1));
  EXPECT_EQ(error_code([&] { static_cast<void>(predict()); }), "dit.frames");
}

TEST_P(WindowedTime, ThePlaceOfAWindowInTheVideoChangesNothing) {
  const Tensor at_the_start = predict();
  in_.conditioning.frame_offset = 12;
  EXPECT_TRUE(at::equal(predict(), at_the_start));
}

INSTANTIATE_TEST_SUITE_P(Layouts,
                         WindowedTime,
                         testing::Values(Layout::kStdit2, Layout::kStdit3),
                         layout_name);

TEST(TemporalWindowsTest, OtherLayoutsRefuseThem) {
  for (const Layout layout : {Layout::kFull, Layout::kPixart, Layout::kLatte}) {
    const auto model = small_model(small_config(layout));
    EXPECT_EQ(error_code([&] { model->set_temporal_windows(diffusion::plan_windows(8, 4, 2)); }),
              "dit.temporal_windows");
  }
}

TEST(TemporalWindowsTest, AttentionEqualsTheReadableForm) {
  constexpr std::int64_t kBatch = 2;
  constexpr std::int64_t kFrames = 7;
  constexpr std::int64_t kPositions = 3;
  constexpr std::int64_t kWidth = 12;
  constexpr std::int64_t kHeads = 2;
  const at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(4);
  const auto draw = [&](c10::IntArrayRef shape) { return at::randn(shape, generator, at::kFloat); };
  SelfAttention attention(AttentionOptions{
      .width = kWidth, .num_heads = kHeads, .qk_norm = true, .axis = Axis::kTemporal});
  for (Tensor& parameter : attention->parameters()) {
    parameter.copy_(draw(parameter.sizes()) * 0.4);
  }
  const std::vector<Window> windows = diffusion::plan_windows(kFrames, 4, 2);
  const dit::TemporalWindows rule = {.windows = windows,
                                     .weights = diffusion::normalised_weights(
                                         windows, kFrames, diffusion::WindowWeights::kTriangular)};
  const auto rotary = attention::rotary_table(at::arange(kFrames, at::kFloat),
                                              attention::rotary_frequencies(kWidth / kHeads));
  const BlockContext context = {
      .grid = {.batch = kBatch, .frames = kFrames, .rows = 1, .columns = kPositions},
      .modulation_R6D = {},
      .temporal_modulation_R3D = {},
      .rotary = &rotary,
      .windows = &rule};
  const Tensor x_FSD = draw({kBatch * kFrames, kPositions, kWidth});
  Tensor changed = x_FSD.clone();
  const Tensor zero_RD = at::zeros({kBatch, kWidth});
  attention->run(changed, context, zero_RD, zero_RD, at::ones({kBatch, kWidth}));

  const Tensor normed = at::layer_norm(x_FSD, {kWidth}, {}, {}, 1e-6);
  // [B, T, S, 3, N, K] -> [B, S] videos of T frames.
  const Tensor qkv = attention->qkv->forward(normed)
                         .view({kBatch, kFrames, kPositions, 3, kHeads, kWidth / kHeads})
                         .transpose(1, 2)
                         .flatten(0, 1);
  const auto heads = [&](std::int64_t index) { return qkv.select(2, index); };
  const Tensor query = attention::apply_rotary(attention->q_norm->forward(heads(0)), rotary);
  const Tensor key = attention::apply_rotary(attention->k_norm->forward(heads(1)), rotary);
  const Tensor seen = diffusion::windowed_attention(
      query.transpose(1, 2), key.transpose(1, 2), heads(2).transpose(1, 2), windows);
  const Tensor back = seen.transpose(1, 2)
                          .reshape({kBatch, kPositions, kFrames, kWidth})
                          .transpose(1, 2)
                          .reshape({kBatch * kFrames, kPositions, kWidth});
  EXPECT_LE(relative_difference(changed, x_FSD + attention->proj->forward(back)), kSame);
}

}  // namespace
}  // namespace kinema::dit
