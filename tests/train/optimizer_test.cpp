// SPDX-License-Identifier: Apache-2.0
// Optimisers against their definitions, moving average, schedule, clipping.
#include "core/train/optimizer.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/noise.h"
#include "core/train/ema.h"
#include "core/train/schedule.h"

namespace kinema::train {
namespace {

Tensor drawn(const std::string& name, c10::IntArrayRef sizes) {
  return tensor::normal_noise_flat({.seed = 5, .name = name}, sizes);
}

/// A matrix, a kernel and a bias.
class SmallModule final : public torch::nn::Module {
 public:
  SmallModule() {
    matrix = register_parameter("matrix", drawn("matrix", {6, 4}));
    kernel = register_parameter("kernel", drawn("kernel", {3, 2, 1, 3, 3}));
    bias = register_parameter("bias", drawn("bias", {4}));
  }
  [[nodiscard]] Tensor loss(std::int64_t step) const {
    const Tensor x = drawn("x" + std::to_string(step), {5, 6});
    return (x.matmul(matrix) + bias).sin().mean() + (kernel - 0.3).square().sum();
  }
  Tensor matrix;
  Tensor kernel;
  Tensor bias;
};

TEST(AdamW, EqualsTheDefinition) {
  SmallModule module;
  const OptimizerConfig config = {
      .method = Method::kAdamW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.1};
  Optimizer optimizer(group_parameters(module, config), config);
  // The definition in double precision, element by element.
  struct State {
    Tensor p, m, v;
    double decay;
  };
  std::vector<State> states;
  for (const auto& item : module.named_parameters()) {
    const Tensor p = item.value().detach().to(at::kDouble).clone();
    states.push_back({p, at::zeros_like(p), at::zeros_like(p), item.value().dim() > 1 ? 0.1 : 0.0});
  }
  for (int t = 1; t <= 7; ++t) {
    const double factor = t > 3 ? 0.5 : 1.0;
    module.loss(t).backward();
    std::size_t i = 0;
    for (const auto& item : module.named_parameters()) {
      State& s = states[i++];
      const Tensor g = item.value().grad().to(at::kDouble);
      const double lr = 0.01 * factor;
      s.m = 0.9 * s.m + 0.1 * g;
      s.v = 0.99 * s.v + 0.01 * g * g;
      const Tensor m_hat = s.m / (1 - std::pow(0.9, t));
      const Tensor v_hat = s.v / (1 - std::pow(0.99, t));
      s.p = s.p - lr * (m_hat / (v_hat.sqrt() + 1e-8) + s.decay * s.p);
    }
    optimizer.step(factor);
    optimizer.zero_grad();
    i = 0;
    for (const auto& item : module.named_parameters()) {
      const Tensor difference = item.value().detach().to(at::kDouble) - states[i].p;
      EXPECT_LE(difference.abs().max().item<double>(), 2e-6) << item.key() << " step " << t;
      states[i].p = item.value().detach().to(at::kDouble).clone();
      ++i;
    }
  }
}

TEST(Muon, OrthogonaliseKeepsDirectionsAndEvensTheirSizes) {
  for (const auto& [rows, columns] : {std::pair{8, 5}, {5, 8}, {16, 16}}) {
    const Tensor matrix = drawn("muon", {rows, columns}) * 37;
    const Tensor result = orthogonalise(matrix);
    ASSERT_EQ(result.sizes(), matrix.sizes());
    const Tensor values = at::linalg_svdvals(result);
    EXPECT_LT(values.max().item<double>(), 1.3);
    // Random square matrices have singular values near zero, which five iterations lift less.
    EXPECT_GT(values.median().item<double>(), 0.6);
    // U f(S) V^T shares its singular vectors with U S V^T, so these products are symmetric.
    const Tensor product = matrix.t().matmul(result);
    EXPECT_LE((product - product.t()).abs().max().item<double>(),
              1e-4 * product.abs().max().item<double>());
  }
}

TEST(Muon, StepMovesAlongTheOrthogonalisedMomentum) {
  SmallModule module;
  const OptimizerConfig config = {
      .method = Method::kMuon, .muon_lr = 0.1, .momentum = 0.9, .weight_decay = 0};
  Optimizer optimizer(group_parameters(module, config), config);
  const Tensor before = module.matrix.detach().clone();
  module.loss(1).backward();
  const Tensor gradient = module.matrix.grad().clone();
  optimizer.step(0.5);
  const Tensor first = 0.1 * gradient;
  const Tensor update = orthogonalise(0.1 * gradient + 0.9 * first) * std::sqrt(6.0 / 4.0);
  EXPECT_LE((module.matrix.detach() - (before - 0.05 * update)).abs().max().item<double>(), 1e-6);
  // The bias is no matrix: AdamW has it.
  for (const TrainedParameter& parameter : optimizer.parameters()) {
    EXPECT_EQ(parameter.method == Method::kMuon, parameter.name != "bias");
    EXPECT_EQ(parameter.weight_decay, 0);
  }
}

TEST(Optimizer, RulesDecideRatesAndMethods) {
  SmallModule module;
  const OptimizerConfig config = {.lr = 0.1, .weight_decay = 0.2};
  const auto parameters =
      group_parameters(module, config, [](const std::string& name, const Tensor&) -> ParameterRule {
        return name == "matrix" ? ParameterRule{.lr_scale = 0.5, .muon = false}
                                : ParameterRule{.lr_scale = name == "kernel" ? 0.0 : 1.0};
      });
  ASSERT_EQ(parameters.size(), 2U);
  EXPECT_EQ(parameters[0].name, "matrix");
  EXPECT_EQ(parameters[0].method, Method::kAdamW);
  EXPECT_DOUBLE_EQ(parameters[0].lr, 0.05);
  EXPECT_DOUBLE_EQ(parameters[0].weight_decay, 0.2);
  EXPECT_DOUBLE_EQ(parameters[1].weight_decay, 0.0);
  EXPECT_FALSE(module.kernel.requires_grad());
}

TEST(Optimizer, StateRoundTripGivesTheSameBits) {
  for (const Method method : {Method::kAdamW, Method::kMuon}) {
    const OptimizerConfig config = {.method = method};
    const auto run = [&](bool interrupted) {
      SmallModule module;
      auto optimizer = std::make_unique<Optimizer>(group_parameters(module, config), config);
      for (int step = 0; step < 6; ++step) {
        if (interrupted && step == 3) {
          TensorMap state;
          for (const auto& [name, tensor] : optimizer->state()) {
            state[name] = tensor.clone();
          }
          optimizer = std::make_unique<Optimizer>(group_parameters(module, config), config);
          optimizer->load_state(state);
        }
        module.loss(step).backward();
        optimizer->step(1.0);
        optimizer->zero_grad();
      }
      return module.matrix.detach().clone();
    };
    EXPECT_TRUE(run(false).equal(run(true)));
  }
}

TEST(Optimizer, StateThatDoesNotFitNamesTheTensor) {
  SmallModule module;
  const OptimizerConfig config = {.method = Method::kAdamW};
  Optimizer optimizer(group_parameters(module, config), config);
  TensorMap state = optimizer.state();
  state.erase("bias.exp_avg_sq");
  try {
    optimizer.load_state(state);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "train.state");
    EXPECT_EQ(error.details().subject, "bias.exp_avg_sq");
  }
}

TEST(Clipping, ScalesOneNormOverAllParameters) {
  SmallModule module;
  const OptimizerConfig config;
  const auto parameters = group_parameters(module, config);
  module.loss(0).backward();
  double square = 0;
  for (const Tensor& parameter : module.parameters()) {
    square += parameter.grad().to(at::kDouble).square().sum().item<double>();
  }
  EXPECT_NEAR(clip_gradients(parameters, 0.25), std::sqrt(square), 1e-5);
  EXPECT_NEAR(gradient_norm(parameters), 0.25, 1e-6);
  EXPECT_NEAR(clip_gradients(parameters, 10.0), 0.25, 1e-6);
  EXPECT_NEAR(gradient_norm(parameters), 0.25, 1e-6);
}

TEST(Clipping, NamesTheFirstGradientThatIsNotFinite) {
  SmallModule module;
  const auto parameters = group_parameters(module, {});
  module.loss(0).backward();
  EXPECT_EQ(name_not_finite(parameters), "");
  module.kernel.grad()[1][0][0][2][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(clip_gradients(parameters, 1.0)));
  EXPECT_EQ(name_not_finite(parameters), "kernel");
}

TEST(Schedule, WarmsUpAndFalls) {
  const Schedule cosine = {.kind = ScheduleKind::kCosine, .warmup = 10, .steps = 111, .final = 0.1};
  EXPECT_DOUBLE_EQ(cosine.factor(0), 0.1);
  EXPECT_DOUBLE_EQ(cosine.factor(9), 1.0);
  EXPECT_DOUBLE_EQ(cosine.factor(10), 1.0);
  EXPECT_NEAR(cosine.factor(60), 0.55, 1e-12);
  EXPECT_NEAR(cosine.factor(110), 0.1, 1e-12);
  for (std::int64_t step = 11; step < 111; ++step) {
    EXPECT_LT(cosine.factor(step), cosine.factor(step - 1));
  }
  const Schedule constant = {.kind = ScheduleKind::kConstant, .warmup = 4, .steps = 10};
  EXPECT_DOUBLE_EQ(constant.factor(1), 0.5);
  EXPECT_DOUBLE_EQ(constant.factor(9), 1.0);
}

TEST(Ema, WarmsUpAndAverages) {
  EXPECT_DOUBLE_EQ(ema_decay(0.999, 0), 0.1);
  EXPECT_DOUBLE_EQ(ema_decay(0.999, 90), 0.91);
  EXPECT_DOUBLE_EQ(ema_decay(0.999, 1'000'000), 0.999);
  SmallModule module;
  Ema ema(module);
  const Tensor start = module.bias.detach().clone();
  {
    const at::NoGradGuard no_grad;
    module.bias.add_(1.0);
  }
  ema.update(0.75);
  const Tensor moved = module.bias.detach().clone();
  {
    const EmaScope averaged(ema);
    EXPECT_LE((module.bias.detach() - (start + 0.25)).abs().max().item<double>(), 1e-6);
  }
  EXPECT_TRUE(module.bias.detach().equal(moved));
}

}  // namespace
}  // namespace kinema::train
