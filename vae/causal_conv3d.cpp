// SPDX-License-Identifier: Apache-2.0
#include "vae/causal_conv3d.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"

namespace kinema::vae {
namespace {

struct TimeShape {
  std::int64_t left = 0;  ///< frames of padding at the start of a clip
  std::int64_t keep = 0;  ///< frames to remember
};

TimeShape time_shape(const nn::Conv3dImpl& conv, TimePadding padding) {
  const std::int64_t kernel = conv.options().kernel[0];
  const std::int64_t stride = conv.options().stride[0];
  KINEMA_DCHECK(conv.options().padding[0] == 0);
  const std::int64_t shift = padding == TimePadding::kZeros ? 1 - stride : 0;
  return {kernel - 1 + shift, kernel - stride};
}

/// Frames that stand before x: the cache, or the padding.
Tensor past_of(const Tensor& x, std::int64_t left, TimePadding padding, const TimeState* state) {
  if (state != nullptr && state->started()) {
    return state->cache;
  }
  const auto s = x.sizes();
  if (padding == TimePadding::kZeros) {
    return at::zeros({s[0], s[1], left, s[3], s[4]}, x.options());
  }
  return x.narrow(2, 0, 1).expand({s[0], s[1], left, s[3], s[4]});
}

/// The last `keep` frames, as memory of its own: a view would keep the whole chunk alive.
void remember(const Tensor& extended, std::int64_t keep, TimeState* state) {
  if (state == nullptr) {
    return;
  }
  const std::int64_t frames = extended.size(2);
  if (keep > 0) {
    const Tensor tail = extended.narrow(2, frames - keep, keep);
    const bool reusable = !c10::GradMode::is_enabled() && state->cache.defined() &&
                          state->cache.sizes() == tail.sizes() && !state->cache.is_alias_of(tail);
    if (reusable) {
      state->cache.copy_(tail);
    } else {
      state->cache = tail.clone(c10::MemoryFormat::ChannelsLast3d);
    }
  }
  state->chunks += 1;
}

bool wants_gradient(const Tensor& x, const nn::GroupNormImpl& norm) {
  return c10::GradMode::is_enabled() && (x.requires_grad() || norm.weight.requires_grad());
}

}  // namespace

Tensor extend_time(const Tensor& x_BCTHW,
                   std::int64_t left,
                   std::int64_t keep,
                   TimePadding padding,
                   TimeState* state) {
  Tensor extended = x_BCTHW;
  const bool started = state != nullptr && state->started();
  if (started ? keep > 0 : left > 0) {
    extended = at::cat({past_of(x_BCTHW, left, padding, state), x_BCTHW}, 2);
  }
  remember(extended, keep, state);
  return extended;
}

Tensor causal_conv3d(const Tensor& x_BCTHW,
                     const nn::Conv3dImpl& conv,
                     TimePadding padding,
                     TimeState* state) {
  const auto [left, keep] = time_shape(conv, padding);
  return conv.forward(extend_time(x_BCTHW, left, keep, padding, state));
}

Tensor norm_silu_conv3d(const Tensor& x_BCTHW,
                        const nn::GroupNormImpl& norm,
                        nn::NormScope scope,
                        const nn::Conv3dImpl& conv,
                        TimePadding padding,
                        TimeState* state) {
  if (wants_gradient(x_BCTHW, norm)) {
    return causal_conv3d(norm.forward_silu(x_BCTHW, scope), conv, padding, state);
  }
  const auto [left, keep] = time_shape(conv, padding);
  const bool started = state != nullptr && state->started();
  const std::int64_t num_past = started ? keep : left;
  const auto s = x_BCTHW.sizes();
  Tensor extended = at::empty({s[0], s[1], num_past + s[2], s[3], s[4]},
                              x_BCTHW.options(),
                              c10::MemoryFormat::ChannelsLast3d);
  Tensor present = extended.narrow(2, num_past, s[2]);
  norm.forward_silu_out(present, x_BCTHW, scope);
  if (num_past > 0) {
    extended.narrow(2, 0, num_past).copy_(past_of(present, left, padding, state));
  }
  remember(extended, keep, state);
  return conv.forward(extended);
}

Tensor pad_right_bottom(const Tensor& x) {
  return at::constant_pad_nd(x, {0, 1, 0, 1}, 0);
}

CausalConv3dImpl::CausalConv3dImpl(const nn::Conv3dOptions& options,
                                   TimePadding padding,
                                   const nn::ParameterOptions& parameters)
    : conv(register_module("conv", nn::Conv3d(options, parameters))), padding_(padding) {}

Tensor CausalConv3dImpl::forward(const Tensor& x_BCTHW, StreamState* stream) const {
  if (conv->options().kernel[0] == 1) {
    return conv->forward(x_BCTHW);
  }
  return causal_conv3d(x_BCTHW, *conv, padding_, next_state(stream));
}

Tensor CausalConv3dImpl::forward(const Tensor& x_BCTHW,
                                 const nn::GroupNormImpl& norm,
                                 nn::NormScope scope,
                                 StreamState* stream) const {
  if (conv->options().kernel[0] == 1) {
    return conv->forward(norm.forward_silu(x_BCTHW, scope));
  }
  return norm_silu_conv3d(x_BCTHW, norm, scope, *conv, padding_, next_state(stream));
}

}  // namespace kinema::vae
