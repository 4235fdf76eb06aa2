// SPDX-License-Identifier: Apache-2.0
// The loop that all trainers share: gradients over one or more micro-batches, clipping, optimiser,
// moving average, schedule, logging, validation, checkpoints, resuming.
//
//   Trainer trainer(run, config_json, *model, Optimizer(group_parameters(*model, o), o));
//   trainer.resume();                          // if there is a checkpoint
//   trainer.train(task, progress, logger);     // throws kCancelled after saving
//   trainer.ema().swap();                      // the averaged weights are the result
//
// A run of n steps, however often it was stopped, gives the same weights on one machine: every
// random number of a Task must come from (seed, step) and nothing else.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "core/train/checkpoint.h"
#include "core/train/ema.h"
#include "core/train/optimizer.h"
#include "core/train/schedule.h"

namespace kinema::train {

struct RunConfig {
  std::string folder{};         ///< metrics, checkpoints
  Schedule schedule{};          ///< holds the number of steps
  std::int64_t accumulate = 1;  ///< micro-batches per step
  double clip = 1.0;            ///< largest gradient norm
  double ema = 0.999;
  std::int64_t log_every = 10;
  std::int64_t validate_every = 200;  ///< 0: only at the end
  std::int64_t save_every = 200;      ///< 0: only at the end
  std::int64_t keep = 2;              ///< checkpoints
  std::int64_t patience = 10;         ///< steps in a row that may be dropped for not being finite
  tensor::Place place{};              ///< bf16: activations only, by autocast; masters stay fp32
};

/// What is trained.
class Task {
 public:
  virtual ~Task() = default;
  /// Mean loss of micro-batch `micro` of a step, a differentiable scalar; appends named parts.
  [[nodiscard]] virtual Tensor loss(std::int64_t step, std::int64_t micro, Metrics& parts) = 0;
  /// Numbers on held-out data with fixed noise; the averaged weights are in place.
  [[nodiscard]] virtual Metrics validate(std::int64_t finished_steps) = 0;
  /// After the gradients of a step are complete and before they are used.
  virtual void after_step(std::int64_t /*step*/) {}
  /// State beyond the model and its optimiser (a discriminator).
  [[nodiscard]] virtual TensorMap state() const { return {}; }
  virtual void load_state(const TensorMap& /*state*/) {}
};

/// Autocast to bf16 for as long as it lives, if the place asks for it.
class AutocastScope {
 public:
  explicit AutocastScope(const tensor::Place& place);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType device_;
  bool active_;
};

class Trainer {
 public:
  Trainer(RunConfig run, OrderedJson config, torch::nn::Module& module, Optimizer optimizer);

  /// Takes the newest checkpoint of the folder, if there is one. @return whether there was.
  /// Throws kBadCheckpoint [train.state], kInvalidArgument [train.config_changed] naming every key
  /// that differs from the run's; only "steps", "schedule", rates and intervals may.
  bool resume(Task& task);

  /// Trains up to the last step, validates, saves. Throws kCancelled [cancelled] after saving when
  /// `progress` says so, kInternal [train.not_finite] that names the tensor when too many steps in
  /// a row give a loss or gradient that is not finite.
  void train(Task& task, ProgressObserver& progress, Logger& logger);

  [[nodiscard]] std::int64_t finished_steps() const noexcept { return step_; }
  [[nodiscard]] Ema& ema() noexcept { return ema_; }
  /// Numbers of the last validation.
  [[nodiscard]] const Metrics& last_validation() const noexcept { return validation_; }

 private:
  struct StepResult {
    Metrics metrics;
    std::string not_finite;  ///< name of the first tensor that is not; empty: all is well
  };
  [[nodiscard]] StepResult run_step(Task& task);
  void save(const Task& task) const;
  void validate(Task& task, class MetricsLog& log);

  RunConfig run_;
  OrderedJson config_;
  torch::nn::Module& module_;
  Optimizer optimizer_;
  Ema ema_;
  std::int64_t step_ = 0;
  Metrics validation_;
};

/// Keys whose value may change when a run is resumed.
[[nodiscard]] bool may_change_on_resume(std::string_view key);

}  // namespace kinema::train
