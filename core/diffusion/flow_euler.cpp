// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/flow_euler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::int64_t kMaxSteps = 100'000;
constexpr std::array<NamedValue<TimeShift>, 2> kTimeShifts = {
    {{"exponential", TimeShift::kExponential}, {"linear", TimeShift::kLinear}}};

}  // namespace

void read_time_shift(JsonReader& reader, TimeShift& kind) {
  read_enum<TimeShift>(reader, "time_shift_type", kTimeShifts, kind);
}

std::string_view to_string(TimeShift kind) {
  return name_of<TimeShift>(kTimeShifts, kind);
}

FlowEulerConfig FlowEulerConfig::from_json(const Json& json) {
  FlowEulerConfig config;
  JsonReader reader(json, {.place = "diffusion.flow_euler", .subject = "scheduler_config.json"});
  reader.ignore({"_class_name", "_diffusers_version"});
  reader.optional("num_train_timesteps", config.num_train_timesteps);
  read_prediction(reader, config.prediction);
  reader.optional("shift", config.shift);
  reader.optional("use_dynamic_shifting", config.use_dynamic_shifting);
  reader.optional("base_shift", config.base_shift);
  reader.optional("max_shift", config.max_shift);
  reader.optional("base_image_seq_len", config.base_image_seq_len);
  reader.optional("max_image_seq_len", config.max_image_seq_len);
  reader.optional("invert_sigmas", config.invert_sigmas);
  reader.optional("shift_terminal", config.shift_terminal);
  read_sigma_grid(reader, config.grid);
  read_time_shift(reader, config.time_shift);
  reader.optional("stochastic_sampling", config.stochastic_sampling);
  reader.finish();
  if (config.num_train_timesteps < 1 || config.num_train_timesteps > 1'000'000) {
    throw reader.error("config.range",
                       "num_train_timesteps",
                       "1 .. 1000000",
                       std::to_string(config.num_train_timesteps));
  }
  if (!(config.shift > 0.0)) {
    throw reader.error("config.range", "shift", "above 0", std::to_string(config.shift));
  }
  if (config.shift_terminal.value_or(0.0) < 0.0 || config.shift_terminal.value_or(0.0) >= 1.0) {
    throw reader.error(
        "config.range", "shift_terminal", "[0, 1)", std::to_string(*config.shift_terminal));
  }
  const bool is_flow = config.prediction == PredictionType::kFlow ||
                       config.prediction == PredictionType::kReverseFlow;
  if (!is_flow) {
    throw reader.error("config.value",
                       "prediction_type",
                       "flow_prediction or reverse_flow_prediction",
                       std::string(to_string(config.prediction)));
  }
  return config;
}

Json FlowEulerConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kFlowEuler))},
               {"num_train_timesteps", num_train_timesteps},
               {"prediction_type", std::string(to_string(prediction))},
               {"shift", shift},
               {"use_dynamic_shifting", use_dynamic_shifting},
               {"base_shift", base_shift},
               {"max_shift", max_shift},
               {"base_image_seq_len", base_image_seq_len},
               {"max_image_seq_len", max_image_seq_len},
               {"invert_sigmas", invert_sigmas},
               {"time_shift_type", std::string(to_string(time_shift))},
               {"stochastic_sampling", stochastic_sampling}};
  json["shift_terminal"] = shift_terminal ? Json(*shift_terminal) : Json();
  write_sigma_grid(json, grid);
  return json;
}

FlowEulerSampler::FlowEulerSampler(FlowEulerConfig config) : config_(std::move(config)) {}

std::unique_ptr<Sampler> FlowEulerSampler::clone() const {
  return std::make_unique<FlowEulerSampler>(*this);
}

void FlowEulerSampler::build() {
  accept_only({"timesteps", "sigmas", "mu"});
  if (request_.mu.has_value() != config_.use_dynamic_shifting) {
    throw request_error("mu",
                        config_.use_dynamic_shifting ? "a value, for use_dynamic_shifting"
                                                     : "none without use_dynamic_shifting",
                        request_.mu ? std::to_string(*request_.mu) : "none");
  }
  const auto train = static_cast<double>(config_.num_train_timesteps);
  std::int64_t num_steps = request_.num_steps;
  for (const auto* given : {&request_.timesteps, &request_.sigmas}) {
    const auto count = static_cast<std::int64_t>(given->size());
    if (count > 0 && num_steps > 0 && count != num_steps) {
      throw request_error(
          "num_steps", std::to_string(count) + " as given", std::to_string(num_steps));
    }
    num_steps = count > 0 ? count : num_steps;
  }
  if (!request_.sigmas.empty()) {
    sigmas_ = request_.sigmas;
  } else if (!request_.timesteps.empty()) {
    sigmas_ = request_.timesteps;
    std::ranges::for_each(sigmas_, [&](double& sigma) { sigma /= train; });
  } else {
    num_steps = requested_steps(kMaxSteps);
    // The ends come from the already shifted training table; shift_sigmas() shifts them again.
    const double shift = config_.use_dynamic_shifting ? 1.0 : config_.shift;
    sigmas_ = linspace(
        shift_sigma(1.0, shift) * train, shift_sigma(1.0 / train, shift) * train, num_steps);
    std::ranges::for_each(sigmas_, [&](double& sigma) { sigma /= train; });
  }
  if (sigmas_.front() > 1.0 || sigmas_.back() <= 0.0) {
    throw request_error("sigmas",
                        "values in (0, 1]",
                        std::to_string(sigmas_.front()) + " .. " + std::to_string(sigmas_.back()));
  }
  shift_sigmas();
  timesteps_ = request_.timesteps;
  if (timesteps_.empty() || config_.invert_sigmas) {
    timesteps_.clear();
    for (double& sigma : sigmas_) {
      sigma = config_.invert_sigmas ? 1.0 - sigma : sigma;
      timesteps_.push_back(sigma * train);
    }
  }
  sigmas_.push_back(config_.invert_sigmas ? 1.0 : 0.0);
}

void FlowEulerSampler::shift_sigmas() {
  for (double& sigma : sigmas_) {
    sigma = config_.use_dynamic_shifting
                ? dynamic_shift_sigma(sigma, *request_.mu, config_.time_shift)
                : shift_sigma(sigma, config_.shift);
  }
  if (config_.shift_terminal.value_or(0.0) > 0.0) {
    stretch_to_terminal(sigmas_, *config_.shift_terminal);
  }
  const auto count = static_cast<std::int64_t>(sigmas_.size());
  const double sigma_min = sigmas_.back();
  const double sigma_max = sigmas_.front();
  switch (config_.grid) {
    case SigmaGrid::kKarras:
      sigmas_ = karras_sigmas(sigma_min, sigma_max, count);
      break;
    case SigmaGrid::kExponential:
      sigmas_ = exponential_sigmas(sigma_min, sigma_max, count);
      break;
    case SigmaGrid::kBeta:
      sigmas_ = beta_sigmas(sigma_min, sigma_max, count);
      break;
    case SigmaGrid::kTraining:
    case SigmaGrid::kLu:
      break;
  }
}

NoiseLevel FlowEulerSampler::level(std::int64_t index) const {
  const double sigma = sigmas_[static_cast<std::size_t>(index)];
  return config_.invert_sigmas ? NoiseLevel{.alpha = sigma, .sigma = 1.0 - sigma}
                               : NoiseLevel{.alpha = 1.0 - sigma, .sigma = sigma};
}

bool FlowEulerSampler::needs_noise(std::int64_t /*index*/) const {
  return config_.stochastic_sampling;
}

StepResult FlowEulerSampler::advance(const Tensor& model_output,
                                     std::int64_t index,
                                     const Tensor& sample,
                                     const Tensor& noise) {
  const Tensor prediction = model_output.narrow(1, 0, sample.size(1));
  const double sigma = sigmas_[static_cast<std::size_t>(index)];
  const double next = sigmas_[static_cast<std::size_t>(index) + 1];
  if (config_.stochastic_sampling) {
    const Tensor x0 =
        predict_x0(config_.prediction, prediction, sample, {.alpha = 1.0 - sigma, .sigma = sigma});
    return {.sample = (1.0 - next) * x0 + next * noise, .x0 = x0};
  }
  const double sign = config_.prediction == PredictionType::kFlow ? 1.0 : -1.0;
  const double to_clean = (config_.invert_sigmas ? 1.0 : 0.0) - sigma;
  return {.sample = sample + (sign * (next - sigma)) * prediction,
          .x0 = sample + (sign * to_clean) * prediction};
}

}  // namespace kinema::diffusion
