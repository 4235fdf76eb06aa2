// SPDX-License-Identifier: Apache-2.0
#include "core/nn/embedding.h"

#include <ATen/ops/embedding.h>

namespace kinema::nn {

EmbeddingImpl::EmbeddingImpl(std::int64_t count,
                             std::int64_t width,
                             const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({count, width}, options))) {}

Tensor EmbeddingImpl::forward(const Tensor& ids) const {
  return at::embedding(weight, ids);
}

}  // namespace kinema::nn
