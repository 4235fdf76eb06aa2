// SPDX-License-Identifier: Apache-2.0
// Training losses of diffusion models, per sample, differentiable in the model's output.
//
// A frame mask [B, T] is true for frames to generate. Given frames enter clean (time 0) and do not
// count: the loss of a sample is the mean over the elements of its generated frames, 0 if there are
// none. Random numbers (times, noise) come in as arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/diffusion/iddpm.h"
#include "core/diffusion/prediction.h"
#include "core/diffusion/rflow.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

/// Mean over all axes but the batch, [B]; with a mask over the elements of its frames only.
[[nodiscard]] Tensor mean_of_frames(const Tensor& values_BCTHW, const Tensor& frame_mask_BT = {});

/// (1 - t/1000) x0 + (t/1000) noise. @param timesteps_B in 0 .. num_train_timesteps, float; given
/// frames keep x0.
[[nodiscard]] Tensor rflow_add_noise(const Tensor& x0_BCTHW,
                                     const Tensor& noise_BCTHW,
                                     const Tensor& timesteps_B,
                                     const Tensor& frame_mask_BT = {},
                                     std::int64_t num_train_timesteps = 1000);

/// |out - target|^2 per sample, [B]. @param model_output_BCTHW its first C channels are used.
/// kReverseFlow (Open-Sora): target x0 - noise; kFlow: noise - x0.
[[nodiscard]] Tensor rflow_loss(const Tensor& model_output_BCTHW,
                                const Tensor& x0_BCTHW,
                                const Tensor& noise_BCTHW,
                                const Tensor& frame_mask_BT = {},
                                PredictionType type = PredictionType::kReverseFlow);

/// How training times are drawn (arXiv 2403.03206 section 3.1).
enum class TimeSampling {
  kUniform,      ///< "uniform"
  kLogitNormal,  ///< "logit-normal": sigmoid(N(loc, scale^2))
};
struct TimeSamplingConfig {
  TimeSampling method = TimeSampling::kLogitNormal;
  double loc = 0.0;
  double scale = 1.0;
  bool discrete = false;  ///< whole numbers 0 .. num_train - 1 (uniform only)
};
/// `count` times, float [count] on the CPU: a function of seed, stream name and first index.
/// `size`: shift them for a video of this size, with the config's transform_scale.
[[nodiscard]] Tensor sample_rflow_timesteps(const TimeSamplingConfig& sampling,
                                            const RflowConfig& config,
                                            std::uint64_t seed,
                                            std::string_view stream,
                                            std::uint64_t first,
                                            std::int64_t count,
                                            const std::optional<VideoSize>& size = std::nullopt);
/// `count` whole times 0 .. num_train - 1, int64 [count].
[[nodiscard]] Tensor sample_discrete_timesteps(std::int64_t num_train,
                                               std::uint64_t seed,
                                               std::string_view stream,
                                               std::uint64_t first,
                                               std::int64_t count);

/// x_t of the respaced table; given frames enter at index 0 (sqrt(1 - 1e-4) x0 + 0.01 noise), as in
/// Open-Sora. @param steps_B int64 indices of the table.
[[nodiscard]] Tensor iddpm_add_noise(const IddpmTables& tables,
                                     const Tensor& x0_BCTHW,
                                     const Tensor& noise_BCTHW,
                                     const Tensor& steps_B,
                                     const Tensor& frame_mask_BT = {});

struct IddpmLoss {
  Tensor loss_B;   ///< mse_B + bound_B
  Tensor mse_B;    ///< |eps - noise|^2
  Tensor bound_B;  ///< variational bound in bits per dimension; its gradient reaches variances only
};
/// arXiv 2102.09672 section 3.1, without a weight on the bound. @param model_output_BCTHW 2 C
/// channels: noise, then variance. Step 0 uses the likelihood of values on a grid of 255 bins.
[[nodiscard]] IddpmLoss iddpm_loss(const IddpmTables& tables,
                                   const Tensor& model_output_BCTHW,
                                   const Tensor& x0_BCTHW,
                                   const Tensor& x_t_BCTHW,
                                   const Tensor& noise_BCTHW,
                                   const Tensor& steps_B,
                                   const Tensor& frame_mask_BT = {});

/// |out - target|^2 per sample for epsilon, sample and v_prediction models on a schedule abar_t.
[[nodiscard]] Tensor ddpm_loss(std::span<const double> alphas_cumprod,
                               PredictionType type,
                               const Tensor& model_output_BCTHW,
                               const Tensor& x0_BCTHW,
                               const Tensor& noise_BCTHW,
                               const Tensor& timesteps_B,
                               const Tensor& frame_mask_BT = {});

}  // namespace kinema::diffusion
