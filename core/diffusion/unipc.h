// SPDX-License-Identifier: Apache-2.0
// UniPC multistep: a predictor and a corrector of the same order, one network call per step. arXiv
// 2302.04867. Counterpart of diffusers' UniPCMultistepScheduler.
//
// Works in lambda = ln(alpha / sigma). The corrector of a step improves the sample of the step
// before with the output that the next call brings anyway, so the last step has none. The network
// gets whole-numbered times.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/diffusion/dpmpp.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

/// Keys and defaults of diffusers' UniPCMultistepScheduler ("solver_p" must be null).
struct UnipcConfig {
  BetaConfig betas{};
  SpacingConfig spacing{.timestep_spacing = TimestepSpacing::kLinspace};
  PredictionType prediction = PredictionType::kEpsilon;
  ClipConfig clip{};
  std::int64_t solver_order = 2;
  bool predict_x0 = true;
  bool bh1 = false;  ///< solver_type "bh1", else "bh2" ("midpoint", "heun", "logrho" read as this)
  bool lower_order_final = true;
  std::vector<std::int64_t> disable_corrector;  ///< steps without a corrector after them
  SigmaGrid grid = SigmaGrid::kTraining;
  bool use_flow_sigmas = false;
  double flow_shift = 1.0;
  bool final_sigma_is_zero = true;
  bool use_dynamic_shifting = false;  ///< the request brings mu
  TimeShift time_shift = TimeShift::kExponential;
  std::optional<double> sigma_min;  ///< ends of the Karras, exponential and beta grids
  std::optional<double> sigma_max;
  std::optional<double> shift_terminal;

  static UnipcConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const UnipcConfig&) const = default;
};

class UnipcSampler final : public Sampler {
 public:
  explicit UnipcSampler(UnipcConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kUnipc; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Also at order 1, for the corrector.
  [[nodiscard]] bool is_multistep() const override { return true; }
  /// One more than steps.
  [[nodiscard]] const std::vector<double>& sigmas() const { return sigmas_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;
  void clear_history() override;
  void save_history(SamplerState& state) const override;
  void load_history(const SamplerState& state) override;

 private:
  [[nodiscard]] double lambda(std::int64_t index) const;
  void build_flow_grid(std::int64_t num_steps);
  void build_sigma_grid(std::int64_t num_steps);
  /// From `from` to from + 1 with the history whose newest entry belongs to `from`. With
  /// `output_there` (the converted output at from + 1) the corrector, else the predictor.
  [[nodiscard]] Tensor update(std::int64_t order,
                              std::int64_t from,
                              const Tensor& sample,
                              const Tensor& output_there) const;

  UnipcConfig config_;
  std::vector<double> train_sigmas_;
  std::vector<double> sigmas_;
  std::vector<Tensor> history_;  ///< converted outputs, the newest last, at most solver_order
  Tensor last_sample_;           ///< what the last predictor started from
  std::int64_t last_order_ = 0;
};

}  // namespace kinema::diffusion
