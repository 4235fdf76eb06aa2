// SPDX-License-Identifier: Apache-2.0
// Deterministic or partly stochastic sampling: "Denoising Diffusion Implicit Models", arXiv
// 2010.02502 equations 12 and 16. Counterpart of diffusers' DDIMScheduler.
//
// Times are integers 0 .. num_train - 1. A step ends at t - num_train / num_steps (integer
// division), which is the next time of the "leading" grid but not exactly that of the others; with
// times given in the request a step ends at the next of them. After the last step abar is 1, or
// abar_0 when set_alpha_to_one is false (Stable Diffusion files).
#pragma once

#include <memory>

#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/prediction.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

/// Keys and defaults of diffusers' DDIMScheduler. eta and use_clipped_model_output belong to the
/// run.
struct DdimConfig {
  BetaConfig betas{};
  SpacingConfig spacing{};
  PredictionType prediction = PredictionType::kEpsilon;
  ClipConfig clip{.clip_sample = true};
  bool set_alpha_to_one = true;

  static DdimConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const DdimConfig&) const = default;
};

class DdimSampler final : public Sampler {
 public:
  explicit DdimSampler(DdimConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kDdim; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Every step when eta > 0.
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  [[nodiscard]] const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  [[nodiscard]] double final_alpha_bar() const;
  [[nodiscard]] double alpha_bar_after(std::int64_t index) const;

  DdimConfig config_;
  std::vector<double> alphas_cumprod_;
};

}  // namespace kinema::diffusion
