// SPDX-License-Identifier: Apache-2.0
// Gradients are right and complete, and the network learns.
#include <cmath>

#include <ATen/Parallel.h>

#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

class VDitTraining : public EveryLayout {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(threads_); }

  const int threads_ = at::get_num_threads();
  VDitConfig config_ = small_config(GetParam());
  std::unique_ptr<VideoDit> model_ = small_model(config_);
  SmallInputs in_ = small_inputs(config_);

  Tensor forward() {
    return model_->module()->forward(in_.latents_BCTHW, in_.timesteps_B, in_.conditioning);
  }
};

TEST_P(VDitTraining, EveryParameterGetsAGradient) {
  // A null caption takes the place of one text, as in training with guidance.
  if (config_.caption_tokens > 0) {
    const Tensor null = model_->module()->null_context(1, 6);
    in_.conditioning.context_BMD = at::cat({in_.conditioning.context_BMD.narrow(0, 0, 1), null});
  }
  forward().square().mean().backward();
  for (const auto& item : model_->module()->named_parameters()) {
    const Tensor& gradient = item.value().grad();
    ASSERT_TRUE(gradient.defined()) << item.key();
    EXPECT_TRUE(at::isfinite(gradient).all().item<bool>()) << item.key();
    // Key biases shift all logits of a query alike, so they may have none.
    EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << item.key();
  }
  for (const auto& buffer : model_->module()->named_buffers()) {
    EXPECT_FALSE(buffer.value().requires_grad()) << buffer.key();
  }
}

/// Along a random direction in each parameter, the slope of the loss is gradient times direction.
TEST_P(VDitTraining, GradientsEqualFiniteDifferences) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(77);
  const Tensor weights = at::randn(forward().sizes(), generator, at::kFloat);
  const auto loss = [&] { return (forward().to(at::kDouble) * weights).mean(); };
  loss().backward();
  at::NoGradGuard no_grad;
  constexpr double kStep = 4e-3;
  for (auto& item : model_->module()->named_parameters()) {
    Tensor parameter = item.value();
    if (!parameter.grad().defined()) {
      continue;  // the null caption, unused here
    }
    // Towards the gradient, so that the slope stands out of rounding.
    const Tensor noise = at::randn(parameter.sizes(), generator, at::kFloat);
    const Tensor& gradient = parameter.grad();
    Tensor direction = gradient / (gradient.norm() + 1e-20) + 0.3 * noise / noise.norm();
    direction /= direction.norm();
    const double expected = (gradient.to(at::kDouble) * direction).sum().item<double>();
    const Tensor kept = parameter.clone();
    parameter.add_(direction, kStep);
    const double above = loss().item<double>();
    parameter.copy_(kept).sub_(direction, kStep);
    const double below = loss().item<double>();
    parameter.copy_(kept);
    const double slope = (above - below) / (2.0 * kStep);
    EXPECT_NEAR(slope, expected, 0.01 * std::abs(expected) + 2e-5) << item.key();
  }
}

TEST_P(VDitTraining, LearnsOneBatch) {
  const auto model = VideoDit::create(config_, 5);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(78);
  Tensor target;
  {
    at::NoGradGuard no_grad;
    target = at::randn(
        model->module()->forward(in_.latents_BCTHW, in_.timesteps_B, in_.conditioning).sizes(),
        generator,
        at::kFloat);
  }
  const auto loss = [&] {
    return (model->module()->forward(in_.latents_BCTHW, in_.timesteps_B, in_.conditioning) - target)
        .square()
        .mean();
  };
  const double first = loss().item<double>();
  std::vector<Tensor> parameters = model->module()->parameters();
  for (int step = 0; step < 40; ++step) {
    model->module()->zero_grad();
    loss().backward();
    at::NoGradGuard no_grad;
    double norm = 0.0;
    for (const Tensor& parameter : parameters) {
      norm += parameter.grad().defined() ? parameter.grad().square().sum().item<double>() : 0.0;
    }
    for (Tensor& parameter : parameters) {
      if (parameter.grad().defined()) {
        parameter.sub_(parameter.grad(), 0.1 / std::max(std::sqrt(norm), 0.05));
      }
    }
  }
  EXPECT_LT(loss().item<double>(), 0.8 * first);
}

TEST_P(VDitTraining, RecomputedBlocksGiveTheSameGradients) {
  in_.conditioning.context_BMD = in_.conditioning.context_BMD.clone().requires_grad_();
  const auto gradients = [&] {
    std::map<std::string, Tensor> found;
    forward().square().mean().backward();
    found["context"] = in_.conditioning.context_BMD.grad().clone();
    in_.conditioning.context_BMD.mutable_grad() = Tensor();
    for (auto& item : model_->module()->named_parameters()) {
      found[item.key()] = item.value().grad().defined() ? item.value().grad().clone() : Tensor();
      item.value().mutable_grad() = Tensor();
    }
    return found;
  };
  const auto expected = gradients();
  model_->module()->set_recompute(true);
  const auto recomputed = gradients();
  for (const auto& [name, gradient] : expected) {
    const Tensor& other = recomputed.at(name);
    ASSERT_EQ(gradient.defined(), other.defined()) << name;
    if (gradient.defined()) {
      EXPECT_LE((gradient - other).abs().max().item<double>(),
                1e-5 * std::max(gradient.abs().max().item<double>(), 1e-3))
          << name;
    }
  }
}

TEST_P(VDitTraining, GradientOfTheTextFlows) {
  in_.conditioning.context_BMD = in_.conditioning.context_BMD.clone().requires_grad_();
  in_.latents_BCTHW = in_.latents_BCTHW.clone().requires_grad_();
  forward().square().mean().backward();
  EXPECT_GT(in_.conditioning.context_BMD.grad().abs().max().item<double>(), 0.0);
  EXPECT_GT(in_.latents_BCTHW.grad().abs().max().item<double>(), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Layouts, VDitTraining, testing::ValuesIn(kAllLayouts), layout_name);

}  // namespace
}  // namespace kinema::dit
