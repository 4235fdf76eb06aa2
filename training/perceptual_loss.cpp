// SPDX-License-Identifier: Apache-2.0
#include "training/perceptual_loss.h"

#include <utility>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"

namespace kinema::training {
namespace {

/// Convolutions of VGG-16 (arXiv 1409.1556, configuration D) between two poolings.
constexpr std::array<std::array<std::int64_t, 2>, 5> kStages = {
    {{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}};
// LPIPS shifts and scales values of -1 .. 1 to the statistics of ImageNet.
constexpr std::array<double, 3> kShift = {-0.030, -0.088, -0.188};
constexpr std::array<double, 3> kScale = {0.458, 0.448, 0.450};

/// Holds "features.N" for the loader.
class Vgg final : public torch::nn::Module {
 public:
  explicit Vgg(std::vector<nn::Conv2d>& layers) {
    auto features = std::make_shared<torch::nn::Module>();
    std::int64_t in = 3;
    std::int64_t index = 0;
    for (const auto& [width, count] : kStages) {
      for (std::int64_t i = 0; i < count; ++i) {
        layers.push_back(features->register_module(
            std::to_string(index),
            nn::Conv2d(
                nn::Conv2dOptions{.in_channels = in, .out_channels = width, .padding = {1, 1}})));
        in = width;
        index += 2;  // its ReLU
      }
      index += 1;  // the pooling
    }
    register_module("features", features);
  }
};

Tensor channel_values(const std::array<double, 3>& values, const Tensor& like) {
  return at::tensor({values[0], values[1], values[2]}, at::kDouble)
      .to(like.options())
      .view({1, 3, 1, 1});
}

}  // namespace

PerceptualLoss::PerceptualLoss(const std::string& path) {
  Vgg network(layers_);
  tensor::load_weights(network,
                       io::Checkpoint::open(path),
                       {tensor::KeyMap::ignore("classifier.*")},
                       {.dtype = at::kFloat, .place = "train.vgg"});
  for (Tensor& parameter : network.parameters()) {
    parameter.requires_grad_(false);
  }
}

std::vector<Tensor> PerceptualLoss::features(const Tensor& frames_NCHW) const {
  std::vector<Tensor> features;
  Tensor x =
      (frames_NCHW - channel_values(kShift, frames_NCHW)) / channel_values(kScale, frames_NCHW);
  std::size_t layer = 0;
  for (const auto& [width, count] : kStages) {
    if (layer > 0) {
      x = at::max_pool2d(x, {2, 2});
    }
    for (std::int64_t i = 0; i < count; ++i) {
      x = at::relu(layers_[layer++]->forward(x));
    }
    features.push_back(x / (x.square().sum(1, /*keepdim=*/true).add(1e-10).sqrt()));
  }
  return features;
}

Tensor PerceptualLoss::operator()(const Tensor& a_BCFHW, const Tensor& b_BCFHW) const {
  const auto a = features(nn::fold_frames(a_BCFHW));
  const auto b = features(nn::fold_frames(b_BCFHW));
  Tensor sum;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Tensor distance = (a[i] - b[i]).square().sum(1).mean();
    sum = sum.defined() ? sum + distance : distance;
  }
  return sum / static_cast<double>(a.size());
}

}  // namespace kinema::training
