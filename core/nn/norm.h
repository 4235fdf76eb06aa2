// SPDX-License-Identifier: Apache-2.0
// Normalisation layers. Statistics are always taken in fp32.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::nn {

/// Root mean square norm over the last axis (arXiv 1910.07467), as T5 and Llama use it:
/// y = weight * cast(x / sqrt(mean(x^2) + eps)), where the cast goes back to the dtype of x.
/// Parameter "weight" [size]; no mean, no bias.
class RmsNormImpl final : public torch::nn::Module {
 public:
  RmsNormImpl(std::int64_t size, double eps, const ParameterOptions& options = {});

  /// @param x [..., size].  @return the same shape and dtype.
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Tensor weight;

 private:
  double eps_;
};
TORCH_MODULE(RmsNorm);

/// Layer norm over the last axis. Parameters "weight" and "bias" [size].
class LayerNormImpl final : public torch::nn::Module {
 public:
  LayerNormImpl(std::int64_t size, double eps, const ParameterOptions& options = {});

  /// @param x [..., size].  @return the same shape and dtype.
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Tensor weight;
  Tensor bias;

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

}  // namespace kinema::nn
