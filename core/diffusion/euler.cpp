// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/euler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::int64_t kMaxSteps = 100'000;
constexpr std::array<NamedValue<bool>, 2> kFinalSigmas = {{{"zero", true}, {"sigma_min", false}}};
constexpr std::array<NamedValue<bool>, 2> kInterpolations = {
    {{"linear", false}, {"log_linear", true}}};
constexpr std::array<NamedValue<bool>, 2> kTimestepTypes = {
    {{"discrete", false}, {"continuous", true}}};

}  // namespace

void read_sigma_grid(JsonReader& reader, SigmaGrid& grid) {
  constexpr std::array<NamedValue<SigmaGrid>, 3> kFlags = {{
      {"use_karras_sigmas", SigmaGrid::kKarras},
      {"use_exponential_sigmas", SigmaGrid::kExponential},
      {"use_beta_sigmas", SigmaGrid::kBeta},
  }};
  int count = 0;
  for (const auto& flag : kFlags) {
    bool set = false;
    reader.optional(flag.name, set);
    if (set) {
      grid = flag.value;
      ++count;
    }
  }
  if (count > 1) {
    throw reader.error("config.value",
                       "use_karras_sigmas",
                       "one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas",
                       std::to_string(count) + " of them");
  }
}

void write_sigma_grid(Json& json, SigmaGrid grid) {
  json["use_karras_sigmas"] = grid == SigmaGrid::kKarras;
  json["use_exponential_sigmas"] = grid == SigmaGrid::kExponential;
  json["use_beta_sigmas"] = grid == SigmaGrid::kBeta;
}

void read_final_sigma(JsonReader& reader, bool& final_sigma_is_zero) {
  read_enum<bool>(reader, "final_sigmas_type", kFinalSigmas, final_sigma_is_zero);
}

EulerConfig EulerConfig::from_json(const Json& json) {
  EulerConfig config;
  JsonReader reader(json, {.place = "diffusion.euler", .subject = "scheduler_config.json"});
  reader.ignore({"_class_name", "_diffusers_version"});
  config.betas.read(reader);
  config.spacing.read(reader);
  read_prediction(reader, config.prediction);
  read_sigma_grid(reader, config.grid);
  read_enum<bool>(reader, "interpolation_type", kInterpolations, config.log_linear_interpolation);
  read_enum<bool>(reader, "timestep_type", kTimestepTypes, config.continuous_timesteps);
  reader.optional("sigma_min", config.sigma_min);
  reader.optional("sigma_max", config.sigma_max);
  read_final_sigma(reader, config.final_sigma_is_zero);
  reader.finish();
  const bool is_flow = config.prediction == PredictionType::kFlow ||
                       config.prediction == PredictionType::kReverseFlow;
  if (is_flow) {
    throw reader.error("config.value",
                       "prediction_type",
                       "epsilon, sample or v_prediction",
                       std::string(to_string(config.prediction)));
  }
  const bool ends_valid = config.sigma_min.value_or(1.0) > 0.0 &&
                          config.sigma_max.value_or(1.0) > 0.0 &&
                          config.sigma_min.value_or(0.0) < config.sigma_max.value_or(1e300);
  if (!ends_valid) {
    throw reader.error("config.range",
                       "sigma_min",
                       "0 < sigma_min < sigma_max",
                       std::to_string(config.sigma_min.value_or(0.0)));
  }
  return config;
}

Json EulerConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kEuler))}};
  betas.write(json);
  spacing.write(json);
  write_sigma_grid(json, grid);
  json["prediction_type"] = std::string(to_string(prediction));
  json["interpolation_type"] = log_linear_interpolation ? "log_linear" : "linear";
  json["timestep_type"] = continuous_timesteps ? "continuous" : "discrete";
  json["sigma_min"] = sigma_min ? Json(*sigma_min) : Json();
  json["sigma_max"] = sigma_max ? Json(*sigma_max) : Json();
  json["final_sigmas_type"] = final_sigma_is_zero ? "zero" : "sigma_min";
  return json;
}

EulerSampler::EulerSampler(EulerConfig config)
    : config_(std::move(config)), train_sigmas_(make_sigmas(make_alphas_cumprod(config_.betas))) {}

std::unique_ptr<Sampler> EulerSampler::clone() const {
  return std::make_unique<EulerSampler>(*this);
}

void EulerSampler::build() {
  accept_only({"timesteps", "sigmas", "churn"});
  if (!request_.timesteps.empty() && !request_.sigmas.empty()) {
    throw request_error("timesteps", "either timesteps or sigmas", "both");
  }
  const bool continuous =
      config_.continuous_timesteps && config_.prediction == PredictionType::kVelocity;
  if (!request_.timesteps.empty() && (config_.grid != SigmaGrid::kTraining || continuous)) {
    throw request_error("timesteps", "a schedule on the training grid", "another grid of sigmas");
  }
  if (!request_.sigmas.empty()) {
    if (request_.sigmas.size() < 2 || request_.sigmas.back() < 0.0) {
      throw request_error("sigmas", "at least two, the last one 0 or more", "others");
    }
    sigmas_ = request_.sigmas;
    for (std::size_t i = 0; i + 1 < sigmas_.size(); ++i) {
      timesteps_.push_back(sigma_to_timestep(sigmas_[i], train_sigmas_));
    }
  } else if (!request_.timesteps.empty()) {
    build_from_times(request_.timesteps, static_cast<std::int64_t>(request_.timesteps.size()));
  } else {
    const std::int64_t num_train = config_.betas.num_train_timesteps;
    const std::int64_t num_steps = requested_steps(kMaxSteps);
    // Unlike other samplers, "linspace" keeps fractional times.
    std::vector<double> times;
    if (config_.spacing.timestep_spacing == TimestepSpacing::kLinspace) {
      times = linspace(0.0, static_cast<double>(num_train - 1), num_steps);
      std::ranges::reverse(times);
    } else {
      times = spaced_timesteps(config_.spacing, num_train, num_steps);
    }
    build_from_times(std::move(times), num_steps);
  }
  if (continuous) {
    // One more than asked with log_linear interpolation, as in the reference.
    timesteps_.clear();
    for (std::size_t i = 0; i + 1 < sigmas_.size(); ++i) {
      timesteps_.push_back(0.25 * std::log(sigmas_[i]));
    }
  }
}

void EulerSampler::build_from_times(std::vector<double> times, std::int64_t num_steps) {
  timesteps_ = std::move(times);
  sigmas_.clear();
  if (config_.log_linear_interpolation) {
    sigmas_ = exponential_sigmas(train_sigmas_.front(), train_sigmas_.back(), num_steps + 1);
  } else {
    for (const double time : timesteps_) {
      sigmas_.push_back(interpolate(train_sigmas_, time));
    }
  }
  const double sigma_min = config_.sigma_min.value_or(sigmas_.back());
  const double sigma_max = config_.sigma_max.value_or(sigmas_.front());
  switch (config_.grid) {
    case SigmaGrid::kKarras:
      sigmas_ = karras_sigmas(sigma_min, sigma_max, num_steps);
      break;
    case SigmaGrid::kExponential:
      sigmas_ = exponential_sigmas(sigma_min, sigma_max, num_steps);
      break;
    case SigmaGrid::kBeta:
      sigmas_ = beta_sigmas(sigma_min, sigma_max, num_steps);
      break;
    case SigmaGrid::kTraining:
    case SigmaGrid::kLu:
      break;
  }
  if (config_.grid != SigmaGrid::kTraining) {
    timesteps_.clear();
    for (const double sigma : sigmas_) {
      timesteps_.push_back(sigma_to_timestep(sigma, train_sigmas_));
    }
  }
  sigmas_.push_back(config_.final_sigma_is_zero ? 0.0 : train_sigmas_.front());
}

NoiseLevel EulerSampler::level(std::int64_t index) const {
  return {.alpha = 1.0, .sigma = sigmas_[static_cast<std::size_t>(index)]};
}

double EulerSampler::init_noise_sigma() const {
  const double sigma_max = sigmas_.empty() ? train_sigmas_.back() : std::ranges::max(sigmas_);
  return config_.spacing.timestep_spacing == TimestepSpacing::kLeading
             ? std::sqrt(sigma_max * sigma_max + 1.0)
             : sigma_max;
}

Tensor EulerSampler::scale_model_input(const Tensor& sample, std::int64_t index) const {
  const double sigma = level(index).sigma;
  return sample / std::sqrt(sigma * sigma + 1.0);
}

double EulerSampler::churn_gamma(std::int64_t index) const {
  const double sigma = sigmas_[static_cast<std::size_t>(index)];
  if (sigma < request_.churn_min_sigma || sigma > request_.churn_max_sigma) {
    return 0.0;
  }
  return std::min(request_.churn / static_cast<double>(sigmas_.size() - 1), std::sqrt(2.0) - 1.0);
}

bool EulerSampler::needs_noise(std::int64_t index) const {
  return index >= 0 && index < num_steps() && churn_gamma(index) > 0.0;
}

StepResult EulerSampler::advance(const Tensor& model_output,
                                 std::int64_t index,
                                 const Tensor& sample,
                                 const Tensor& noise) {
  const Tensor prediction = model_output.narrow(1, 0, sample.size(1));
  const double sigma = level(index).sigma;
  const double gamma = churn_gamma(index);
  const double sigma_hat = sigma * (gamma + 1.0);
  Tensor x = sample;
  if (gamma > 0.0) {
    const double added = std::sqrt(sigma_hat * sigma_hat - sigma * sigma);
    x = x + (request_.churn_noise * added) * noise;
  }
  Tensor x0;
  if (config_.prediction == PredictionType::kSample) {
    x0 = prediction;
  } else if (config_.prediction == PredictionType::kVelocity) {
    const double squared = sigma * sigma + 1.0;
    x0 = (-sigma / std::sqrt(squared)) * prediction + x / squared;
  } else {
    x0 = x - sigma_hat * prediction;
  }
  const double dt = sigmas_[static_cast<std::size_t>(index) + 1] - sigma_hat;
  return {.sample = x + ((x - x0) / sigma_hat) * dt, .x0 = x0};
}

}  // namespace kinema::diffusion
