// SPDX-License-Identifier: Apache-2.0
#include "core/nn/linear.h"

#include <algorithm>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

namespace kinema::nn {
namespace {

/// A block of widened weights should stay in the caches; 4 MB of fp32.
constexpr std::int64_t kBlockElements = std::int64_t{1} << 20;

/// y[:, rows] = x W[rows]^T for one block of output rows after another, through one fp32 buffer.
Tensor linear_widening(const Tensor& x_TI, const Tensor& weight_OI, const Tensor& bias_O) {
  const std::int64_t out_features = weight_OI.size(0);
  const std::int64_t in_features = weight_OI.size(1);
  const std::int64_t block_rows = std::clamp<std::int64_t>(
      kBlockElements / std::max<std::int64_t>(in_features, 1), 1, out_features);
  Tensor y_TO = at::empty({x_TI.size(0), out_features}, x_TI.options());
  const Tensor buffer = at::empty({block_rows, in_features}, x_TI.options());
  for (std::int64_t begin = 0; begin < out_features; begin += block_rows) {
    const std::int64_t rows = std::min(block_rows, out_features - begin);
    const Tensor wide = buffer.narrow(0, 0, rows);
    wide.copy_(weight_OI.narrow(0, begin, rows));
    Tensor block = y_TO.narrow(1, begin, rows);
    if (bias_O.defined()) {
      at::addmm_out(block, bias_O.narrow(0, begin, rows), x_TI, wide.t());
    } else {
      at::mm_out(block, x_TI, wide.t());
    }
  }
  return y_TO;
}

Tensor bias_like(const Tensor& bias_O, const Tensor& x) {
  return bias_O.defined() ? bias_O.to(x.scalar_type()) : bias_O;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight_OI, const Tensor& bias_O) {
  if (x.scalar_type() == weight_OI.scalar_type()) {
    return at::linear(x, weight_OI, bias_like(bias_O, x));
  }
  const bool needs_gradient =
      at::GradMode::is_enabled() && (x.requires_grad() || weight_OI.requires_grad());
  if (!x.device().is_cpu() || needs_gradient || weight_OI.numel() <= kBlockElements) {
    return linear_reference(x, weight_OI, bias_O);
  }
  const Tensor x_TI = x.reshape({-1, x.size(-1)});
  auto shape = x.sizes().vec();
  shape.back() = weight_OI.size(0);
  return linear_widening(x_TI, weight_OI, bias_like(bias_O, x)).view(shape);
}

Tensor linear_reference(const Tensor& x, const Tensor& weight_OI, const Tensor& bias_O) {
  return at::linear(x, weight_OI.to(x.scalar_type()), bias_like(bias_O, x));
}

LinearImpl::LinearImpl(std::int64_t in_features,
                       std::int64_t out_features,
                       bool has_bias,
                       const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({out_features, in_features}, options))) {
  if (has_bias) {
    bias = register_parameter("bias", make_parameter({out_features}, options));
  }
}

}  // namespace kinema::nn
