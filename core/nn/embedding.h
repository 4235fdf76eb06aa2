// SPDX-License-Identifier: Apache-2.0
// Table lookup: rows of a weight matrix by integer ids.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::nn {

/// Parameter "weight" [count, width].
class EmbeddingImpl final : public torch::nn::Module {
 public:
  EmbeddingImpl(std::int64_t count, std::int64_t width, const ParameterOptions& options = {});

  /// @param ids  [...], integers in [0, count).  @return [..., width], dtype of the weight.
  [[nodiscard]] Tensor forward(const Tensor& ids) const;

  Tensor weight;
};
TORCH_MODULE(Embedding);

}  // namespace kinema::nn
