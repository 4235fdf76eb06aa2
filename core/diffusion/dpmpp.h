// SPDX-License-Identifier: Apache-2.0
// DPM-Solver++ multistep, orders 1 to 3: arXiv 2211.01095 (data prediction, and its SDE variant)
// and arXiv 2206.00927 (noise prediction). Counterpart of diffusers' DPMSolverMultistepScheduler.
//
// Works in lambda = ln(alpha / sigma). Times are integers 0 .. num_train - 1 (fractional for
// exponential, beta and cosine grids in the file's maths, then cut to integers as the network sees
// them). The last step is first order when the final sigma is 0: it returns the model's x0.
#pragma once

#include <limits>
#include <memory>
#include <vector>

#include "core/diffusion/euler.h"
#include "core/diffusion/flow_euler.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

enum class DpmAlgorithm {
  kDpmSolver,       ///< "dpmsolver": noise prediction
  kDpmSolverPp,     ///< "dpmsolver++": data prediction ("deis" is read as this)
  kSdeDpmSolver,    ///< "sde-dpmsolver": orders 1 and 2
  kSdeDpmSolverPp,  ///< "sde-dpmsolver++"
};

/// Keys and defaults of diffusers' DPMSolverMultistepScheduler.
struct DpmppConfig {
  BetaConfig betas{};
  SpacingConfig spacing{.timestep_spacing = TimestepSpacing::kLinspace};
  PredictionType prediction = PredictionType::kEpsilon;
  ClipConfig clip{};
  std::int64_t solver_order = 2;
  DpmAlgorithm algorithm = DpmAlgorithm::kDpmSolverPp;
  bool heun = false;  ///< solver_type "heun", else "midpoint" ("bh1", "bh2", "logrho" read as this)
  bool lower_order_final = true;  ///< for fewer than 15 steps
  bool euler_at_final = false;
  SigmaGrid grid = SigmaGrid::kTraining;
  bool use_flow_sigmas = false;
  double flow_shift = 1.0;
  bool final_sigma_is_zero = true;
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();
  bool use_dynamic_shifting = false;  ///< flow_shift becomes e^mu
  TimeShift time_shift = TimeShift::kExponential;

  static DpmppConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const DpmppConfig&) const = default;
};

class DpmppSampler final : public Sampler {
 public:
  explicit DpmppSampler(DpmppConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kDpmpp; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Every step of the two SDE algorithms.
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  [[nodiscard]] bool is_multistep() const override { return config_.solver_order > 1; }
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
  [[nodiscard]] bool predicts_noise() const;
  [[nodiscard]] double lambda(std::int64_t index) const;
  void build_grid(std::int64_t num_steps);
  void convert_grid(std::int64_t num_steps);
  /// Order of this step by position and by the history there is.
  [[nodiscard]] std::int64_t step_order(std::int64_t index) const;
  [[nodiscard]] Tensor update(std::int64_t order,
                              std::int64_t index,
                              const Tensor& sample,
                              const Tensor& noise) const;

  DpmppConfig config_;
  std::vector<double> alphas_cumprod_;
  std::vector<double> train_sigmas_;
  std::vector<double> sigmas_;
  std::vector<Tensor> history_;  ///< converted outputs, the newest last, at most solver_order
};

/// History of multistep solvers as tensors "history.0" (oldest) .. in a state.
void save_tensors_of_history(const std::vector<Tensor>& history, SamplerState& state);
/// Throws kBadData [sampler.state] when a tensor is missing or there are more than `limit`.
[[nodiscard]] std::vector<Tensor> load_tensors_of_history(const SamplerState& state,
                                                          std::int64_t limit);

}  // namespace kinema::diffusion
