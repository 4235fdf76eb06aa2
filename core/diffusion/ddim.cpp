// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/ddim.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {

DdimConfig DdimConfig::from_json(const Json& json) {
  DdimConfig config;
  JsonReader reader(json, {.place = "diffusion.ddim", .subject = "scheduler_config.json"});
  reader.ignore({"_class_name", "_diffusers_version"});
  config.betas.read(reader);
  config.spacing.read(reader);
  config.clip.read(reader, true);
  read_prediction(reader, config.prediction);
  reader.optional("set_alpha_to_one", config.set_alpha_to_one);
  reader.finish();
  const bool is_flow = config.prediction == PredictionType::kFlow ||
                       config.prediction == PredictionType::kReverseFlow;
  if (is_flow) {
    throw reader.error("config.value",
                       "prediction_type",
                       "epsilon, sample or v_prediction",
                       std::string(to_string(config.prediction)));
  }
  return config;
}

Json DdimConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kDdim))}};
  betas.write(json);
  spacing.write(json);
  clip.write(json, true);
  json["prediction_type"] = std::string(to_string(prediction));
  json["set_alpha_to_one"] = set_alpha_to_one;
  return json;
}

DdimSampler::DdimSampler(DdimConfig config)
    : config_(std::move(config)), alphas_cumprod_(make_alphas_cumprod(config_.betas)) {}

std::unique_ptr<Sampler> DdimSampler::clone() const {
  return std::make_unique<DdimSampler>(*this);
}

void DdimSampler::build() {
  accept_only({"timesteps", "eta", "use_clipped_model_output"});
  if (!(request_.eta >= 0.0)) {
    throw request_error("eta", "0 or more", std::to_string(request_.eta));
  }
  const std::int64_t num_train = config_.betas.num_train_timesteps;
  if (!request_.timesteps.empty()) {
    timesteps_ = request_.timesteps;
  } else {
    timesteps_ = spaced_timesteps(config_.spacing, num_train, requested_steps(num_train));
  }
  for (const double time : timesteps_) {
    const bool valid =
        time >= 0.0 && time < static_cast<double>(num_train) && time == std::floor(time);
    if (!valid) {
      throw request_error(
          "timesteps", "whole numbers 0 .. " + std::to_string(num_train - 1), std::to_string(time));
    }
    // x0 is infinite there; only clipping makes it a number.
    const bool no_signal = alphas_cumprod_[static_cast<std::size_t>(time)] <= 0.0;
    const bool clips = config_.clip.clip_sample && !config_.clip.thresholding;
    if (no_signal && !clips && config_.prediction == PredictionType::kEpsilon) {
      throw request_error("timesteps",
                          "times with some signal left for an epsilon model",
                          "time " + std::to_string(time) + " of a zero terminal SNR schedule");
    }
  }
}

double DdimSampler::final_alpha_bar() const {
  return config_.set_alpha_to_one ? 1.0 : alphas_cumprod_.front();
}

double DdimSampler::alpha_bar_after(std::int64_t index) const {
  const auto i = static_cast<std::size_t>(index);
  double after = -1.0;
  if (request_.timesteps.empty()) {
    const std::int64_t stride = config_.betas.num_train_timesteps / request_.num_steps;
    after = timesteps_[i] - static_cast<double>(stride);
  } else if (i + 1 < timesteps_.size()) {
    after = timesteps_[i + 1];
  }
  return after < 0.0 ? final_alpha_bar() : alphas_cumprod_[static_cast<std::size_t>(after)];
}

NoiseLevel DdimSampler::level(std::int64_t index) const {
  const double alpha =
      index < num_steps()
          ? alphas_cumprod_[static_cast<std::size_t>(timesteps_[static_cast<std::size_t>(index)])]
          : final_alpha_bar();
  return {.alpha = std::sqrt(alpha), .sigma = std::sqrt(1.0 - alpha)};
}

bool DdimSampler::needs_noise(std::int64_t /*index*/) const {
  return request_.eta > 0.0;
}

StepResult DdimSampler::advance(const Tensor& model_output,
                                std::int64_t index,
                                const Tensor& sample,
                                const Tensor& noise) {
  // A model with a learned variance: DDIM uses the mean only.
  const Tensor prediction = model_output.narrow(1, 0, sample.size(1));
  const NoiseLevel here = level(index);
  const double alpha_bar_t = here.alpha * here.alpha;
  const double alpha_bar_s = alpha_bar_after(index);
  const double beta_bar_t = here.sigma * here.sigma;
  const Tensor x0 = config_.clip.apply(predict_x0(config_.prediction, prediction, sample, here));
  const Tensor epsilon = request_.use_clipped_model_output
                             ? (sample - here.alpha * x0) / here.sigma
                             : predict_epsilon(config_.prediction, prediction, sample, here);
  const double variance = (1.0 - alpha_bar_s) / beta_bar_t * (1.0 - alpha_bar_t / alpha_bar_s);
  const double deviation = request_.eta * std::sqrt(std::max(variance, 0.0));
  const double direction = std::max(1.0 - alpha_bar_s - deviation * deviation, 0.0);
  Tensor next = std::sqrt(alpha_bar_s) * x0 + std::sqrt(direction) * epsilon;
  if (request_.eta > 0.0) {
    next = next + deviation * noise;
  }
  return {.sample = next, .x0 = x0};
}

}  // namespace kinema::diffusion
