// SPDX-License-Identifier: Apache-2.0
// `kinema train dit` from clips to a model folder, at the smallest size: words are learned first,
// the loss falls, a stopped run goes on with the same bits, both objectives train.
#include "training/dit_training.h"

#include <filesystem>
#include <fstream>

#include "training/frozen_text.h"
#include "training/latent_cache.h"
#include "training/text_tower.h"
#include "training/vae_training.h"
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "dit/vdit.h"
#include "tests/support/temp_folder.h"
#include "text/text_encoder.h"
#include "world/caption.h"

namespace kinema::training {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizer = KINEMA_SOURCE_DIR "/tests/golden/text/tokenizer_t5";

/// One autoencoder for all tests of this file.
class TrainDit : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new test::TempFolder();
    write_file(
        *shared_ / "network.json",
        R"({"_class_name":"VidVAE","latent_channels":4,"base":8,"mult":[1,1],"res_blocks":1,"groups":4,)"
        R"("space_down":["causal"],"conv3d_levels_enc":[false,true],"time_down":["pool","pool"],)"
        R"("time_up":["repeat","repeat"],"patch":4,"linear_shortcut":true})");
    VaeTraining training({.folder = *shared_ / "vae_run",
                          .network = *shared_ / "network.json",
                          .size = 16,
                          .batch = 4,
                          .lengths = {5},
                          .length_weights = {1},
                          .validation_clips = 4,
                          .measured_clips = 16,
                          .run = {.schedule = {.warmup = 1, .steps = 2}}},
                         null_logger());
    static_cast<void>(training.run(false, null_progress()));
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  static DitTrainConfig config(const std::string& folder, std::int64_t steps) {
    return {.folder = folder,
            .vae = *shared_ / "vae_run/vae",
            .tokenizer = kTokenizer,
            .cache = *shared_ / "latents",
            .buckets = {{.width = 16, .height = 16, .frames = 5}},
            .clips = 24,
            .batch = 8,
            .width = 24,
            .layers = 2,
            .heads = 2,
            .text_width = 16,
            .text_layers = 1,
            .max_length = 32,
            .pretrain_steps = 3,
            .validation_clips = 8,
            .judged_clips = 2,
            .sample_steps = 2,
            .run = {.schedule = {.warmup = 3, .steps = steps},
                    .ema = 0.9,
                    .log_every = 1,
                    .validate_every = 0,
                    .save_every = 4}};
  }

  static double value(const Metrics& metrics, std::string_view name) {
    for (const auto& [key, number] : metrics) {
      if (key == name) {
        return number;
      }
    }
    return std::nan("");
  }

  static test::TempFolder* shared_;
  test::TempFolder folder_;
};
test::TempFolder* TrainDit::shared_ = nullptr;

TEST_F(TrainDit, LossFallsForBothObjectives) {
  for (const Objective objective : {Objective::kRflow, Objective::kDdpm}) {
    const std::string name(kObjectiveNames[static_cast<std::size_t>(objective)]);
    const auto loss_after = [&](std::int64_t steps) {
      DitTrainConfig c = config(folder_ / (name + std::to_string(steps)), steps);
      c.objective = objective;
      c.mask_probability = 0.25;
      c.optimizer = {.method = train::Method::kAdamW, .lr = 0.01};
      DitTraining training(c, null_logger());
      return value(training.run(false, null_progress()).validation, "loss");
    };
    EXPECT_LT(loss_after(80), 0.9 * loss_after(1)) << name;
  }
}

TEST_F(TrainDit, BucketsOfSeveralSizesTrainTogether) {
  EXPECT_EQ(BucketSize::parse("32x16x9:0.5"),
            (BucketSize{.width = 32, .height = 16, .frames = 9, .weight = 0.5}));
  EXPECT_EQ(BucketSize::parse("8x8x1").name(), "8x8x1");
  for (const char* text : {"", "8x8", "8x8x1:", "8x8x1:0", "8x0x1", "8x8x1x2", "ax8x1"}) {
    EXPECT_THROW(static_cast<void>(BucketSize::parse(text)), Error) << text;
  }
  DitTrainConfig c = config(folder_ / "run", 12);
  c.buckets.push_back({.width = 32, .height = 16, .frames = 1, .weight = 2});
  c.recompute = true;
  DitTraining training(c, null_logger());
  EXPECT_EQ(training.run(false, null_progress()).steps, 12);
  EXPECT_TRUE(fs::exists(*shared_ / "latents/16x16x5/latents-0.safetensors"));
  EXPECT_TRUE(fs::exists(*shared_ / "latents/32x16x1/latents-0.safetensors"));
}

TEST_F(TrainDit, ResultIsAModelFolder) {
  DitTraining training(config(folder_ / "run", 3), null_logger());
  const DitTrainReport report = training.run(false, null_progress());
  EXPECT_EQ(report.steps, 3);
  for (const char* name : {"model_index.json",
                           "generation.json",
                           "scheduler/scheduler_config.json",
                           "vae/config.json",
                           "tokenizer",
                           "transformer/model.safetensors",
                           "text_encoder/model.safetensors"}) {
    EXPECT_TRUE(fs::exists(folder_ / "run/model/" + name)) << name;
  }
  const auto transformer = dit::VideoDit::load(folder_ / "run/model/transformer", {});
  EXPECT_EQ(transformer->config().pooled_channels, 16);
  const auto encoder = text::TextEncoder::load(folder_ / "run/model/text_encoder", {});
  EXPECT_EQ(encoder->info().width, 16);
  EXPECT_TRUE(fs::exists(folder_ / "run/samples/step-3.png"));
}

TEST_F(TrainDit, FrozenTextEncoderStaysAndIsRemembered) {
  static_cast<void>(
      DitTraining(config(folder_ / "first", 2), null_logger()).run(false, null_progress()));
  DitTrainConfig c = config(folder_ / "second", 3);
  c.text_encoder = folder_ / "first/model/text_encoder";
  static_cast<void>(DitTraining(c, null_logger()).run(false, null_progress()));
  const std::string weights = "/model/text_encoder/model.safetensors";
  EXPECT_EQ(read_file(folder_ / "first" + weights, 1 << 26, "test"),
            read_file(folder_ / "second" + weights, 1 << 26, "test"));
  const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::load(kTokenizer);
  FrozenText frozen(c.text_encoder, tokenizer, null_logger());
  const auto text = frozen.encode({"a red circle", "", "a red circle"}, 16);
  EXPECT_EQ(frozen.num_kept(), 2U);
  EXPECT_TRUE(text.context_BMD[0].equal(text.context_BMD[2]));
  EXPECT_EQ(text.mask_BM[1].sum().item<std::int64_t>(), 1);
}

TEST_F(TrainDit, StoppedRunGoesOnWithTheSameBits) {
  const auto weights = [&](const std::string& run) {
    return read_file(folder_ / run + "/model/transformer/model.safetensors", 1 << 26, "test") +
           read_file(folder_ / run + "/model/text_encoder/model.safetensors", 1 << 26, "test");
  };
  static_cast<void>(
      DitTraining(config(folder_ / "whole", 9), null_logger()).run(false, null_progress()));
  class Stop final : public ProgressObserver {
   public:
    void on_stage(std::string_view name, std::int64_t, std::string_view) override {
      training_ = name == "train";
    }
    void on_step(std::int64_t done, const Metrics&) override { done_ = done; }
    void on_stage_end() override {}
    [[nodiscard]] bool cancelled() const override { return training_ && done_ >= 6; }

   private:
    bool training_ = false;
    std::int64_t done_ = 0;
  } stop;
  DitTraining first(config(folder_ / "parts", 9), null_logger());
  try {
    static_cast<void>(first.run(false, stop));
    FAIL() << "not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
  }
  DitTraining second(config(folder_ / "parts", 9), null_logger());
  static_cast<void>(second.run(true, null_progress()));
  EXPECT_EQ(weights("whole"), weights("parts"));
}

TEST_F(TrainDit, CacheOfAnotherAutoencoderIsRefused) {
  DitTrainConfig c = config(folder_ / "run", 1);
  c.cache = folder_ / "cache";
  static_cast<void>(DitTraining(c, null_logger()).run(false, null_progress()));
  c.folder = folder_ / "other";
  c.vae = folder_ / "vae";
  fs::copy(*shared_ / "vae_run/vae", c.vae, fs::copy_options::recursive);
  std::ofstream(c.vae + "/config.json", std::ios::app) << "\n";
  try {
    static_cast<void>(DitTraining(c, null_logger()).run(false, null_progress()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "train.cache");
  }
}

TEST(TextTower, LearnsToNameWhatCaptionsSay) {
  const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::load(kTokenizer);
  text::T5Config config;
  config.vocab_size = tokenizer->vocab_size();
  config.d_model = 32;
  config.num_layers = 1;
  config.num_heads = 2;
  config.d_kv = 16;
  config.d_ff = 64;
  TextTower tower(config, tokenizer);
  tower->initialise(1);
  const WorldClips clips({.width = 16, .height = 16, .frames = 5}, 0);
  std::vector<std::string> texts;
  std::vector<SceneLabels> labels;
  for (std::int64_t i = 0; i < 32; ++i) {
    texts.push_back(world::caption(clips.scene(i), i));
    labels.push_back(labels_of(clips.scene(i), texts.back()));
  }
  const train::OptimizerConfig adamw = {.method = train::Method::kAdamW, .lr = 5e-3};
  train::Optimizer optimizer(train::group_parameters(*tower, adamw), adamw);
  double correct = 0;
  double first = 0;
  for (int step = 0; step < 60; ++step) {
    const TextFeatures features = tower->encode(texts, 48);
    tower->attribute_loss(features.pooled_BD, labels, &correct).backward();
    optimizer.step(1.0);
    optimizer.zero_grad();
    first = step == 0 ? correct : first;
  }
  EXPECT_LT(first, 0.6);
  EXPECT_GT(correct, 0.9);
}

TEST(TextTower, SavedEncoderGivesTheSameFeatures) {
  const test::TempFolder folder;
  const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::load(kTokenizer);
  text::T5Config config;
  config.vocab_size = tokenizer->vocab_size();
  config.d_model = 16;
  config.num_layers = 2;
  config.num_heads = 2;
  config.d_kv = 8;
  config.d_ff = 32;
  TextTower tower(config, tokenizer);
  tower->initialise(2);
  tower->save_to(folder / "text");
  const at::NoGradGuard no_grad;
  const std::vector<std::string> texts = {"a red circle moves right", ""};
  const TextFeatures features = tower->encode(texts, 32);
  const auto encoder = text::TextEncoder::load(folder / "text", {});
  const auto batch =
      tokenizer->encode_batch(texts, {.max_length = 32, .padding = text::Padding::kLongest});
  const Tensor ids = at::tensor(batch.input_ids, at::kLong).view(features.mask_BM.sizes());
  const Tensor context = encoder->encode(ids, features.mask_BM).context_BMD;
  EXPECT_LE((context - features.context_BMD).abs().max().item<double>(), 1e-5);
  EXPECT_LE((text::mean_of_tokens(context, features.mask_BM) - features.pooled_BD)
                .abs()
                .max()
                .item<double>(),
            1e-5);
}

}  // namespace
}  // namespace kinema::training
