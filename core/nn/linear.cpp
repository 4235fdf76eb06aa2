// SPDX-License-Identifier: Apache-2.0
#include "core/nn/linear.h"

#include <algorithm>
#include <optional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "core/kernels/narrow_linear.h"
#include "core/nn/parallel.h"

namespace kinema::nn {
namespace {

/// Without a kernel for this CPU: a block of widened weights that stays in the caches; 4 MB of
/// fp32.
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

std::optional<kernels::WeightType> weight_type(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::kFloat:
      return kernels::WeightType::kF32;
    case c10::kBFloat16:
      return kernels::WeightType::kBF16;
    case c10::kHalf:
      return kernels::WeightType::kF16;
    default:
      return std::nullopt;
  }
}

/// The kernel that widens inside the product. @return [T, out].
/// (The untyped pointers: clang and the compiler of LibTorch name const_data_ptr<float>()
/// differently.)
Tensor linear_kernel(const Tensor& x_TI,
                     const Tensor& weight_OI,
                     const Tensor& bias_O,
                     kernels::WeightType type) {
  Tensor y_TO = at::empty({x_TI.size(0), weight_OI.size(0)}, x_TI.options());
  const kernels::NarrowLinear work = {
      .tokens = x_TI.size(0),
      .in = weight_OI.size(1),
      .out = weight_OI.size(0),
      .x = static_cast<const float*>(x_TI.const_data_ptr()),
      .weight = weight_OI.const_data_ptr(),
      .type = type,
      .bias = bias_O.defined() ? static_cast<const float*>(bias_O.const_data_ptr()) : nullptr,
      .y = y_TO.mutable_data_ptr<float>()};
  const Tensor packed =
      at::empty({static_cast<std::int64_t>(kernels::packed_floats(work))}, x_TI.options());
  float* packed_data = packed.mutable_data_ptr<float>();
  parallel_chunks(kernels::num_pack_parts(work),
                  [&](std::int64_t i) { kernels::pack_tokens(work, packed_data, i, i + 1); });
  const std::int64_t num_chunks = (work.out + kernels::kOutputBlock - 1) / kernels::kOutputBlock;
  const auto scratch_size = static_cast<std::int64_t>(kernels::scratch_floats(work));
  parallel_chunks(num_chunks, [&](std::int64_t i) {
    const Tensor scratch = at::empty({scratch_size}, x_TI.options());
    const std::int64_t begin = i * kernels::kOutputBlock;
    kernels::linear_outputs(work,
                            packed_data,
                            scratch.mutable_data_ptr<float>(),
                            begin,
                            std::min(begin + kernels::kOutputBlock, work.out));
  });
  return y_TO;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight_OI, const Tensor& bias_O) {
  if (x.scalar_type() == weight_OI.scalar_type()) {
    return at::linear(x, weight_OI, bias_like(bias_O, x));
  }
  const bool needs_gradient =
      at::GradMode::is_enabled() && (x.requires_grad() || weight_OI.requires_grad());
  const auto type = weight_type(weight_OI.scalar_type());
  if (!x.device().is_cpu() || x.scalar_type() != c10::kFloat || needs_gradient ||
      !type.has_value() || x.numel() == 0) {
    return linear_reference(x, weight_OI, bias_O);
  }
  const Tensor x_TI = x.reshape({-1, x.size(-1)}).contiguous();
  const Tensor bias = bias_O.defined() ? bias_like(bias_O, x).contiguous() : bias_O;
  auto shape = x.sizes().vec();
  shape.back() = weight_OI.size(0);
  const bool has_kernel =
      weight_OI.is_contiguous() && kernels::has_narrow_linear(kernels::best_isa());
  return (has_kernel ? linear_kernel(x_TI, weight_OI, bias, *type)
                     : linear_widening(x_TI, weight_OI, bias))
      .view(shape);
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
