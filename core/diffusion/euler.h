// SPDX-License-Identifier: Apache-2.0
// Euler steps on sigmas: "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv
// 2206.00364 algorithm 2 (first order). Counterpart of diffusers' EulerDiscreteScheduler.
//
// Latents are x = x0 + sigma eps (variance exploding); the network sees x / sqrt(sigma^2 + 1).
// Start noise is multiplied by init_noise_sigma(). Times are 0 .. num_train - 1, fractional where
// the grid of sigmas is not that of training; 0.25 ln sigma with timestep_type "continuous" and
// v_prediction.
#pragma once

#include <memory>
#include <optional>

#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/prediction.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

enum class SigmaGrid { kTraining, kKarras, kExponential, kBeta, kLu };

/// Reads use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas; at most one may be true.
void read_sigma_grid(JsonReader& reader, SigmaGrid& grid);
void write_sigma_grid(Json& json, SigmaGrid grid);
/// Reads final_sigmas_type: "zero" (true) or "sigma_min" (false).
void read_final_sigma(JsonReader& reader, bool& final_sigma_is_zero);

/// Keys and defaults of diffusers' EulerDiscreteScheduler. Churn belongs to the run.
struct EulerConfig {
  BetaConfig betas{};
  SpacingConfig spacing{.timestep_spacing = TimestepSpacing::kLinspace};
  PredictionType prediction = PredictionType::kEpsilon;
  SigmaGrid grid = SigmaGrid::kTraining;
  bool log_linear_interpolation = false;  ///< interpolation_type "log_linear"
  bool continuous_timesteps = false;      ///< timestep_type "continuous"
  std::optional<double> sigma_min;        ///< ends of the grids above; default: those of training
  std::optional<double> sigma_max;
  bool final_sigma_is_zero = true;  ///< final_sigmas_type "zero", else "sigma_min"

  static EulerConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const EulerConfig&) const = default;
};

class EulerSampler final : public Sampler {
 public:
  explicit EulerSampler(EulerConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kEuler; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  /// alpha is 1: latents are not scaled.
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  [[nodiscard]] double init_noise_sigma() const override;
  [[nodiscard]] Tensor scale_model_input(const Tensor& sample, std::int64_t index) const override;
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  /// Falling; one more than steps (two more with log_linear interpolation, as in the reference).
  [[nodiscard]] const std::vector<double>& sigmas() const { return sigmas_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  void build_from_times(std::vector<double> times, std::int64_t num_steps);
  /// Relative growth of sigma by fresh noise at a step.
  [[nodiscard]] double churn_gamma(std::int64_t index) const;

  EulerConfig config_;
  std::vector<double> train_sigmas_;  ///< rising with time
  std::vector<double> sigmas_;
};

}  // namespace kinema::diffusion
