// SPDX-License-Identifier: Apache-2.0
// A perceptual distance of pictures in the shape of LPIPS (arXiv 1801.03924): features of VGG-16
// after five ReLUs, channels of every position scaled to unit length, squared differences. Without
// LPIPS's learned channel weights, which are a file of their own: every channel counts the same.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/nn/conv.h"
#include "core/tensor/tensor.h"

namespace kinema::training {

class PerceptualLoss {
 public:
  /// Reads torchvision's vgg16 as safetensors ("features.0.weight" ... "features.28.bias"; its
  /// classifier is left alone). Throws kIo, kBadCheckpoint [weights.mismatch].
  explicit PerceptualLoss(const std::string& path);

  /// Mean distance of frames, a differentiable scalar. @param a, b  [B, 3, F, H, W] in -1 .. 1,
  /// rows and columns at least 32.
  [[nodiscard]] Tensor operator()(const Tensor& a_BCFHW, const Tensor& b_BCFHW) const;

 private:
  [[nodiscard]] std::vector<Tensor> features(const Tensor& frames_NCHW) const;

  std::vector<nn::Conv2d> layers_;
};

}  // namespace kinema::training
