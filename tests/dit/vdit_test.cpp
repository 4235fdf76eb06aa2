// SPDX-License-Identifier: Apache-2.0
// Promises of the forward pass: the two ways through the network agree, groups and caches change
// nothing, samples do not see each other.
#include "dit/vdit.h"

#include <ATen/Parallel.h>

#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

constexpr double kSame = 1e-5;

class VDitForward : public EveryLayout {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(threads_); }

  const int threads_ = at::get_num_threads();
  VDitConfig config_ = small_config(GetParam());
  std::unique_ptr<VideoDit> model_ = small_model(config_);
  SmallInputs in_ = small_inputs(config_);

  Tensor predict(const SmallInputs& in) {
    return model_->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  }
  Tensor forward(const SmallInputs& in) {
    at::NoGradGuard no_grad;
    return model_->module()->forward(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  }
};

TEST_P(VDitForward, FusedEqualsDifferentiable) {
  const Tensor prediction = predict(in_);
  EXPECT_EQ(prediction.size(1), config_.out_channels());
  EXPECT_EQ(prediction.scalar_type(), at::kFloat);
  EXPECT_GT(prediction.std().item<double>(), 0.01);
  EXPECT_LE(relative_difference(prediction, forward(in_)), kSame);
  in_.conditioning.context_mask_BM = Tensor();
  EXPECT_LE(relative_difference(predict(in_), forward(in_)), kSame);
}

TEST_P(VDitForward, GroupsChangeNothing) {
  const Tensor whole = predict(in_);
  for (const auto& [frames, positions] : {std::pair(1, 1), std::pair(3, 4), std::pair(100, 5)}) {
    model_->set_execution({.frame_group = frames, .position_group = positions});
    EXPECT_LE(relative_difference(predict(in_), whole), kSame) << frames << " " << positions;
  }
}

TEST_P(VDitForward, ConstantTimesOfFramesEqualOneTime) {
  const Tensor once = predict(in_);
  in_.timesteps_B = in_.timesteps_B.unsqueeze(1).expand({2, 4});
  EXPECT_LE(relative_difference(predict(in_), once), kSame);
  EXPECT_LE(relative_difference(forward(in_), once), kSame);
}

TEST_P(VDitForward, GivenFramesHaveTimeZero) {
  const Tensor mask = at::tensor({0, 1, 1, 1, 1, 0, 0, 1}).view({2, 4});
  SmallInputs by_times = in_;
  by_times.timesteps_B = in_.timesteps_B.unsqueeze(1) * mask;
  in_.conditioning.frame_mask_BT = mask.to(at::kBool);
  EXPECT_GT(relative_difference(predict(in_), predict(small_inputs(config_))), 0.01);
  EXPECT_LE(relative_difference(predict(in_), predict(by_times)), kSame);
  EXPECT_LE(relative_difference(forward(in_), predict(by_times)), kSame);
}

TEST_P(VDitForward, SamplesDoNotSeeEachOther) {
  const Tensor both = predict(in_);
  for (std::int64_t b = 0; b < 2; ++b) {
    const auto one = [&](const Tensor& tensor) {
      return tensor.defined() ? tensor.narrow(0, b, 1) : tensor;
    };
    SmallInputs single = in_;
    single.latents_BCTHW = one(in_.latents_BCTHW);
    single.timesteps_B = one(in_.timesteps_B);
    diffusion::Conditioning& c = single.conditioning;
    for (Tensor* field : {&c.context_BMD,
                          &c.context_mask_BM,
                          &c.pooled_BD,
                          &c.fps_B,
                          &c.height_B,
                          &c.width_B,
                          &c.num_frames_B}) {
      *field = one(*field);
    }
    EXPECT_LE(relative_difference(predict(single), both.narrow(0, b, 1)), kSame);
  }
}

TEST_P(VDitForward, HiddenTokensDoNotCount) {
  if (GetParam() == Layout::kLatte) {
    // Latte was made without a text mask: all tokens count.
    const Tensor masked = predict(in_);
    in_.conditioning.context_mask_BM = Tensor();
    EXPECT_TRUE(at::equal(predict(in_), masked));
    return;
  }
  const Tensor before = predict(in_);
  Tensor& context = in_.conditioning.context_BMD;
  context = context.clone();
  context.select(0, 0).select(0, 5).fill_(7.0);
  EXPECT_TRUE(at::equal(predict(in_), before));
  // A token in the middle may be hidden too, and a prompt may be empty.
  in_.conditioning.context_mask_BM = at::tensor({1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}).view({2, 6});
  const Tensor holes = predict(in_);
  EXPECT_TRUE(at::isfinite(holes).all().item<bool>());
  EXPECT_LE(relative_difference(holes, forward(in_)), kSame);
}

TEST_P(VDitForward, EveryConditionMatters) {
  const Tensor before = predict(in_);
  const auto changed = [&](const auto& change) {
    SmallInputs other = in_;
    change(other);
    return relative_difference(predict(other), before);
  };
  EXPECT_GT(changed([](SmallInputs& in) { in.timesteps_B = in.timesteps_B + 20.0; }), 1e-3);
  EXPECT_GT(changed([](SmallInputs& in) {
              in.conditioning.context_BMD = in.conditioning.context_BMD + 1.0;
            }),
            1e-3);
  EXPECT_EQ(config_.fps_condition, changed([](SmallInputs& in) {
                                     in.conditioning.fps_B = in.conditioning.fps_B + 9.0;
                                   }) > 1e-3);
  EXPECT_EQ(config_.frames_condition, changed([](SmallInputs& in) {
                                        in.conditioning.num_frames_B =
                                            in.conditioning.num_frames_B + 9.0;
                                      }) > 1e-3);
  const double by_shape = changed(
      [](SmallInputs& in) { std::swap(in.conditioning.height_B, in.conditioning.width_B); });
  EXPECT_EQ(config_.size_conditions, by_shape > 1e-3);
  if (config_.pooled_channels > 0) {
    EXPECT_GT(changed([](SmallInputs& in) {
                in.conditioning.pooled_BD = in.conditioning.pooled_BD + 1.0;
              }),
              1e-3);
  }
}

TEST_P(VDitForward, PromptsAreProjectedOnce) {
  const Tensor first = predict(in_);
  const std::int64_t bytes = model_->prompt_cache_bytes();
  EXPECT_GT(bytes, 0);
  // The same text again, in other memory.
  in_.conditioning.context_BMD = in_.conditioning.context_BMD.clone();
  EXPECT_TRUE(at::equal(predict(in_), first));
  EXPECT_EQ(model_->prompt_cache_bytes(), bytes);
  // Another text is another entry; the first stays.
  SmallInputs other = small_inputs(config_, 99);
  const Tensor second = predict(other);
  EXPECT_GT(model_->prompt_cache_bytes(), bytes);
  EXPECT_TRUE(at::equal(predict(in_), first));
  // Without a cache nothing changes but the memory.
  model_->set_execution({.cached_prompts = 0});
  EXPECT_EQ(model_->prompt_cache_bytes(), 0);
  EXPECT_TRUE(at::equal(predict(in_), first));
  EXPECT_TRUE(at::equal(predict(other), second));
  EXPECT_EQ(model_->prompt_cache_bytes(), 0);
}

TEST_P(VDitForward, CacheNoticesOverwrittenTextAndChangedWeights) {
  const Tensor before = predict(in_);
  in_.conditioning.context_BMD.add_(1.0);
  const Tensor after = predict(in_);
  EXPECT_GT(relative_difference(after, before), 1e-3);
  EXPECT_LE(relative_difference(after, forward(in_)), kSame);
  {
    at::NoGradGuard no_grad;
    model_->module()->blocks().front()->cross_attn->kv_linear->weight.mul_(1.5);
  }
  EXPECT_LE(relative_difference(predict(in_), forward(in_)), kSame);
}

TEST_P(VDitForward, BfloatFollowsFloat) {
  auto narrow = VideoDit::create(config_, 3, {c10::kCPU, c10::kBFloat16});
  {
    at::NoGradGuard no_grad;
    auto ours = model_->module()->named_parameters();
    for (auto& item : narrow->module()->named_parameters()) {
      item.value().copy_(ours[item.key()]);
    }
  }
  const Tensor prediction = narrow->predict(in_.latents_BCTHW, in_.timesteps_B, in_.conditioning);
  EXPECT_EQ(prediction.scalar_type(), at::kFloat);
  const Tensor wide = predict(in_);
  EXPECT_LE(((prediction - wide).square().mean().sqrt() / wide.std()).item<double>(), 0.06);
}

TEST_P(VDitForward, RefusesWhatDoesNotFit) {
  const auto code = [&](const auto& change) {
    SmallInputs other = in_;
    change(other);
    return error_code([&] { (void)predict(other); });
  };
  EXPECT_EQ(code([](SmallInputs& in) { in.latents_BCTHW = in.latents_BCTHW.narrow(1, 0, 2); }),
            "tensor.shape");
  EXPECT_EQ(code([](SmallInputs& in) { in.timesteps_B = at::zeros({3}); }), "tensor.shape");
  EXPECT_EQ(code([](SmallInputs& in) { in.timesteps_B = at::zeros({2, 3}); }), "tensor.shape");
  EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.context_BMD = Tensor(); }), "tensor.shape");
  EXPECT_EQ(code([](SmallInputs& in) {
              in.conditioning.context_BMD = in.conditioning.context_BMD.narrow(0, 0, 1);
              in.conditioning.context_mask_BM = in.conditioning.context_mask_BM.narrow(0, 0, 1);
            }),
            "dit.prompt_batch");
  EXPECT_EQ(code([](SmallInputs& in) {
              in.conditioning.context_mask_BM = in.conditioning.context_mask_BM.narrow(1, 0, 4);
            }),
            "tensor.shape");
  EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.frame_mask_BT = at::ones({2, 3}); }),
            "tensor.shape");
  if (config_.fps_condition) {
    EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.fps_B = Tensor(); }), "dit.condition");
    EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.fps_B = at::ones({5}); }),
              "dit.condition");
  }
  if (config_.position_base == 0) {
    EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.height_B = Tensor(); }), "dit.condition");
    EXPECT_EQ(code([](SmallInputs& in) { in.conditioning.height_B = at::zeros({2}); }),
              "dit.condition");
  }
  if (config_.layout == Layout::kLatte) {
    EXPECT_EQ(code([](SmallInputs& in) { in.latents_BCTHW = in.latents_BCTHW.narrow(2, 0, 3); }),
              "dit.frames");
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, VDitForward, testing::ValuesIn(kAllLayouts), layout_name);

TEST(VDit, PatchesOfSeveralFramesRefuseTimesOfFrames) {
  VDitConfig config = small_config(Layout::kStdit3);
  config.patch = {2, 2, 2};
  const auto model = small_model(config);
  SmallInputs in = small_inputs(config);
  EXPECT_EQ(model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning).size(2), 4);
  EXPECT_EQ(error_code([&] {
              (void)model->predict(in.latents_BCTHW, at::zeros({2, 4}), in.conditioning);
            }),
            "dit.frames");
}

TEST(VDit, FullAttentionSeesFramesApart) {
  // A change in the last frame reaches the first only through attention over the whole video.
  const VDitConfig config = small_config(Layout::kFull);
  const auto model = small_model(config);
  SmallInputs in = small_inputs(config);
  const Tensor before = model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  in.latents_BCTHW.select(2, 3).add_(1.0);
  const Tensor after = model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  EXPECT_GT(relative_difference(after.select(2, 0), before.select(2, 0)), 1e-3);
}

TEST(VDit, UnconditionalKeepsTheMaskOfThePrompt) {
  const VDitConfig config = small_config(Layout::kStdit3);
  const auto model = small_model(config);
  const SmallInputs in = small_inputs(config);
  const diffusion::Conditioning null = model->unconditional(in.conditioning);
  EXPECT_TRUE(at::equal(null.context_mask_BM, in.conditioning.context_mask_BM));
  const Tensor rows = model->module()->y_embedder->y_embedding.detach().narrow(0, 0, 6);
  EXPECT_TRUE(at::equal(null.context_BMD, at::stack({rows, rows})));
  diffusion::Conditioning longer = in.conditioning;
  longer.context_BMD = at::zeros({2, 8, config.caption_channels});
  EXPECT_EQ(error_code([&] { (void)model->unconditional(longer); }), "dit.null_caption");
}

TEST(VDit, BatchedGuidanceEqualsTwoPasses) {
  const VDitConfig config = small_config(Layout::kStdit2);
  const auto model = small_model(config);
  const SmallInputs in = small_inputs(config);
  const diffusion::Conditioning null = model->unconditional(in.conditioning);
  const Tensor both = model->predict(at::cat({in.latents_BCTHW, in.latents_BCTHW}),
                                     at::cat({in.timesteps_B, in.timesteps_B}),
                                     diffusion::concat(in.conditioning, null));
  const Tensor apart = at::cat({model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning),
                                model->predict(in.latents_BCTHW, in.timesteps_B, null)});
  EXPECT_LE(relative_difference(both, apart), kSame);
}

}  // namespace
}  // namespace kinema::dit
