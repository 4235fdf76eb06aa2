// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/ddpm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::array<NamedValue<VarianceType>, 6> kVariances = {{
    {"fixed_small", VarianceType::kFixedSmall},
    {"fixed_small_log", VarianceType::kFixedSmallLog},
    {"fixed_large", VarianceType::kFixedLarge},
    {"fixed_large_log", VarianceType::kFixedLargeLog},
    {"learned", VarianceType::kLearned},
    {"learned_range", VarianceType::kLearnedRange},
}};

bool is_learned(VarianceType type) {
  return type == VarianceType::kLearned || type == VarianceType::kLearnedRange;
}

}  // namespace

DdpmConfig DdpmConfig::from_json(const Json& json) {
  DdpmConfig config;
  JsonReader reader(json, {.place = "diffusion.ddpm", .subject = "scheduler_config.json"});
  reader.ignore({"_class_name", "_diffusers_version"});
  config.betas.read(reader);
  config.spacing.read(reader);
  config.clip.read(reader, true);
  read_prediction(reader, config.prediction);
  read_enum<VarianceType>(reader, "variance_type", kVariances, config.variance);
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

Json DdpmConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kDdpm))}};
  betas.write(json);
  spacing.write(json);
  clip.write(json, true);
  json["prediction_type"] = std::string(to_string(prediction));
  json["variance_type"] = std::string(name_of<VarianceType>(kVariances, variance));
  return json;
}

DdpmSampler::DdpmSampler(DdpmConfig config)
    : config_(std::move(config)), alphas_cumprod_(make_alphas_cumprod(config_.betas)) {}

std::unique_ptr<Sampler> DdpmSampler::clone() const {
  return std::make_unique<DdpmSampler>(*this);
}

void DdpmSampler::build() {
  accept_only({"timesteps"});
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

double DdpmSampler::alpha_bar(std::int64_t index) const {
  return index < num_steps() ? alphas_cumprod_[static_cast<std::size_t>(
                                   timesteps_[static_cast<std::size_t>(index)])]
                             : 1.0;
}

NoiseLevel DdpmSampler::level(std::int64_t index) const {
  const double alpha = alpha_bar(index);
  return {.alpha = std::sqrt(alpha), .sigma = std::sqrt(1.0 - alpha)};
}

bool DdpmSampler::needs_noise(std::int64_t index) const {
  return index >= 0 && index < num_steps() && timesteps_[static_cast<std::size_t>(index)] > 0.0;
}

Tensor DdpmSampler::noise_term(const Tensor& predicted_variance,
                               double posterior_variance,
                               double beta,
                               const Tensor& noise) const {
  switch (config_.variance) {
    case VarianceType::kLearned:
      return predicted_variance.sqrt() * noise;
    case VarianceType::kLearnedRange: {
      const Tensor fraction = (predicted_variance + 1.0) / 2.0;
      const Tensor log_variance =
          fraction * std::log(beta) + (1.0 - fraction) * std::log(posterior_variance);
      return (0.5 * log_variance).exp() * noise;
    }
    case VarianceType::kFixedLarge:
    case VarianceType::kFixedLargeLog:
      return std::sqrt(beta) * noise;
    case VarianceType::kFixedSmall:
    case VarianceType::kFixedSmallLog:
      break;
  }
  return std::sqrt(posterior_variance) * noise;
}

StepResult DdpmSampler::advance(const Tensor& model_output,
                                std::int64_t index,
                                const Tensor& sample,
                                const Tensor& noise) {
  const std::int64_t channels = sample.size(1);
  const bool has_variance = model_output.size(1) == 2 * channels;
  if (is_learned(config_.variance) != has_variance) {
    throw Error(
        ErrorKind::kShapeMismatch,
        {.code = "sampler.shape",
         .place = "diffusion.ddpm",
         .subject = "model_output",
         .expected = std::to_string(is_learned(config_.variance) ? 2 * channels : channels) +
                     " channels for variance_type " +
                     std::string(name_of<VarianceType>(kVariances, config_.variance)),
         .got = std::to_string(model_output.size(1))});
  }
  const Tensor prediction = model_output.narrow(1, 0, channels);
  const double alpha_bar_t = alpha_bar(index);
  const double alpha_bar_s = alpha_bar(index + 1);
  const double alpha = alpha_bar_t / alpha_bar_s;
  const double beta = 1.0 - alpha;
  const Tensor x0 =
      config_.clip.apply(predict_x0(config_.prediction, prediction, sample, level(index)));
  Tensor next = (std::sqrt(alpha_bar_s) * beta / (1.0 - alpha_bar_t)) * x0 +
                (std::sqrt(alpha) * (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t)) * sample;
  if (needs_noise(index)) {
    const double posterior = std::max((1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * beta, 1e-20);
    const Tensor variance = has_variance ? model_output.narrow(1, channels, channels) : Tensor();
    next = next + noise_term(variance, posterior, beta, noise);
  }
  return {.sample = next, .x0 = x0};
}

}  // namespace kinema::diffusion
