// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"
#include "core/train/metrics_log.h"

namespace kinema::train {
namespace {

constexpr std::array<std::string_view, 14> kMayChange = {"steps",
                                                         "schedule",
                                                         "warmup",
                                                         "final_lr",
                                                         "lr",
                                                         "muon_lr",
                                                         "log_every",
                                                         "validate_every",
                                                         "save_every",
                                                         "sample_every",
                                                         "keep",
                                                         "patience",
                                                         "workers",
                                                         "validation_clips"};

std::string checkpoint_folder(const std::string& folder) {
  return folder + "/checkpoints";
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Adds `parts` / count to the values of the same names.
void accumulate(Metrics& sums, const Metrics& parts, double count) {
  for (const auto& [name, value] : parts) {
    const auto found = std::find_if(
        sums.begin(), sums.end(), [&](const auto& item) { return item.first == name; });
    if (found == sums.end()) {
      sums.emplace_back(name, value / count);
    } else {
      found->second += value / count;
    }
  }
}

void require_same_config(const OrderedJson& now, const OrderedJson& then) {
  std::string changed;
  for (const auto& [key, value] : now.items()) {
    const bool same = then.contains(key) && then[key] == value;
    if (!same && !may_change_on_resume(key)) {
      changed += (changed.empty() ? "" : ", ") + key + " was " +
                 (then.contains(key) ? then[key].dump() : std::string("absent")) + ", is " +
                 value.dump();
    }
  }
  if (!changed.empty()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "train.config_changed",
                 .place = "train",
                 .subject = "the run's configuration",
                 .expected = "that of the checkpoint",
                 .got = changed,
                 .hint = "use the same options, or another output folder"});
  }
}

}  // namespace

bool may_change_on_resume(std::string_view key) {
  return std::find(kMayChange.begin(), kMayChange.end(), key) != kMayChange.end();
}

AutocastScope::AutocastScope(const tensor::Place& place)
    : device_(place.device.type()), active_(place.dtype == at::kBFloat16) {
  if (active_) {
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
}

AutocastScope::~AutocastScope() {
  if (active_) {
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(device_, false);
  }
}

Trainer::Trainer(RunConfig run, OrderedJson config, torch::nn::Module& module, Optimizer optimizer)
    : run_(std::move(run)),
      config_(std::move(config)),
      module_(module),
      optimizer_(std::move(optimizer)),
      ema_(module) {}

bool Trainer::resume(Task& task) {
  const auto path = latest_checkpoint(checkpoint_folder(run_.folder));
  if (!path) {
    return false;
  }
  const Checkpoint checkpoint = load_checkpoint(*path);
  require_same_config(config_, checkpoint.config);
  const at::NoGradGuard no_grad;
  const TensorMap model = checkpoint.part("model.");
  for (auto& item : module_.named_parameters()) {
    const auto found = model.find(item.key());
    if (found == model.end() || found->second.sizes() != item.value().sizes()) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "train.state",
                   .place = "train.model",
                   .subject = item.key(),
                   .expected = "shape " + tensor::shape_text(item.value()),
                   .got = found == model.end() ? "nothing of that name"
                                               : "shape " + tensor::shape_text(found->second)});
    }
    item.value().copy_(found->second);
  }
  ema_.load_state(checkpoint.part("ema."));
  optimizer_.load_state(checkpoint.part("optimizer."));
  task.load_state(checkpoint.part("task."));
  step_ = checkpoint.step;
  return true;
}

void Trainer::save(const Task& task) const {
  Checkpoint checkpoint;
  checkpoint.step = step_;
  checkpoint.config = config_;
  for (const auto& item : module_.named_parameters()) {
    checkpoint.tensors["model." + item.key()] = item.value().detach();
  }
  checkpoint.add("ema.", ema_.state());
  checkpoint.add("optimizer.", optimizer_.state());
  checkpoint.add("task.", task.state());
  save_checkpoint(checkpoint_folder(run_.folder), checkpoint, run_.keep);
}

void Trainer::validate(Task& task, MetricsLog& log) {
  const at::NoGradGuard no_grad;
  const EmaScope averaged(ema_);
  validation_ = task.validate(step_);
  log.add(step_, "validation", validation_);
}

Trainer::StepResult Trainer::run_step(Task& task) {
  StepResult result;
  for (std::int64_t micro = 0; micro < run_.accumulate; ++micro) {
    Metrics parts;
    Tensor loss;
    {
      const AutocastScope autocast(run_.place);
      loss = task.loss(step_, micro, parts);
    }
    const double value = loss.item<double>();
    parts.insert(parts.begin(), {"loss", value});
    accumulate(result.metrics, parts, static_cast<double>(run_.accumulate));
    if (!std::isfinite(value)) {
      result.not_finite = "the loss";
      return result;
    }
    (loss / static_cast<double>(run_.accumulate)).backward();
  }
  const double norm = clip_gradients(optimizer_.parameters(), run_.clip);
  result.metrics.emplace_back("gradient_norm", norm);
  if (!std::isfinite(norm)) {
    result.not_finite = "the gradient of " + name_not_finite(optimizer_.parameters());
  }
  return result;
}

void Trainer::train(Task& task, ProgressObserver& progress, Logger& logger) {
  std::filesystem::create_directories(run_.folder);
  MetricsLog log(run_.folder, step_);
  const std::int64_t steps = run_.schedule.steps;
  progress.on_stage("train", steps, "step");
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t first = step_;
  std::int64_t dropped = 0;
  const auto is_due = [&](std::int64_t every) { return every > 0 && step_ % every == 0; };
  if (step_ == 0 && is_due(run_.validate_every)) {
    validate(task, log);  // where the run starts
  }
  while (step_ < steps) {
    const double factor = run_.schedule.factor(step_);
    StepResult result = run_step(task);
    if (result.not_finite.empty()) {
      dropped = 0;
      optimizer_.step(factor);
      ema_.update(ema_decay(run_.ema, step_));
      task.after_step(step_);
    } else if (++dropped > run_.patience) {
      throw Error(ErrorKind::kInternal,
                  {.code = "train.not_finite",
                   .place = "train",
                   .subject = result.not_finite + " in step " + std::to_string(step_),
                   .expected = "finite numbers",
                   .got = "NaN or infinity in " + std::to_string(dropped) + " steps in a row",
                   .hint = "use a smaller learning rate, a longer warm-up or --dtype fp32"});
    } else {
      logger.warning("dropped step " + std::to_string(step_) + ": " + result.not_finite +
                     " is not finite");
    }
    optimizer_.zero_grad();
    step_ += 1;
    result.metrics.emplace_back("lr_factor", factor);
    result.metrics.emplace_back("steps_per_second",
                                static_cast<double>(step_ - first) / seconds_since(start));
    progress.on_step(step_, result.metrics);
    if (is_due(run_.log_every) || step_ == steps) {
      log.add(step_, "train", result.metrics);
    }
    if (is_due(run_.validate_every) && step_ < steps) {
      validate(task, log);
    }
    if (is_due(run_.save_every) && step_ < steps) {
      save(task);
    }
    if (progress.cancelled() && step_ < steps) {
      save(task);
      throw Error(ErrorKind::kCancelled,
                  {.code = "cancelled",
                   .place = "train",
                   .subject = "stopped after step " + std::to_string(step_) + ", which is saved",
                   .hint = "the same command with --resume goes on"});
    }
  }
  validate(task, log);
  save(task);
  progress.on_stage_end();
}

}  // namespace kinema::train
