// SPDX-License-Identifier: Apache-2.0
// Ancestral sampling with a respaced schedule and a learned range of variances, as Open-Sora 1.0
// and 1.1 train it: arXiv 2102.09672.
//
// The network is trained on 1000 times; a run keeps some of them, builds new betas for the kept
// ones, and tells the network the original indices. Tables are float32 from the respaced betas on,
// as in the original: near t = 0 they differ from double ones by up to 1e-3 relative.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

/// Indices kept of `num_train` times, rising. `sections` is a count per equal section ("100" or
/// "10,20,30": evenly spaced with both ends, rounded half to even) or "ddimN" (a whole-number
/// stride with exactly N times). Throws kInvalidArgument [iddpm.spacing].
[[nodiscard]] std::vector<std::int64_t> space_timesteps(std::int64_t num_train,
                                                        std::string_view sections);

/// Tables of a respaced schedule, float32 [n] on the CPU, indexed by respaced step.
struct IddpmTables {
  std::vector<std::int64_t> timestep_map;  ///< original index of each step
  Tensor betas;
  Tensor alphas_cumprod;
  Tensor posterior_mean_coef1;    ///< weight of x0
  Tensor posterior_mean_coef2;    ///< weight of x_t
  Tensor posterior_variance;      ///< 0 at step 0
  Tensor posterior_log_variance;  ///< entry 0 repeats entry 1
  Tensor sqrt_recip_alphas_cumprod;
  Tensor sqrt_recipm1_alphas_cumprod;
};
[[nodiscard]] IddpmTables make_iddpm_tables(const BetaConfig& betas,
                                            const std::vector<std::int64_t>& kept);

enum class IddpmVariance { kLearnedRange, kFixedLarge, kFixedSmall };

/// "_class_name" is "IDDPM" (Open-Sora's own files say "type": "iddpm"); keys of the schedule and
/// "variance_type": learned_range (default), fixed_large, fixed_small.
struct IddpmConfig {
  BetaConfig betas{};
  IddpmVariance variance = IddpmVariance::kLearnedRange;

  static IddpmConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const IddpmConfig&) const = default;
};

class IddpmSampler final : public Sampler {
 public:
  explicit IddpmSampler(IddpmConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kIddpm; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override { return PredictionType::kEpsilon; }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  /// Every step but the last.
  [[nodiscard]] bool needs_noise(std::int64_t index) const override;
  [[nodiscard]] const IddpmTables& tables() const { return tables_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  IddpmConfig config_;
  IddpmTables tables_;
};

}  // namespace kinema::diffusion
