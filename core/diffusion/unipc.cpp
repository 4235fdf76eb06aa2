// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/unipc.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::int64_t kMaxOrder = 8;
constexpr std::array<NamedValue<bool>, 5> kSolverTypes = {
    {{"bh2", false}, {"bh1", true}, {"midpoint", false}, {"heun", false}, {"logrho", false}}};

void check(const JsonReader& reader, const UnipcConfig& config) {
  const bool is_flow = config.prediction == PredictionType::kFlow ||
                       config.prediction == PredictionType::kReverseFlow;
  if (config.solver_order < 1 || config.solver_order > kMaxOrder) {
    throw reader.error("config.range",
                       "solver_order",
                       "1 .. " + std::to_string(kMaxOrder),
                       std::to_string(config.solver_order));
  }
  if (is_flow && !config.predict_x0) {
    throw reader.error("config.value", "predict_x0", "true for flow models", "false");
  }
  if (config.use_flow_sigmas &&
      (config.grid == SigmaGrid::kExponential || config.grid == SigmaGrid::kBeta)) {
    throw reader.error(
        "config.value", "use_flow_sigmas", "no exponential or beta grid beside it", "both");
  }
  if (config.final_sigma_is_zero && !config.predict_x0) {
    throw reader.error(
        "config.value", "final_sigmas_type", "sigma_min for predict_x0 false", "zero");
  }
  if (config.final_sigma_is_zero && !config.lower_order_final && config.solver_order > 1) {
    throw reader.error(
        "config.value",
        "lower_order_final",
        "true when the final sigma is zero (a step of higher order there is infinite)",
        "false");
  }
  if (config.shift_terminal.has_value() && !config.use_flow_sigmas) {
    throw reader.error("config.value", "shift_terminal", "use_flow_sigmas beside it", "without");
  }
  if (!(config.flow_shift > 0.0)) {
    throw reader.error("config.range", "flow_shift", "above 0", std::to_string(config.flow_shift));
  }
}

// Solves the n x n system by Gauss with partial pivoting; n is at most kMaxOrder.
std::vector<double> solve(std::vector<std::vector<double>> rows, std::vector<double> right) {
  const std::size_t n = right.size();
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      if (std::fabs(rows[row][column]) > std::fabs(rows[pivot][column])) {
        pivot = row;
      }
    }
    std::swap(rows[column], rows[pivot]);
    std::swap(right[column], right[pivot]);
    for (std::size_t row = column + 1; row < n; ++row) {
      const double factor = rows[row][column] / rows[column][column];
      for (std::size_t k = column; k < n; ++k) {
        rows[row][k] -= factor * rows[column][k];
      }
      right[row] -= factor * right[column];
    }
  }
  std::vector<double> result(n);
  for (std::size_t i = n; i-- > 0;) {
    double sum = right[i];
    for (std::size_t k = i + 1; k < n; ++k) {
      sum -= rows[i][k] * result[k];
    }
    result[i] = sum / rows[i][i];
  }
  return result;
}

// The first `size` equations sum_k rho_k r_k^(i-1) = i! phi_(i+1)(hh) hh / B(hh), i = 1 .. size.
std::vector<double> combination_weights(const std::vector<double>& ratios,
                                        double hh,
                                        double b_h,
                                        std::size_t size) {
  std::vector<std::vector<double>> rows;
  std::vector<double> right;
  double factorial = 1.0;
  double phi = std::expm1(hh) / hh - 1.0;
  for (std::size_t i = 1; i <= size; ++i) {
    std::vector<double> row;
    for (std::size_t k = 0; k < size; ++k) {
      row.push_back(std::pow(ratios[k], static_cast<double>(i - 1)));
    }
    rows.push_back(std::move(row));
    right.push_back(phi * factorial / b_h);
    factorial *= static_cast<double>(i + 1);
    phi = phi / hh - 1.0 / factorial;
  }
  return solve(std::move(rows), std::move(right));
}

}  // namespace

UnipcConfig UnipcConfig::from_json(const Json& json) {
  UnipcConfig config;
  JsonReader reader(json, {.place = "diffusion.unipc", .subject = "scheduler_config.json"});
  reader.ignore({"_class_name", "_diffusers_version"});
  config.betas.read(reader);
  config.spacing.read(reader);
  config.clip.read(reader, false);
  read_prediction(reader, config.prediction);
  reader.optional("solver_order", config.solver_order);
  reader.optional("predict_x0", config.predict_x0);
  read_enum<bool>(reader, "solver_type", kSolverTypes, config.bh1);
  reader.optional("lower_order_final", config.lower_order_final);
  reader.optional("disable_corrector", config.disable_corrector);
  if (const Json* solver = reader.find("solver_p"); solver != nullptr) {
    throw reader.error("config.value", "solver_p", "null", std::string(solver->type_name()));
  }
  read_sigma_grid(reader, config.grid);
  reader.optional("use_flow_sigmas", config.use_flow_sigmas);
  reader.optional("flow_shift", config.flow_shift);
  read_final_sigma(reader, config.final_sigma_is_zero);
  reader.optional("use_dynamic_shifting", config.use_dynamic_shifting);
  read_time_shift(reader, config.time_shift);
  reader.optional("sigma_min", config.sigma_min);
  reader.optional("sigma_max", config.sigma_max);
  reader.optional("shift_terminal", config.shift_terminal);
  reader.finish();
  check(reader, config);
  return config;
}

Json UnipcConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kUnipc))}};
  betas.write(json);
  spacing.write(json);
  clip.write(json, false);
  json["prediction_type"] = std::string(to_string(prediction));
  json["solver_order"] = solver_order;
  json["predict_x0"] = predict_x0;
  json["solver_type"] = bh1 ? "bh1" : "bh2";
  json["lower_order_final"] = lower_order_final;
  json["disable_corrector"] = disable_corrector;
  json["solver_p"] = Json();
  write_sigma_grid(json, grid);
  json["use_flow_sigmas"] = use_flow_sigmas;
  json["flow_shift"] = flow_shift;
  json["final_sigmas_type"] = final_sigma_is_zero ? "zero" : "sigma_min";
  json["use_dynamic_shifting"] = use_dynamic_shifting;
  json["time_shift_type"] = std::string(to_string(time_shift));
  json["sigma_min"] = sigma_min ? Json(*sigma_min) : Json();
  json["sigma_max"] = sigma_max ? Json(*sigma_max) : Json();
  json["shift_terminal"] = shift_terminal ? Json(*shift_terminal) : Json();
  return json;
}

UnipcSampler::UnipcSampler(UnipcConfig config)
    : config_(std::move(config)), train_sigmas_(make_sigmas(make_alphas_cumprod(config_.betas))) {}

std::unique_ptr<Sampler> UnipcSampler::clone() const {
  return std::make_unique<UnipcSampler>(*this);
}

void UnipcSampler::build() {
  accept_only({"sigmas", "mu"});
  if (request_.mu.has_value() != config_.use_dynamic_shifting) {
    throw request_error("mu",
                        config_.use_dynamic_shifting ? "a value, for use_dynamic_shifting"
                                                     : "none without use_dynamic_shifting",
                        request_.mu ? std::to_string(*request_.mu) : "none");
  }
  if (!request_.sigmas.empty() && !config_.use_flow_sigmas) {
    throw request_error("sigmas", "use_flow_sigmas", "a schedule without");
  }
  const std::int64_t num_steps = request_.sigmas.empty()
                                     ? requested_steps(config_.betas.num_train_timesteps)
                                     : static_cast<std::int64_t>(request_.sigmas.size());
  if (config_.use_flow_sigmas && config_.grid == SigmaGrid::kTraining) {
    build_flow_grid(num_steps);
  } else {
    build_sigma_grid(num_steps);
  }
  std::ranges::for_each(timesteps_, [](double& time) { time = std::trunc(time); });
}

void UnipcSampler::build_flow_grid(std::int64_t num_steps) {
  constexpr double kBelowOne = 1e-6;
  const auto train = static_cast<double>(config_.betas.num_train_timesteps);
  sigmas_ = request_.sigmas;
  if (sigmas_.empty()) {
    sigmas_ = linspace(1.0, 1.0 / train, num_steps + 1);
    sigmas_.pop_back();
  }
  if (sigmas_.front() > 1.0 || sigmas_.back() <= 0.0) {
    throw request_error("sigmas",
                        "values in (0, 1]",
                        std::to_string(sigmas_.front()) + " .. " + std::to_string(sigmas_.back()));
  }
  for (double& sigma : sigmas_) {
    sigma = config_.use_dynamic_shifting
                ? dynamic_shift_sigma(sigma, *request_.mu, config_.time_shift)
                : shift_sigma(sigma, config_.flow_shift);
  }
  if (config_.shift_terminal.value_or(0.0) > 0.0) {
    stretch_to_terminal(sigmas_, *config_.shift_terminal);
  }
  // alpha = 0 would make lambda infinite.
  if (std::fabs(sigmas_.front() - 1.0) < kBelowOne) {
    sigmas_.front() -= kBelowOne;
  }
  timesteps_ = sigmas_;
  std::ranges::for_each(timesteps_, [&](double& time) { time *= train; });
  sigmas_.push_back(config_.final_sigma_is_zero ? 0.0 : sigmas_.back());
}

void UnipcSampler::build_sigma_grid(std::int64_t num_steps) {
  const std::int64_t num_train = config_.betas.num_train_timesteps;
  // The reference flips the given list as it flips its rising table, so the ends change places.
  const std::vector<double>& base = request_.sigmas.empty() ? train_sigmas_ : request_.sigmas;
  const double low = config_.sigma_min.value_or(base.front());
  const double high = config_.sigma_max.value_or(base.back());
  sigmas_.clear();
  timesteps_.clear();
  switch (config_.grid) {
    case SigmaGrid::kKarras:
      sigmas_ = karras_sigmas(low, high, num_steps);
      break;
    case SigmaGrid::kExponential:
      sigmas_ = exponential_sigmas(low, high, num_steps);
      break;
    case SigmaGrid::kBeta:
      sigmas_ = beta_sigmas(low, high, num_steps);
      break;
    case SigmaGrid::kTraining:
    case SigmaGrid::kLu:
      timesteps_ = spaced_timesteps_open(config_.spacing, num_train, num_train, num_steps);
      for (const double time : timesteps_) {
        sigmas_.push_back(interpolate(train_sigmas_, time));
      }
      sigmas_.push_back(config_.final_sigma_is_zero ? 0.0 : train_sigmas_.front());
      return;
  }
  for (double& sigma : sigmas_) {
    if (config_.use_flow_sigmas) {
      sigma = sigma / (sigma + 1.0);
      timesteps_.push_back(sigma * static_cast<double>(num_train));
    } else {
      const double time = sigma_to_timestep(sigma, train_sigmas_);
      timesteps_.push_back(config_.grid == SigmaGrid::kKarras ? std::nearbyint(time) : time);
    }
  }
  sigmas_.push_back(config_.final_sigma_is_zero ? 0.0 : sigmas_.back());
}

NoiseLevel UnipcSampler::level(std::int64_t index) const {
  const double sigma = sigmas_[static_cast<std::size_t>(index)];
  if (config_.use_flow_sigmas) {
    return {.alpha = 1.0 - sigma, .sigma = sigma};
  }
  const double alpha = 1.0 / std::sqrt(sigma * sigma + 1.0);
  return {.alpha = alpha, .sigma = sigma * alpha};
}

double UnipcSampler::lambda(std::int64_t index) const {
  const NoiseLevel at = level(index);
  return std::log(at.alpha) - std::log(at.sigma);
}

StepResult UnipcSampler::advance(const Tensor& model_output,
                                 std::int64_t index,
                                 const Tensor& sample,
                                 const Tensor& /*noise*/) {
  const Tensor prediction = model_output.narrow(1, 0, sample.size(1));
  const NoiseLevel here = level(index);
  Tensor x0 = predict_x0(config_.prediction, prediction, sample, here);
  if (config_.predict_x0 && config_.clip.thresholding) {
    x0 = config_.clip.apply(x0);
  }
  const Tensor converted =
      config_.predict_x0 ? x0 : predict_epsilon(config_.prediction, prediction, sample, here);
  Tensor corrected = sample;
  if (last_sample_.defined() &&
      std::ranges::find(config_.disable_corrector, index - 1) == config_.disable_corrector.end()) {
    corrected = update(last_order_, index - 1, last_sample_, converted);
  }
  history_.push_back(converted);
  if (static_cast<std::int64_t>(history_.size()) > config_.solver_order) {
    history_.erase(history_.begin());
  }
  std::int64_t order = std::min(config_.solver_order, static_cast<std::int64_t>(history_.size()));
  if (config_.lower_order_final) {
    order = std::min(order, num_steps() - index);
  }
  last_order_ = order;
  last_sample_ = corrected;
  return {.sample = update(order, index, corrected, {}), .x0 = x0};
}

Tensor UnipcSampler::update(std::int64_t order,
                            std::int64_t from,
                            const Tensor& sample,
                            const Tensor& output_there) const {
  const bool corrects = output_there.defined();
  const NoiseLevel here = level(from);
  const NoiseLevel next = level(from + 1);
  const double h = lambda(from + 1) - lambda(from);
  const double hh = config_.predict_x0 ? -h : h;
  const double b_h = config_.bh1 ? hh : std::expm1(hh);
  const double w_sample = config_.predict_x0 ? next.sigma / here.sigma : next.alpha / here.alpha;
  const double w_output = config_.predict_x0 ? next.alpha : next.sigma;
  const auto newest = history_.size() - 1;
  const Tensor& m0 = history_[newest];

  std::vector<double> ratios;
  std::vector<Tensor> differences;
  for (std::int64_t i = 1; i < order; ++i) {
    const double ratio = (lambda(from - i) - lambda(from)) / h;
    ratios.push_back(ratio);
    differences.push_back((history_[newest - static_cast<std::size_t>(i)] - m0) / ratio);
  }
  Tensor x = w_sample * sample - (w_output * std::expm1(hh)) * m0;
  if (corrects) {
    ratios.push_back(1.0);
    differences.push_back(output_there - m0);
  }
  if (differences.empty()) {
    return x;
  }
  // Order 1 corrector and order 2 predictor: one unknown, set to 1/2 as in the paper's appendix.
  const std::vector<double> rho = differences.size() == 1
                                      ? std::vector<double>{0.5}
                                      : combination_weights(ratios, hh, b_h, differences.size());
  for (std::size_t i = 0; i < differences.size(); ++i) {
    x = x - (w_output * b_h * rho[i]) * differences[i];
  }
  return x;
}

void UnipcSampler::clear_history() {
  history_.clear();
  last_sample_ = Tensor();
  last_order_ = 0;
}

void UnipcSampler::save_history(SamplerState& state) const {
  save_tensors_of_history(history_, state);
  if (last_sample_.defined()) {
    state.tensors["last_sample"] = last_sample_;
  }
  state.json["last_order"] = last_order_;
}

void UnipcSampler::load_history(const SamplerState& state) {
  history_ = load_tensors_of_history(state, config_.solver_order);
  const auto found = state.tensors.find("last_sample");
  last_sample_ = found == state.tensors.end() ? Tensor() : found->second;
  last_order_ = 0;
  const auto order = state.json.find("last_order");
  if (order != state.json.end() && order->is_number_integer()) {
    last_order_ = order->get<std::int64_t>();
  }
  if (last_sample_.defined() != (last_order_ > 0) ||
      last_order_ > static_cast<std::int64_t>(history_.size())) {
    throw Error(ErrorKind::kBadData,
                {.code = "sampler.state",
                 .place = "diffusion.unipc",
                 .subject = "last_order",
                 .expected = "a last sample, and at most as many as there are tensors history.N",
                 .got = std::to_string(last_order_)});
  }
}

}  // namespace kinema::diffusion
