// SPDX-License-Identifier: Apache-2.0
#include "training/patch_discriminator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/tensor/noise.h"

namespace kinema::training {
namespace {

struct Layer {
  std::int64_t factor = 1;  ///< channels in multiples of the base; 0: one score
  std::array<std::int64_t, 3> stride{};
};
constexpr std::array<Layer, 5> kLayers = {
    {{1, {2, 2, 2}}, {2, {2, 2, 2}}, {4, {1, 2, 2}}, {4, {1, 1, 1}}, {0, {1, 1, 1}}}};
constexpr std::int64_t kGroups = 8;
constexpr double kSlope = 0.2;  ///< of the leaky ReLU

}  // namespace

PatchDiscriminatorImpl::PatchDiscriminatorImpl(std::int64_t in_channels, std::int64_t base) {
  std::int64_t in = in_channels;
  for (std::size_t i = 0; i < kLayers.size(); ++i) {
    const std::int64_t out = kLayers[i].factor == 0 ? 1 : kLayers[i].factor * base;
    convs_.push_back(register_module("conv_" + std::to_string(i),
                                     nn::Conv3d(nn::Conv3dOptions{.in_channels = in,
                                                                  .out_channels = out,
                                                                  .stride = kLayers[i].stride,
                                                                  .padding = {1, 1, 1}})));
    if (i > 0 && i + 1 < kLayers.size()) {
      norms_.push_back(
          register_module("norm_" + std::to_string(i), nn::GroupNorm(kGroups, out, 1e-5)));
    }
    in = out;
  }
}

void PatchDiscriminatorImpl::initialise(std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    Tensor& parameter = item.value();
    if (parameter.dim() == 1) {
      parameter.fill_(item.key().starts_with("norm") && item.key().ends_with("weight") ? 1.0 : 0.0);
      continue;
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(parameter[0].numel()));
    parameter.copy_(tensor::uniform_noise_flat(
                        {.seed = seed, .name = "discriminator/" + item.key()}, parameter.sizes())
                        .mul(2)
                        .sub(1)
                        .mul(bound));
  }
}

Tensor PatchDiscriminatorImpl::forward(const Tensor& video_BCFHW) const {
  Tensor x = video_BCFHW;
  for (std::size_t i = 0; i < convs_.size(); ++i) {
    x = convs_[i]->forward(x);
    if (i > 0 && i <= norms_.size()) {
      x = norms_[i - 1]->forward(x, nn::NormScope::kClip);
    }
    if (i + 1 < convs_.size()) {
      x = at::leaky_relu(x, kSlope);
    }
  }
  return x;
}

Tensor hinge_discriminator_loss(const Tensor& real, const Tensor& fake) {
  return 0.5 * (at::relu(1 - real).mean() + at::relu(1 + fake).mean());
}

double adaptive_weight(const Tensor& reconstruction,
                       const Tensor& adversarial,
                       const Tensor& last_weight) {
  const auto norm = [&](const Tensor& loss) {
    const auto gradients = torch::autograd::grad({loss}, {last_weight}, {}, /*retain_graph=*/true);
    return gradients.front().norm().item<double>();
  };
  return std::clamp(norm(reconstruction) / (norm(adversarial) + 1e-4), 0.0, 1e4);
}

}  // namespace kinema::training
