// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of core/diffusion: all samplers, exact denoisers of Gaussian data, noise.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/diffusion/sampler.h"
#include "core/kernels/noise.h"

namespace kinema::diffusion::test {

/// Standard normal, a function of `name` only.
inline Tensor normal(const std::string& name,
                     std::vector<std::int64_t> shape,
                     at::ScalarType dtype = at::kFloat) {
  const Tensor result = at::empty(shape, at::kFloat);
  kernels::fill_normal_flat(
      result.mutable_data_ptr<float>(),
      kernels::noise_key(7, name, kernels::Draw::kNormal, kernels::Addressing::kFlat),
      0,
      static_cast<std::uint64_t>(result.numel()));
  return result.to(dtype);
}

/// Data N(mu, deviation^2): what a perfect network returns at a noise level.
struct GaussianData {
  Tensor mu;
  double deviation = 0.6;

  [[nodiscard]] Tensor clean(const Tensor& x, NoiseLevel at) const {
    const double variance = deviation * deviation;
    return mu + (at.alpha * variance / total(at)) * (x - at.alpha * mu);
  }
  [[nodiscard]] Tensor noise(const Tensor& x, NoiseLevel at) const {
    return (at.sigma / total(at)) * (x - at.alpha * mu);
  }
  [[nodiscard]] Tensor predict(PredictionType type, const Tensor& x, NoiseLevel at) const {
    return prediction_target(type, clean(x, at), noise(x, at), at);
  }

 private:
  [[nodiscard]] double total(NoiseLevel at) const {
    return at.alpha * at.alpha * deviation * deviation + at.sigma * at.sigma;
  }
};

/// The prediction for a sampler's latents (Euler's latents are alpha 1, so v means k-diffusion's
/// v).
inline Tensor predict_for(const Sampler& sampler,
                          const GaussianData& data,
                          const Tensor& x,
                          std::int64_t index) {
  NoiseLevel at = sampler.level(index);
  Tensor seen = x;
  if (sampler.kind() == SamplerKind::kEuler) {
    const double scale = std::sqrt(1.0 + at.sigma * at.sigma);
    at = {.alpha = 1.0 / scale, .sigma = at.sigma / scale};
    seen = sampler.scale_model_input(x, index);
  }
  const Tensor out = data.predict(sampler.prediction_type(), seen, at);
  // Networks with a variance get the middle of its range.
  return sampler.kind() == SamplerKind::kIddpm ? at::cat({out, at::zeros_like(out)}, 1) : out;
}

struct NamedSampler {
  std::string name;
  Json config;
  ScheduleRequest request;
};

/// One of each class and of each algorithm that keeps a state of its own.
inline std::vector<NamedSampler> all_samplers(std::int64_t num_steps) {
  const auto make = [&](std::string name, Json config) {
    return NamedSampler{std::move(name), std::move(config), {.num_steps = num_steps}};
  };
  std::vector<NamedSampler> list = {
      make("rflow", {{"_class_name", "RFLOW"}, {"use_timestep_transform", true}}),
      make("ddpm", {{"_class_name", "DDPMScheduler"}, {"clip_sample", false}}),
      make("iddpm", {{"_class_name", "IDDPM"}}),
      make("ddim", {{"_class_name", "DDIMScheduler"}, {"clip_sample", false}}),
      make("dpmpp", {{"_class_name", "DPMSolverMultistepScheduler"}}),
      make("dpmpp3_sde",
           {{"_class_name", "DPMSolverMultistepScheduler"},
            {"solver_order", 3},
            {"algorithm_type", "sde-dpmsolver++"}}),
      make("unipc", {{"_class_name", "UniPCMultistepScheduler"}}),
      make("unipc3_flow",
           {{"_class_name", "UniPCMultistepScheduler"},
            {"solver_order", 3},
            {"prediction_type", "flow_prediction"},
            {"use_flow_sigmas", true},
            {"flow_shift", 3.0}}),
      make("euler", {{"_class_name", "EulerDiscreteScheduler"}}),
      make("euler_churn",
           {{"_class_name", "EulerDiscreteScheduler"}, {"prediction_type", "v_prediction"}}),
      make("flow-euler", {{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"shift", 3.0}}),
      make("flow-euler_stochastic",
           {{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"stochastic_sampling", true}}),
  };
  list[0].request.height = 240;
  list[0].request.width = 426;
  list[0].request.num_frames = 51;
  list[3].request.eta = 0.5;
  list[9].request.churn = 1.5;
  return list;
}

inline std::unique_ptr<Sampler> scheduled(const NamedSampler& named) {
  auto sampler = make_sampler(named.config);
  sampler->set_timesteps(named.request);
  return sampler;
}

inline Tensor noise_if_needed(const Sampler& sampler, std::int64_t index, const Tensor& like) {
  return sampler.needs_noise(index)
             ? normal("step " + std::to_string(index), like.sizes().vec(), like.scalar_type())
             : Tensor();
}

/// Code of the Error that `action` throws; empty when it throws none.
template <typename Action>
std::string error_code(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

}  // namespace kinema::diffusion::test
