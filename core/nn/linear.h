// SPDX-License-Identifier: Apache-2.0
// Fully connected layer, and the matrix product that reads 16-bit weights in fp32 arithmetic.
//
// A weight may be narrower than the input: bf16 or fp16 weights with fp32 activations are widened
// block by block as they are used, so that a 9.5 GB bf16 checkpoint runs in fp32 arithmetic without
// ever existing in fp32.
#pragma once

#include <cstdint>
#include <optional>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::nn {

/// y = x W^T + b.
/// @param x        [..., in], floating.    @param weight_OI  [out, in], dtype of x or 16-bit.
/// @param bias_O   [out] or undefined.     @return [..., out], dtype of x.
[[nodiscard]] Tensor linear(const Tensor& x, const Tensor& weight_OI, const Tensor& bias_O = {});

/// The plain twin of linear(): widens the whole weight, then multiplies. For tests.
[[nodiscard]] Tensor linear_reference(const Tensor& x,
                                      const Tensor& weight_OI,
                                      const Tensor& bias_O = {});

/// Parameters "weight" [out, in] and, with bias, "bias" [out].
class LinearImpl final : public torch::nn::Module {
 public:
  LinearImpl(std::int64_t in_features,
             std::int64_t out_features,
             bool has_bias,
             const ParameterOptions& options = {});

  [[nodiscard]] Tensor forward(const Tensor& x) const { return linear(x, weight, bias); }

  Tensor weight;
  Tensor bias;  ///< undefined without bias
};
TORCH_MODULE(Linear);

}  // namespace kinema::nn
