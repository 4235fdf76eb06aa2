// SPDX-License-Identifier: Apache-2.0
// Rectified flow with Euler steps: arXiv 2209.03003, shift of arXiv 2403.03206 section 5.3.2.
// Counterpart of diffusers' FlowMatchEulerDiscreteScheduler.
//
// x = (1 - sigma) x0 + sigma eps, the network returns eps - x0 (or x0 - eps with
// "reverse_flow_prediction"). Sigmas in [0, 1], times sigma * num_train.
#pragma once

#include <memory>
#include <optional>

#include "core/diffusion/euler.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

/// Keys and defaults of diffusers' FlowMatchEulerDiscreteScheduler, and "prediction_type".
struct FlowEulerConfig {
  std::int64_t num_train_timesteps = 1000;
  PredictionType prediction = PredictionType::kFlow;
  double shift = 1.0;
  bool use_dynamic_shifting = false;  ///< the request brings mu; see dynamic_mu()
  double base_shift = 0.5;
  double max_shift = 1.15;
  std::int64_t base_image_seq_len = 256;
  std::int64_t max_image_seq_len = 4096;
  bool invert_sigmas = false;
  std::optional<double> shift_terminal;  ///< stretch so that the last sigma is this one
  SigmaGrid grid = SigmaGrid::kTraining;
  TimeShift time_shift = TimeShift::kExponential;
  bool stochastic_sampling = false;  ///< x0 estimate, re-noised with fresh noise at every step

  static FlowEulerConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const FlowEulerConfig&) const = default;
};

void read_time_shift(JsonReader& reader, TimeShift& kind);
[[nodiscard]] std::string_view to_string(TimeShift kind);

class FlowEulerSampler final : public Sampler {
 public:
  explicit FlowEulerSampler(FlowEulerConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kFlowEuler; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Every step of stochastic_sampling.
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  /// One more than steps.
  [[nodiscard]] const std::vector<double>& sigmas() const { return sigmas_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  void shift_sigmas();

  FlowEulerConfig config_;
  std::vector<double> sigmas_;
};

}  // namespace kinema::diffusion
