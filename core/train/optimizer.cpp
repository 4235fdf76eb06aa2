// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros_like.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::train {
namespace {

constexpr int kNewtonSchulzSteps = 5;
constexpr double kQuintic[3] = {3.4445, -4.7750, 2.0315};

Tensor as_matrix(const Tensor& x) {
  return x.reshape({x.size(0), -1}).contiguous();
}

void restore(Tensor& target, const TensorMap& state, const std::string& name) {
  const auto found = state.find(name);
  if (found == state.end() || found->second.sizes() != target.sizes()) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "train.state",
                 .place = "train.optimizer",
                 .subject = name,
                 .expected = "shape " + tensor::shape_text(target),
                 .got = found == state.end() ? "nothing of that name"
                                             : "shape " + tensor::shape_text(found->second)});
  }
  target.copy_(found->second);
}

}  // namespace

std::vector<TrainedParameter> group_parameters(torch::nn::Module& module,
                                               const OptimizerConfig& config,
                                               const ParameterRules& rules) {
  std::vector<TrainedParameter> parameters;
  for (auto& item : module.named_parameters()) {
    const ParameterRule rule = rules ? rules(item.key(), item.value()) : ParameterRule{};
    item.value().requires_grad_(rule.lr_scale > 0);
    if (rule.lr_scale <= 0) {
      continue;
    }
    const bool is_matrix = item.value().dim() >= 2;
    const bool muon = config.method == Method::kMuon && is_matrix && rule.muon;
    parameters.push_back({.name = item.key(),
                          .value = item.value(),
                          .method = muon ? Method::kMuon : Method::kAdamW,
                          .lr = (muon ? config.muon_lr : config.lr) * rule.lr_scale,
                          .weight_decay = is_matrix ? config.weight_decay : 0.0});
  }
  return parameters;
}

Optimizer::Optimizer(std::vector<TrainedParameter> parameters, const OptimizerConfig& config)
    : config_(config), parameters_(std::move(parameters)) {
  const at::NoGradGuard no_grad;
  for (const TrainedParameter& parameter : parameters_) {
    const Tensor zeros = at::zeros_like(parameter.value);
    moments_.push_back(
        {zeros, parameter.method == Method::kMuon ? Tensor() : at::zeros_like(parameter.value)});
  }
}

void Optimizer::step(double lr_factor) {
  const at::NoGradGuard no_grad;
  steps_ += 1;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const TrainedParameter& parameter = parameters_[i];
    if (!parameter.value.grad().defined()) {
      continue;
    }
    const double lr = parameter.lr * lr_factor;
    if (parameter.weight_decay > 0) {
      Tensor(parameter.value).mul_(1.0 - lr * parameter.weight_decay);
    }
    if (parameter.method == Method::kMuon) {
      step_muon(parameter, moments_[i], lr);
    } else {
      step_adamw(parameter, moments_[i], lr);
    }
  }
}

void Optimizer::step_adamw(const TrainedParameter& parameter, Moments& moments, double lr) const {
  const Tensor& gradient = parameter.value.grad();
  moments.first.mul_(config_.beta1).add_(gradient, 1.0 - config_.beta1);
  moments.second.mul_(config_.beta2).addcmul_(gradient, gradient, 1.0 - config_.beta2);
  const auto n = static_cast<double>(steps_);
  const double first_bias = 1.0 - std::pow(config_.beta1, n);
  const double second_bias = 1.0 - std::pow(config_.beta2, n);
  const Tensor divisor = moments.second.sqrt().div_(std::sqrt(second_bias)).add_(config_.eps);
  Tensor(parameter.value).addcdiv_(moments.first, divisor, -lr / first_bias);
}

void Optimizer::step_muon(const TrainedParameter& parameter, Moments& moments, double lr) const {
  const Tensor& gradient = parameter.value.grad();
  moments.first.mul_(config_.momentum).add_(gradient, 1.0 - config_.momentum);
  const Tensor nesterov = gradient * (1.0 - config_.momentum) + moments.first * config_.momentum;
  const Tensor matrix = as_matrix(nesterov);
  const auto rows = static_cast<double>(matrix.size(0));
  const auto columns = static_cast<double>(matrix.size(1));
  const double scale = std::sqrt(std::max(1.0, rows / columns));
  Tensor(parameter.value).add_(orthogonalise(matrix).reshape(parameter.value.sizes()), -lr * scale);
}

void Optimizer::zero_grad() {
  for (TrainedParameter& parameter : parameters_) {
    parameter.value.mutable_grad() = Tensor();
  }
}

TensorMap Optimizer::state() const {
  TensorMap state;
  state["steps"] = at::scalar_tensor(steps_, at::kLong);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name;
    const bool muon = parameters_[i].method == Method::kMuon;
    state[name + (muon ? ".momentum" : ".exp_avg")] = moments_[i].first;
    if (!muon) {
      state[name + ".exp_avg_sq"] = moments_[i].second;
    }
  }
  return state;
}

void Optimizer::load_state(const TensorMap& state) {
  const at::NoGradGuard no_grad;
  Tensor steps = at::scalar_tensor(0, at::kLong);
  restore(steps, state, "steps");
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name;
    const bool muon = parameters_[i].method == Method::kMuon;
    restore(moments_[i].first, state, name + (muon ? ".momentum" : ".exp_avg"));
    if (!muon) {
      restore(moments_[i].second, state, name + ".exp_avg_sq");
    }
  }
  steps_ = steps.item<std::int64_t>();
}

Tensor orthogonalise(const Tensor& matrix_RC) {
  const bool is_tall = matrix_RC.size(0) > matrix_RC.size(1);
  Tensor x = is_tall ? matrix_RC.t().contiguous() : matrix_RC;
  x = x / (at::linalg_vector_norm(x) + 1e-7);
  const auto [a, b, c] = kQuintic;
  for (int i = 0; i < kNewtonSchulzSteps; ++i) {
    const Tensor gram = at::matmul(x, x.t());
    x = a * x + at::matmul(b * gram + c * at::matmul(gram, gram), x);
  }
  return is_tall ? x.t() : x;
}

double gradient_norm(const std::vector<TrainedParameter>& parameters) {
  double sum = 0;
  for (const TrainedParameter& parameter : parameters) {
    if (parameter.value.grad().defined()) {
      const double norm = at::linalg_vector_norm(parameter.value.grad()).item<double>();
      sum += norm * norm;
    }
  }
  return std::sqrt(sum);
}

double clip_gradients(const std::vector<TrainedParameter>& parameters, double limit) {
  const double norm = gradient_norm(parameters);
  if (std::isfinite(norm) && norm > limit) {
    for (const TrainedParameter& parameter : parameters) {
      if (parameter.value.grad().defined()) {
        parameter.value.grad().mul_(limit / norm);
      }
    }
  }
  return norm;
}

std::string name_not_finite(const std::vector<TrainedParameter>& parameters) {
  for (const TrainedParameter& parameter : parameters) {
    const Tensor& gradient = parameter.value.grad();
    if (gradient.defined() && !gradient.isfinite().all().item<bool>()) {
      return parameter.name;
    }
  }
  return {};
}

}  // namespace kinema::train
