// SPDX-License-Identifier: Apache-2.0
// The loop: the loss falls, a stopped run goes on with the same bits, accumulation equals a larger
// batch, steps that are not finite are dropped and then stop the run, checkpoints are few.
#include "core/train/trainer.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/tensor/noise.h"
#include "tests/support/temp_folder.h"

namespace kinema::train {
namespace {

class Regression final : public torch::nn::Module {
 public:
  Regression() {
    hidden = register_parameter("hidden", drawn("hidden", {16, 4}) * 0.5);
    out = register_parameter("out", drawn("out", {1, 16}) * 0.25);
    bias = register_parameter("bias", at::zeros({16}));
  }
  static Tensor drawn(const std::string& name, c10::IntArrayRef sizes, std::uint64_t first = 0) {
    return tensor::normal_noise_flat({.seed = 9, .name = name}, sizes, first);
  }
  [[nodiscard]] Tensor forward(const Tensor& x) const {
    return at::linear(at::tanh(at::linear(x, hidden, bias)), out).squeeze(1);
  }
  Tensor hidden;
  Tensor out;
  Tensor bias;
};

/// Learns sin(x0) + x1 x2 from addressed samples.
class RegressionTask final : public Task {
 public:
  RegressionTask(const Regression& module, std::int64_t batch, std::int64_t micros)
      : module_(module), batch_(batch), micros_(micros) {}

  [[nodiscard]] Tensor loss(std::int64_t step, std::int64_t micro, Metrics& parts) override {
    const auto first = static_cast<std::uint64_t>((step * micros_ + micro) * batch_ * 4);
    const Tensor x = Regression::drawn("data", {batch_, 4}, first);
    Tensor loss = (module_.forward(x) - target(x)).square().mean();
    if (poisoned(step)) {
      loss = loss * std::numeric_limits<double>::quiet_NaN();
    }
    parts = {{"twice", 2 * loss.item<double>()}};
    losses.push_back(loss.item<double>());
    return loss;
  }
  [[nodiscard]] Metrics validate(std::int64_t /*finished_steps*/) override {
    const Tensor x = Regression::drawn("held out", {64, 4});
    return {{"loss", (module_.forward(x) - target(x)).square().mean().item<double>()}};
  }

  std::vector<double> losses;
  std::function<bool(std::int64_t)> poisoned = [](std::int64_t) { return false; };

 private:
  static Tensor target(const Tensor& x) {
    return x.select(1, 0).sin() + x.select(1, 1) * x.select(1, 2);
  }
  const Regression& module_;
  std::int64_t batch_;
  std::int64_t micros_;
};

/// Cancelled after some steps.
class StopAfter final : public ProgressObserver {
 public:
  explicit StopAfter(std::int64_t steps) : steps_(steps) {}
  void on_stage(std::string_view, std::int64_t, std::string_view) override {}
  void on_step(std::int64_t done, const Metrics&) override { done_ = done; }
  void on_stage_end() override {}
  [[nodiscard]] bool cancelled() const override { return done_ >= steps_; }

 private:
  std::int64_t steps_;
  std::int64_t done_ = 0;
};

struct Outcome {
  std::vector<double> losses;
  Tensor hidden;
  Tensor average;
  double validation = 0;
};

const OptimizerConfig kOptimizer = {.method = Method::kMuon, .lr = 0.01, .muon_lr = 0.02};

RunConfig run_config(const std::string& folder, std::int64_t steps) {
  return {.folder = folder,
          .schedule = {.warmup = 5, .steps = steps},
          .ema = 0.9,
          .log_every = 1,
          .validate_every = 20,
          .save_every = 7};
}

/// One process's share of a run: to the end, or until stopped after `stop_after` steps.
Outcome train_once(const RunConfig& run,
                   std::int64_t stop_after,
                   std::int64_t batch = 16,
                   const std::function<bool(std::int64_t)>& poisoned = nullptr) {
  Regression module;
  RegressionTask task(module, batch, run.accumulate);
  if (poisoned) {
    task.poisoned = poisoned;
  }
  Trainer trainer(run,
                  {{"steps", run.schedule.steps}, {"batch", batch}},
                  module,
                  Optimizer(group_parameters(module, kOptimizer), kOptimizer));
  static_cast<void>(trainer.resume(task));
  StopAfter progress(stop_after);
  try {
    trainer.train(task, progress, null_logger());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCancelled) {
      throw;
    }
  }
  Outcome outcome{.losses = task.losses, .hidden = module.hidden.detach().clone(), .average = {}};
  trainer.ema().swap();
  outcome.average = module.hidden.detach().clone();
  if (!trainer.last_validation().empty()) {
    outcome.validation = trainer.last_validation().front().second;
  }
  return outcome;
}

TEST(Trainer, LossFalls) {
  const test::TempFolder folder;
  const Outcome outcome = train_once(run_config(folder.path(), 400), 1'000'000);
  const auto mean = [&](std::size_t from) {
    double sum = 0;
    for (std::size_t i = from; i < from + 20; ++i) {
      sum += outcome.losses[i];
    }
    return sum / 20;
  };
  EXPECT_LT(mean(380), 0.6 * mean(0));
  EXPECT_LT(outcome.validation, 0.6 * mean(0));
}

TEST(Trainer, StoppedRunGoesOnWithTheSameBits) {
  const test::TempFolder whole;
  const test::TempFolder parts;
  const Outcome expected = train_once(run_config(whole.path(), 40), 1'000'000);
  std::vector<double> losses;
  Outcome last;
  for (const std::int64_t stop : {3, 17, 18, 1'000'000}) {
    last = train_once(run_config(parts.path(), 40), stop);
    losses.insert(losses.end(), last.losses.begin(), last.losses.end());
  }
  EXPECT_EQ(losses, expected.losses);
  EXPECT_TRUE(last.hidden.equal(expected.hidden));
  EXPECT_TRUE(last.average.equal(expected.average));
  EXPECT_EQ(last.validation, expected.validation);
}

TEST(Trainer, MetricsTellEveryStepOnce) {
  const test::TempFolder folder;
  static_cast<void>(train_once(run_config(folder.path(), 20), 10));
  // A process that dies after step 12 leaves lines that the next one repeats.
  std::ofstream(folder / "metrics.jsonl", std::ios::app)
      << R"({"step":11,"seconds":1,"train/loss":1})" << "\n"
      << R"({"step":12,"seco)";
  static_cast<void>(train_once(run_config(folder.path(), 20), 1'000'000));
  std::ifstream lines(folder / "metrics.jsonl");
  std::vector<std::int64_t> steps;
  std::string line;
  while (std::getline(lines, line)) {
    const Json json = Json::parse(line);
    if (json.contains("train/loss")) {
      EXPECT_DOUBLE_EQ(json["train/twice"].get<double>(), 2 * json["train/loss"].get<double>());
      steps.push_back(json["step"].get<std::int64_t>());
    }
  }
  std::vector<std::int64_t> expected(20);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(steps, expected);
}

TEST(Trainer, AccumulationEqualsALargerBatch) {
  const test::TempFolder one;
  const test::TempFolder four;
  RunConfig accumulated = run_config(four.path(), 10);
  accumulated.accumulate = 4;
  const Outcome expected = train_once(run_config(one.path(), 10), 1'000'000, 32);
  const Outcome outcome = train_once(accumulated, 1'000'000, 8);
  EXPECT_LE((outcome.hidden - expected.hidden).abs().max().item<double>(), 1e-4);
}

TEST(Trainer, StepsThatAreNotFiniteAreDropped) {
  const test::TempFolder folder;
  const Outcome outcome =
      train_once(run_config(folder.path(), 20), 1'000'000, 16, [](std::int64_t step) {
        return step == 4 || step == 9;
      });
  EXPECT_TRUE(outcome.hidden.isfinite().all().item<bool>());
  EXPECT_TRUE(std::isnan(outcome.losses[4]));
  EXPECT_TRUE(std::isfinite(outcome.losses[19]));
}

TEST(Trainer, TooManyInARowStopTheRun) {
  const test::TempFolder folder;
  RunConfig run = run_config(folder.path(), 50);
  run.patience = 3;
  try {
    static_cast<void>(train_once(run, 1'000'000, 16, [](std::int64_t step) { return step >= 10; }));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "train.not_finite");
    EXPECT_THAT(error.what(), testing::HasSubstr("the loss in step 13"));
  }
}

TEST(Trainer, KeepsTheNewestCheckpoints) {
  const test::TempFolder folder;
  RunConfig run = run_config(folder.path(), 30);
  run.keep = 3;
  static_cast<void>(train_once(run, 1'000'000));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names,
              testing::UnorderedElementsAre("step-000000021.safetensors",
                                            "step-000000028.safetensors",
                                            "step-000000030.safetensors"));
}

TEST(Trainer, RefusesAnotherConfiguration) {
  const test::TempFolder folder;
  static_cast<void>(train_once(run_config(folder.path(), 20), 10));
  try {
    static_cast<void>(train_once(run_config(folder.path(), 20), 10, /*batch=*/8));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "train.config_changed");
    EXPECT_THAT(error.what(), testing::HasSubstr("batch was 16, is 8"));
  }
  // A longer run is no other run.
  EXPECT_EQ(train_once(run_config(folder.path(), 25), 1'000'000).losses.size(), 15U);
}

TEST(Checkpoint, RoundTripAndDamage) {
  const test::TempFolder folder;
  Checkpoint saved;
  saved.step = 12;
  saved.config = {{"seed", 3}, {"name", "x"}};
  saved.add("model.", {{"a", at::arange(6, at::kFloat).view({2, 3})}});
  saved.add("optimizer.", {{"steps", at::scalar_tensor(12, at::kLong)}});
  save_checkpoint(folder.path(), saved, 2);
  const auto path = latest_checkpoint(folder.path());
  ASSERT_TRUE(path.has_value());
  const Checkpoint loaded = load_checkpoint(*path);
  EXPECT_EQ(loaded.step, 12);
  EXPECT_EQ(loaded.config["seed"], 3);
  EXPECT_EQ(loaded.config["name"], "x");
  EXPECT_TRUE(loaded.part("model.").at("a").equal(saved.tensors.at("model.a")));
  EXPECT_EQ(loaded.part("optimizer.").at("steps").item<std::int64_t>(), 12);

  const std::string bytes = read_file(*path, 1 << 20, "test");
  write_file(*path, bytes.substr(0, bytes.size() - 5));
  EXPECT_THROW(static_cast<void>(load_checkpoint(*path)), Error);
  EXPECT_EQ(latest_checkpoint(folder / "nothing"), std::nullopt);
}

}  // namespace
}  // namespace kinema::train
