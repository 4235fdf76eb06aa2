// SPDX-License-Identifier: Apache-2.0
// Rectified flow as Open-Sora 1.2 trains and samples it.
//
// x_t = (1 - t/1000) x0 + (t/1000) eps with t in 0 .. 1000; the network returns x0 - eps. Step i of
// n starts at t_i = shift((1 - i/n) 1000), ends at t_(i+1), and the last one at 0:
// x += out (t_i - t_(i+1)) / 1000.
//
// The shift gives more noise to more pixels and frames: r = sqrt(h w / 512^2) sqrt(F), t' = 1000 r
// u / (1 + (r - 1) u), u = t / 1000. F is 1 for an image and 5 latent frames for every 17 pixel
// frames. Below 17 frames the original has F = 0 and divides 0 by 0 at t = 1000; here F is then the
// latent frames there are, ceil(frames / 4). The arithmetic is float32, in the order of the
// formula, so that t = 1000 stays exactly 1000: masks compare with it.
#pragma once

#include <memory>

#include "core/diffusion/sampler.h"

namespace kinema::diffusion {

/// The size that shifts the time of a video.
struct VideoSize {
  std::int64_t height = 0;      ///< pixels
  std::int64_t width = 0;       ///< pixels
  std::int64_t num_frames = 1;  ///< pixel frames, 1 for an image
};

/// F of the shift.
[[nodiscard]] double shift_latent_frames(std::int64_t num_frames);
/// r of the shift, times `scale`.
[[nodiscard]] double rflow_shift_ratio(const VideoSize& size, double scale = 1.0);
/// t' of t in 0 .. 1000. `scale` (transform_scale) acts in training only.
[[nodiscard]] double rflow_shift_timestep(double timestep,
                                          const VideoSize& size,
                                          double scale = 1.0,
                                          std::int64_t num_train_timesteps = 1000);

/// Open-Sora's keys: num_timesteps, use_discrete_timesteps, use_timestep_transform,
/// transform_scale; "_class_name" is "RFLOW" (Open-Sora's own files say "type": "rflow").
struct RflowConfig {
  std::int64_t num_timesteps = 1000;
  bool use_discrete_timesteps = false;  ///< round times to whole numbers, half to even
  bool use_timestep_transform = false;  ///< the shift; the request then needs height, width, frames
  double transform_scale = 1.0;         ///< training only

  static RflowConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const RflowConfig&) const = default;
};

class RflowSampler final : public Sampler {
 public:
  explicit RflowSampler(RflowConfig config = {});

  [[nodiscard]] SamplerKind kind() const override { return SamplerKind::kRflow; }
  [[nodiscard]] std::unique_ptr<Sampler> clone() const override;
  [[nodiscard]] Json config_json() const override { return config_.to_json(); }
  [[nodiscard]] PredictionType prediction_type() const override {
    return PredictionType::kReverseFlow;
  }
  [[nodiscard]] NoiseLevel level(std::int64_t index) const override;
  [[nodiscard]] const RflowConfig& config() const { return config_; }

 protected:
  void build() override;
  StepResult advance(const Tensor& model_output,
                     std::int64_t index,
                     const Tensor& sample,
                     const Tensor& noise) override;

 private:
  RflowConfig config_;
};

}  // namespace kinema::diffusion
