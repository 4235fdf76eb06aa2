// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parameter.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

namespace kinema::nn {

Tensor make_parameter(c10::IntArrayRef shape, const ParameterOptions& options) {
  const auto tensor_options = at::TensorOptions().dtype(options.dtype).device(options.device);
  if (options.deferred) {
    return at::zeros({}, tensor_options).expand(shape);
  }
  return at::empty(shape, tensor_options);
}

}  // namespace kinema::nn
