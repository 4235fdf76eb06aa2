// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/rflow.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::int64_t kMaxSteps = 100'000;
constexpr std::int64_t kMaxPixels = 1 << 20;
constexpr std::int64_t kMaxFrames = std::int64_t{1} << 32;

}  // namespace

double shift_latent_frames(std::int64_t num_frames) {
  if (num_frames <= 1) {
    return 1.0;
  }
  if (num_frames < 17) {
    return static_cast<double>((num_frames + 3) / 4);
  }
  return static_cast<double>(num_frames / 17 * 5);
}

double rflow_shift_ratio(const VideoSize& size, double scale) {
  const auto pixels = static_cast<float>(size.height) * static_cast<float>(size.width);
  const float space = std::sqrt(pixels / (512.0F * 512.0F));
  const float time = std::sqrt(static_cast<float>(shift_latent_frames(size.num_frames)));
  return space * time * static_cast<float>(scale);
}

double rflow_shift_timestep(double timestep,
                            const VideoSize& size,
                            double scale,
                            std::int64_t num_train_timesteps) {
  const auto train = static_cast<float>(num_train_timesteps);
  const auto ratio = static_cast<float>(rflow_shift_ratio(size, scale));
  const float u = static_cast<float>(timestep) / train;
  if (u >= 1.0F) {
    return train;
  }
  const float shifted = ratio * u / (1.0F + (ratio - 1.0F) * u);
  return shifted * train;
}

RflowConfig RflowConfig::from_json(const Json& json) {
  RflowConfig config;
  JsonReader reader(json, {.place = "diffusion.rflow", .subject = "scheduler_config.json"});
  // Run settings that Open-Sora keeps beside the schedule; here they come with the request.
  reader.ignore({"_class_name", "type", "num_sampling_steps", "cfg_scale", "sample_method"});
  reader.optional("num_timesteps", config.num_timesteps);
  reader.optional("use_discrete_timesteps", config.use_discrete_timesteps);
  reader.optional("use_timestep_transform", config.use_timestep_transform);
  reader.optional("transform_scale", config.transform_scale);
  reader.finish();
  if (config.num_timesteps < 1 || config.num_timesteps > 1'000'000) {
    throw reader.error(
        "config.range", "num_timesteps", "1 .. 1000000", std::to_string(config.num_timesteps));
  }
  if (!(config.transform_scale > 0.0)) {
    throw reader.error(
        "config.range", "transform_scale", "above 0", std::to_string(config.transform_scale));
  }
  return config;
}

Json RflowConfig::to_json() const {
  return {{"_class_name", std::string(scheduler_class_name(SamplerKind::kRflow))},
          {"num_timesteps", num_timesteps},
          {"use_discrete_timesteps", use_discrete_timesteps},
          {"use_timestep_transform", use_timestep_transform},
          {"transform_scale", transform_scale}};
}

RflowSampler::RflowSampler(RflowConfig config) : config_(config) {}

std::unique_ptr<Sampler> RflowSampler::clone() const {
  return std::make_unique<RflowSampler>(*this);
}

void RflowSampler::build() {
  accept_only({"timesteps"});
  const auto train = static_cast<double>(config_.num_timesteps);
  if (!request_.timesteps.empty()) {
    if (request_.timesteps.front() > train || request_.timesteps.back() <= 0.0) {
      throw request_error("timesteps",
                          "values in (0, " + std::to_string(config_.num_timesteps) + "]",
                          std::to_string(request_.timesteps.front()) + " .. " +
                              std::to_string(request_.timesteps.back()));
    }
    timesteps_ = request_.timesteps;
    return;
  }
  const VideoSize size{request_.height, request_.width, request_.num_frames};
  const bool size_valid = size.height >= 1 && size.height <= kMaxPixels && size.width >= 1 &&
                          size.width <= kMaxPixels && size.num_frames >= 1 &&
                          size.num_frames <= kMaxFrames;
  if (config_.use_timestep_transform && !size_valid) {
    throw request_error("size",
                        "height, width and num_frames of the video, for the shift of times",
                        std::to_string(size.height) + " x " + std::to_string(size.width) + ", " +
                            std::to_string(size.num_frames) + " frames");
  }
  const std::int64_t num_steps = requested_steps(kMaxSteps);
  for (std::int64_t i = 0; i < num_steps; ++i) {
    double time = (1.0 - static_cast<double>(i) / static_cast<double>(num_steps)) * train;
    if (config_.use_discrete_timesteps) {
      time = std::nearbyint(time);
    }
    if (config_.use_timestep_transform) {
      time = rflow_shift_timestep(time, size, 1.0, config_.num_timesteps);
    }
    timesteps_.push_back(time);
  }
}

NoiseLevel RflowSampler::level(std::int64_t index) const {
  const double time = index < num_steps() ? timesteps_[static_cast<std::size_t>(index)] : 0.0;
  const double sigma = time / static_cast<double>(config_.num_timesteps);
  return {.alpha = 1.0 - sigma, .sigma = sigma};
}

StepResult RflowSampler::advance(const Tensor& model_output,
                                 std::int64_t index,
                                 const Tensor& sample,
                                 const Tensor& /*noise*/) {
  const Tensor velocity = model_output.narrow(1, 0, sample.size(1));
  const double sigma = level(index).sigma;
  return {.sample = sample + (sigma - level(index + 1).sigma) * velocity,
          .x0 = sample + sigma * velocity};
}

}  // namespace kinema::diffusion
