// SPDX-License-Identifier: Apache-2.0
#include "core/nn/norm.h"

#include <array>

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/rsqrt.h>

#include "core/base/error.h"

namespace kinema::nn {

RmsNormImpl::RmsNormImpl(std::int64_t size, double eps, const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({size}, options))), eps_(eps) {}

Tensor RmsNormImpl::forward(const Tensor& x) const {
  const Tensor wide = x.to(at::kFloat);
  const Tensor mean_square = wide.square().mean(-1, /*keepdim=*/true);
  const Tensor normed = wide * at::rsqrt(mean_square + eps_);
  return normed.to(x.scalar_type()) * weight.to(x.scalar_type());
}

LayerNormImpl::LayerNormImpl(std::int64_t size, double eps, const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({size}, options))),
      bias(register_parameter("bias", make_parameter({size}, options))),
      eps_(eps) {}

Tensor LayerNormImpl::forward(const Tensor& x) const {
  // ATen accumulates 16-bit inputs in fp32; weights of another dtype are brought to that of x.
  const std::array<std::int64_t, 1> shape = {weight.size(0)};
  return at::layer_norm(x, shape, weight.to(x.scalar_type()), bias.to(x.scalar_type()), eps_);
}

}  // namespace kinema::nn
