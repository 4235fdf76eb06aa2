// SPDX-License-Identifier: Apache-2.0
#include "core/nn/group_norm.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>

#include "core/nn/conv.h"

namespace kinema::nn {

GroupNormImpl::GroupNormImpl(std::int64_t num_groups,
                             std::int64_t num_channels,
                             double eps,
                             const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({num_channels}, options))),
      bias(register_parameter("bias", make_parameter({num_channels}, options))),
      num_groups_(num_groups),
      eps_(eps) {}

Tensor GroupNormImpl::forward(const Tensor& x, NormScope scope) const {
  const Tensor w = weight.to(x.scalar_type());
  const Tensor b = bias.to(x.scalar_type());
  if (x.dim() == 5 && scope == NormScope::kFrame) {
    return unfold_frames(at::group_norm(fold_frames(channels_last(x)), num_groups_, w, b, eps_),
                         x.size(0));
  }
  return channels_last(at::group_norm(channels_last(x), num_groups_, w, b, eps_));
}

Tensor GroupNormImpl::forward_silu(const Tensor& x, NormScope scope) const {
  return silu_consume(forward(x, scope));
}

void GroupNormImpl::forward_silu_out(Tensor& out, const Tensor& x, NormScope scope) const {
  out.copy_(forward_silu(x, scope));
}

Tensor silu_consume(Tensor x) {
  if (c10::GradMode::is_enabled() && x.requires_grad()) {
    return at::silu(x);
  }
  return at::silu_(x);
}

Tensor add_consume(Tensor a, const Tensor& b) {
  if (c10::GradMode::is_enabled() && (a.requires_grad() || b.requires_grad())) {
    return a + b;
  }
  return a.add_(b);
}

}  // namespace kinema::nn
