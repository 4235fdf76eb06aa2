// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/dpmpp.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::array<NamedValue<DpmAlgorithm>, 5> kAlgorithms = {{
    {"dpmsolver++", DpmAlgorithm::kDpmSolverPp},
    {"dpmsolver", DpmAlgorithm::kDpmSolver},
    {"sde-dpmsolver", DpmAlgorithm::kSdeDpmSolver},
    {"sde-dpmsolver++", DpmAlgorithm::kSdeDpmSolverPp},
    {"deis", DpmAlgorithm::kDpmSolverPp},
}};
constexpr std::array<NamedValue<bool>, 5> kSolverTypes = {
    {{"midpoint", false}, {"heun", true}, {"logrho", false}, {"bh1", false}, {"bh2", false}}};

void read_lambda_min(JsonReader& reader, double& value) {
  const Json* found = reader.find("lambda_min_clipped");
  if (found == nullptr) {
    return;
  }
  const bool is_text = found->is_string();
  if (is_text && (*found == "-Infinity" || *found == "-inf")) {
    value = -std::numeric_limits<double>::infinity();
  } else if (found->is_number()) {
    value = found->get<double>();
  } else {
    throw reader.error("config.type", "lambda_min_clipped", "a number or -Infinity", found->dump());
  }
}

void check(const JsonReader& reader, const DpmppConfig& config) {
  if (config.solver_order < 1 || config.solver_order > 3) {
    throw reader.error(
        "config.range", "solver_order", "1, 2 or 3", std::to_string(config.solver_order));
  }
  const bool noise_prediction = config.algorithm == DpmAlgorithm::kDpmSolver ||
                                config.algorithm == DpmAlgorithm::kSdeDpmSolver;
  const bool is_flow = config.prediction == PredictionType::kFlow ||
                       config.prediction == PredictionType::kReverseFlow;
  if (noise_prediction && config.final_sigma_is_zero) {
    throw reader.error(
        "config.value", "final_sigmas_type", "sigma_min for dpmsolver and sde-dpmsolver", "zero");
  }
  if (noise_prediction && is_flow) {
    throw reader.error("config.value",
                       "prediction_type",
                       "epsilon, sample or v_prediction for dpmsolver and sde-dpmsolver",
                       std::string(to_string(config.prediction)));
  }
  if (config.algorithm == DpmAlgorithm::kSdeDpmSolver && config.solver_order > 2) {
    throw reader.error("config.value", "solver_order", "1 or 2 for sde-dpmsolver", "3");
  }
  if (config.use_flow_sigmas && config.grid != SigmaGrid::kTraining) {
    throw reader.error("config.value",
                       "use_flow_sigmas",
                       "no Karras, exponential, beta or Lu grid beside it",
                       "both");
  }
  if (!(config.flow_shift > 0.0)) {
    throw reader.error("config.range", "flow_shift", "above 0", std::to_string(config.flow_shift));
  }
}

}  // namespace

DpmppConfig DpmppConfig::from_json(const Json& json) {
  DpmppConfig config;
  JsonReader reader(json, {.place = "diffusion.dpmpp", .subject = "scheduler_config.json"});
  // variance_type only says that the output has a second half, which is seen from its shape.
  reader.ignore({"_class_name", "_diffusers_version", "variance_type"});
  config.betas.read(reader);
  config.spacing.read(reader);
  config.clip.read(reader, false);
  read_prediction(reader, config.prediction);
  reader.optional("solver_order", config.solver_order);
  read_enum<DpmAlgorithm>(reader, "algorithm_type", kAlgorithms, config.algorithm);
  read_enum<bool>(reader, "solver_type", kSolverTypes, config.heun);
  reader.optional("lower_order_final", config.lower_order_final);
  reader.optional("euler_at_final", config.euler_at_final);
  read_sigma_grid(reader, config.grid);
  bool use_lu = false;
  reader.optional("use_lu_lambdas", use_lu);
  // As in the reference: Karras before Lu before the others.
  if (use_lu && config.grid != SigmaGrid::kKarras) {
    config.grid = SigmaGrid::kLu;
  }
  reader.optional("use_flow_sigmas", config.use_flow_sigmas);
  reader.optional("flow_shift", config.flow_shift);
  read_final_sigma(reader, config.final_sigma_is_zero);
  read_lambda_min(reader, config.lambda_min_clipped);
  reader.optional("use_dynamic_shifting", config.use_dynamic_shifting);
  read_time_shift(reader, config.time_shift);
  reader.finish();
  check(reader, config);
  return config;
}

Json DpmppConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kDpmpp))}};
  betas.write(json);
  spacing.write(json);
  clip.write(json, false);
  json["prediction_type"] = std::string(to_string(prediction));
  json["solver_order"] = solver_order;
  json["algorithm_type"] = std::string(name_of<DpmAlgorithm>(kAlgorithms, algorithm));
  json["solver_type"] = heun ? "heun" : "midpoint";
  json["lower_order_final"] = lower_order_final;
  json["euler_at_final"] = euler_at_final;
  write_sigma_grid(json, grid);
  json["use_lu_lambdas"] = grid == SigmaGrid::kLu;
  json["use_flow_sigmas"] = use_flow_sigmas;
  json["flow_shift"] = flow_shift;
  json["final_sigmas_type"] = final_sigma_is_zero ? "zero" : "sigma_min";
  json["lambda_min_clipped"] =
      std::isinf(lambda_min_clipped) ? Json("-Infinity") : Json(lambda_min_clipped);
  json["use_dynamic_shifting"] = use_dynamic_shifting;
  json["time_shift_type"] = std::string(to_string(time_shift));
  return json;
}

DpmppSampler::DpmppSampler(DpmppConfig config)
    : config_(std::move(config)),
      alphas_cumprod_(make_alphas_cumprod(config_.betas)),
      train_sigmas_(make_sigmas(alphas_cumprod_)) {}

std::unique_ptr<Sampler> DpmppSampler::clone() const {
  return std::make_unique<DpmppSampler>(*this);
}

bool DpmppSampler::predicts_noise() const {
  return config_.algorithm == DpmAlgorithm::kDpmSolver ||
         config_.algorithm == DpmAlgorithm::kSdeDpmSolver;
}

bool DpmppSampler::needs_noise(std::int64_t /*index*/) const {
  return config_.algorithm == DpmAlgorithm::kSdeDpmSolver ||
         config_.algorithm == DpmAlgorithm::kSdeDpmSolverPp;
}

void DpmppSampler::build() {
  accept_only({"timesteps", "mu"});
  if (request_.mu.has_value() && !config_.use_dynamic_shifting) {
    throw request_error("mu", "none without use_dynamic_shifting", std::to_string(*request_.mu));
  }
  if (request_.mu.has_value() && config_.time_shift != TimeShift::kExponential) {
    throw request_error("mu", "time_shift_type exponential", "linear");
  }
  if (request_.timesteps.empty()) {
    build_grid(requested_steps(config_.betas.num_train_timesteps));
  } else {
    if (config_.grid != SigmaGrid::kTraining || config_.use_flow_sigmas) {
      throw request_error("timesteps", "a schedule on the training grid", "another grid of sigmas");
    }
    timesteps_ = request_.timesteps;
    sigmas_.clear();
    for (const double time : timesteps_) {
      sigmas_.push_back(interpolate(train_sigmas_, std::trunc(time)));
    }
  }
  // The network gets whole numbers.
  std::ranges::for_each(timesteps_, [](double& time) { time = std::trunc(time); });
  sigmas_.push_back(config_.final_sigma_is_zero ? 0.0 : train_sigmas_.front());
}

void DpmppSampler::build_grid(std::int64_t num_steps) {
  const std::int64_t num_train = config_.betas.num_train_timesteps;
  // Noise levels with lambda below the limit are left out; lambda falls with time.
  const auto num_clipped = std::ranges::count_if(
      train_sigmas_, [&](double sigma) { return -std::log(sigma) < config_.lambda_min_clipped; });
  const std::int64_t num_used = num_train - num_clipped;
  if (num_used < 1) {
    throw request_error("lambda_min_clipped",
                        "below the largest lambda of the schedule",
                        std::to_string(config_.lambda_min_clipped));
  }
  timesteps_ = spaced_timesteps_open(config_.spacing, num_train, num_used, num_steps);
  convert_grid(num_steps);
}

void DpmppSampler::convert_grid(std::int64_t num_steps) {
  const double low = train_sigmas_.front();
  const double high = train_sigmas_.back();
  const auto train = static_cast<double>(config_.betas.num_train_timesteps);
  sigmas_.clear();
  if (config_.use_flow_sigmas) {
    const double shift = request_.mu ? std::exp(*request_.mu) : config_.flow_shift;
    const std::vector<double> alphas = linspace(1.0, 1.0 / train, num_steps + 1);
    for (std::int64_t i = num_steps; i >= 1; --i) {
      sigmas_.push_back(shift_sigma(1.0 - alphas[static_cast<std::size_t>(i)], shift));
    }
    timesteps_ = sigmas_;
    std::ranges::for_each(timesteps_, [&](double& time) { time *= train; });
    return;
  }
  switch (config_.grid) {
    case SigmaGrid::kTraining:
      for (const double time : timesteps_) {
        sigmas_.push_back(interpolate(train_sigmas_, time));
      }
      return;
    case SigmaGrid::kKarras:
      sigmas_ = karras_sigmas(low, high, num_steps);
      break;
    case SigmaGrid::kExponential:
    case SigmaGrid::kLu:
      // Lu et al. take equal steps in lambda, which is minus the logarithm of these sigmas.
      sigmas_ = exponential_sigmas(low, high, num_steps);
      break;
    case SigmaGrid::kBeta:
      sigmas_ = beta_sigmas(low, high, num_steps);
      break;
  }
  const bool rounds = config_.grid == SigmaGrid::kKarras || config_.grid == SigmaGrid::kLu;
  timesteps_.clear();
  for (const double sigma : sigmas_) {
    const double time = sigma_to_timestep(sigma, train_sigmas_);
    const bool whole = rounds && config_.betas.beta_schedule != BetaSchedule::kCosine;
    timesteps_.push_back(whole ? std::nearbyint(time) : time);
  }
}

NoiseLevel DpmppSampler::level(std::int64_t index) const {
  const double sigma = sigmas_[static_cast<std::size_t>(index)];
  if (config_.use_flow_sigmas) {
    return {.alpha = 1.0 - sigma, .sigma = sigma};
  }
  const double alpha = 1.0 / std::sqrt(sigma * sigma + 1.0);
  return {.alpha = alpha, .sigma = sigma * alpha};
}

double DpmppSampler::lambda(std::int64_t index) const {
  const NoiseLevel at = level(index);
  return std::log(at.alpha) - std::log(at.sigma);
}

std::int64_t DpmppSampler::step_order(std::int64_t index) const {
  const bool few_steps = config_.lower_order_final && num_steps() < 15;
  const std::int64_t steps_left = num_steps() - index;
  std::int64_t order = config_.solver_order;
  if (steps_left == 1 && (config_.euler_at_final || few_steps || config_.final_sigma_is_zero)) {
    order = 1;
  } else if (steps_left == 2 && few_steps) {
    order = std::min<std::int64_t>(order, 2);
  }
  return std::min(order, static_cast<std::int64_t>(history_.size()));
}

StepResult DpmppSampler::advance(const Tensor& model_output,
                                 std::int64_t index,
                                 const Tensor& sample,
                                 const Tensor& noise) {
  const Tensor prediction = model_output.narrow(1, 0, sample.size(1));
  const NoiseLevel here = level(index);
  Tensor x0 = config_.clip.apply(predict_x0(config_.prediction, prediction, sample, here));
  Tensor converted = x0;
  if (predicts_noise()) {
    converted = config_.clip.thresholding
                    ? (sample - here.alpha * x0) / here.sigma
                    : predict_epsilon(config_.prediction, prediction, sample, here);
  }
  history_.push_back(converted);
  if (static_cast<std::int64_t>(history_.size()) > config_.solver_order) {
    history_.erase(history_.begin());
  }
  return {.sample = update(step_order(index), index, sample, noise), .x0 = x0};
}

Tensor DpmppSampler::update(std::int64_t order,
                            std::int64_t index,
                            const Tensor& sample,
                            const Tensor& noise) const {
  const NoiseLevel here = level(index);
  const NoiseLevel next = level(index + 1);
  const double h = lambda(index + 1) - lambda(index);
  const auto m = [&](std::size_t age) { return history_[history_.size() - 1 - age]; };
  // Weights of the sample, of the derivatives D0 D1 D2 of the converted output, and of noise.
  double w_sample = 0.0;
  std::array<double, 3> w{};
  double w_noise = 0.0;
  switch (config_.algorithm) {
    case DpmAlgorithm::kDpmSolverPp: {
      const double e = std::exp(-h) - 1.0;
      w_sample = next.sigma / here.sigma;
      w = {-next.alpha * e,
           config_.heun || order == 3 ? next.alpha * (e / h + 1.0) : -0.5 * next.alpha * e,
           -next.alpha * ((e + h) / (h * h) - 0.5)};
      break;
    }
    case DpmAlgorithm::kDpmSolver: {
      const double e = std::exp(h) - 1.0;
      w_sample = next.alpha / here.alpha;
      w = {-next.sigma * e,
           config_.heun || order == 3 ? -next.sigma * (e / h - 1.0) : -0.5 * next.sigma * e,
           -next.sigma * ((e - h) / (h * h) - 0.5)};
      break;
    }
    case DpmAlgorithm::kSdeDpmSolverPp: {
      const double e = 1.0 - std::exp(-2.0 * h);
      w_sample = next.sigma / here.sigma * std::exp(-h);
      w = {next.alpha * e,
           config_.heun || order == 3 ? next.alpha * (e / (-2.0 * h) + 1.0) : 0.5 * next.alpha * e,
           next.alpha * ((e - 2.0 * h) / (4.0 * h * h) - 0.5)};
      w_noise = next.sigma * std::sqrt(e);
      break;
    }
    case DpmAlgorithm::kSdeDpmSolver: {
      const double e = std::exp(h) - 1.0;
      w_sample = next.alpha / here.alpha;
      w = {-2.0 * next.sigma * e,
           config_.heun ? -2.0 * next.sigma * (e / h - 1.0) : -next.sigma * e,
           0.0};
      w_noise = next.sigma * std::sqrt(std::exp(2.0 * h) - 1.0);
      break;
    }
  }
  Tensor x = w_sample * sample + w[0] * m(0);
  if (order >= 2) {
    const double r0 = (lambda(index) - lambda(index - 1)) / h;
    Tensor first = (m(0) - m(1)) / r0;
    if (order == 3) {
      const double r1 = (lambda(index - 1) - lambda(index - 2)) / h;
      const Tensor change = first - (m(1) - m(2)) / r1;
      first = first + (r0 / (r0 + r1)) * change;
      x = x + (w[2] / (r0 + r1)) * change;
    }
    x = x + w[1] * first;
  }
  return w_noise != 0.0 ? x + w_noise * noise : x;
}

void DpmppSampler::clear_history() {
  history_.clear();
}
void DpmppSampler::save_history(SamplerState& state) const {
  save_tensors_of_history(history_, state);
}
void DpmppSampler::load_history(const SamplerState& state) {
  history_ = load_tensors_of_history(state, config_.solver_order);
}

void save_tensors_of_history(const std::vector<Tensor>& history, SamplerState& state) {
  for (std::size_t i = 0; i < history.size(); ++i) {
    state.tensors["history." + std::to_string(i)] = history[i];
  }
  state.json["history"] = history.size();
}

std::vector<Tensor> load_tensors_of_history(const SamplerState& state, std::int64_t limit) {
  std::int64_t count = 0;
  const auto found = state.json.find("history");
  if (found != state.json.end() && found->is_number_integer()) {
    count = found->get<std::int64_t>();
  }
  std::vector<Tensor> history;
  for (std::int64_t i = 0; i < std::min(count, limit); ++i) {
    const auto tensor = state.tensors.find("history." + std::to_string(i));
    if (tensor != state.tensors.end()) {
      history.push_back(tensor->second);
    }
  }
  if (count < 0 || static_cast<std::int64_t>(history.size()) != count) {
    throw Error(
        ErrorKind::kBadData,
        {.code = "sampler.state",
         .place = "diffusion.sampler",
         .subject = "history",
         .expected = "0 .. " + std::to_string(limit) + " tensors history.N",
         .got = std::to_string(count) + " named, " + std::to_string(history.size()) + " found"});
  }
  return history;
}

}  // namespace kinema::diffusion
