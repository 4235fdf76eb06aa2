// SPDX-License-Identifier: Apache-2.0
// Ancestral sampling: "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, with the
// learned variances of arXiv 2102.09672. Counterpart of diffusers' DDPMScheduler.
//
// Times are integers 0 .. num_train - 1. One step from t to the next time s of the schedule uses
// beta = 1 - abar_t / abar_s, so any spacing is exact for its own sub-schedule.
#pragma once

#include <memory>

#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/prediction.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

enum class VarianceType {
  kFixedSmall,     ///< posterior variance
  kFixedSmallLog,  ///< the same, through its logarithm
  kFixedLarge,     ///< beta
  kFixedLargeLog,  ///< the same, through its logarithm (the reference takes the root of the log:
                   ///< NaN)
  kLearned,        ///< second half of the output channels is the variance
  kLearnedRange,   ///< second half mixes log(posterior variance) at -1 and log(beta) at 1
};

/// Keys and defaults of diffusers' DDPMScheduler.
struct DdpmConfig {
  BetaConfig betas{};
  SpacingConfig spacing{};
  PredictionType prediction = PredictionType::kEpsilon;
  VarianceType variance = VarianceType::kFixedSmall;
  ClipConfig clip{.clip_sample = true};

  static DdpmConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const DdpmConfig&) const = default;
};

class DdpmSampler final : public Sampler {
 public:
  explicit DdpmSampler(DdpmConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kDdpm; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return config_.prediction; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Every step but one at time 0.
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  [[nodiscard]] const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  /// abar at step `index`; 1 after the last step.
  [[nodiscard]] double alpha_bar(std::int64_t index) const;
  [[nodiscard]] Tensor noise_term(const Tensor& predicted_variance,
                                  double posterior_variance,
                                  double beta,
                                  const Tensor& noise) const;

  DdpmConfig config_;
  std::vector<double> alphas_cumprod_;
};

}  // namespace kinema::diffusion
