// SPDX-License-Identifier: Apache-2.0
#include "vae/causal_conv3d.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "core/nn/image_conv.h"

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

/// Frames that stand before x: the cache, or the padding (a view that repeats one frame).
/// Undefined when there are none.
Tensor past_of(const Tensor& x, TimeShape shape, TimePadding padding, const TimeState* state) {
  const bool started = state != nullptr && state->started();
  if ((started ? shape.keep : shape.left) == 0) {
    return {};
  }
  if (started) {
    return state->cache;
  }
  const auto s = x.sizes();
  const Tensor frame = padding == TimePadding::kZeros
                           ? nn::channels_last(at::zeros({s[0], s[1], 1, s[3], s[4]}, x.options()))
                           : x.narrow(2, 0, 1);
  return frame.expand({s[0], s[1], shape.left, s[3], s[4]});
}

Tensor join(const Tensor& past, const Tensor& present) {
  return past.defined() ? at::cat({past.to(present.scalar_type()), present}, 2) : present;
}

/// Puts the last `keep` frames of past and present into `cache`, whose frames `past` may be.
void shift_into(Tensor& cache, const Tensor& past, const Tensor& present, std::int64_t keep) {
  const std::int64_t fresh = std::min(keep, present.size(2));
  const std::int64_t old = keep - fresh;
  for (std::int64_t k = 0; k < old; ++k) {
    cache.select(2, k).copy_(past.select(2, past.size(2) - old + k));
  }
  cache.narrow(2, old, fresh).copy_(present.narrow(2, present.size(2) - fresh, fresh));
}

/// Remembers the last `keep` frames as memory of its own: a view would keep the chunk alive.
void remember(const Tensor& past, const Tensor& present, std::int64_t keep, TimeState* state) {
  if (state == nullptr) {
    return;
  }
  state->chunks += 1;
  if (keep == 0) {
    return;
  }
  const bool keeps_gradient = c10::GradMode::is_enabled() &&
                              (present.requires_grad() || (past.defined() && past.requires_grad()));
  if (keeps_gradient) {
    const Tensor all = join(past, present);
    state->cache = all.narrow(2, all.size(2) - keep, keep).clone();
    return;
  }
  const at::NoGradGuard no_grad;
  if (!state->cache.defined() || state->cache.requires_grad()) {
    const auto s = present.sizes();
    const bool narrows = state->compact && present.scalar_type() == at::kFloat;
    const auto dtype = narrows ? at::kBFloat16 : present.scalar_type();
    state->store->allocate(*state, {s[0], s[1], keep, s[3], s[4]}, present.options().dtype(dtype));
  }
  shift_into(state->cache, past, present, keep);
  state->put_away();
}

/// Whether to remember what frames contribute instead of the frames: the layer has few outputs, so
/// that is much less. fp32 only, since the products are rounded before they are added.
bool remembers_products(const nn::Conv3dImpl& conv) {
  const Tensor& weight = conv.weight;
  return conv.options().stride[0] == 1 && weight.size(2) > 1 &&
         weight.size(2) * weight.size(0) <= weight.size(1) && weight.scalar_type() == at::kFloat;
}

/// The convolution as a sum over taps: the products of all taps with each frame, [B, taps O, T, H,
/// W], shifted against each other and added up.
Tensor convolve_by_products(const Tensor& x,
                            const nn::Conv3dImpl& conv,
                            TimePadding padding,
                            TimeState* state,
                            const Tensor& addend) {
  const auto w = conv.weight.sizes();
  const Tensor stacked =
      conv.weight.permute({2, 0, 1, 3, 4}).reshape({w[2] * w[0], w[1], w[3], w[4]});
  const std::array<std::int64_t, 2> stride = {conv.options().stride[1], conv.options().stride[2]};
  const std::array<std::int64_t, 2> border = {conv.options().padding[1], conv.options().padding[2]};
  const Tensor products =
      nn::unfold_frames(at::conv2d(nn::fold_frames(x), stacked, {}, stride, border), x.size(0));
  const TimeShape shape = time_shape(conv, padding);
  const Tensor all = extend_time(products, shape.left, shape.keep, padding, state);
  const std::int64_t frames = all.size(2) - (w[2] - 1);
  const auto of_tap = [&](std::int64_t tap) {
    return all.narrow(1, tap * w[0], w[0]).narrow(2, tap, frames);
  };
  Tensor y = of_tap(0) + of_tap(1);
  for (std::int64_t tap = 2; tap < w[2]; ++tap) {
    y = nn::add_consume(std::move(y), of_tap(tap));
  }
  if (conv.bias.defined()) {
    y = nn::add_consume(std::move(y), conv.bias.view({1, w[0], 1, 1, 1}));
  }
  return nn::channels_last(addend.defined() ? nn::add_consume(std::move(y), addend) : y);
}

/// The convolution of past and x, and the new memory. The past is read in place where possible.
Tensor convolve(const Tensor& x,
                const nn::Conv3dImpl& conv,
                TimePadding padding,
                TimeState* state,
                Tensor addend) {
  if (remembers_products(conv)) {
    return convolve_by_products(x, conv, padding, state, addend);
  }
  const TimeShape shape = time_shape(conv, padding);
  const Tensor past = past_of(x, shape, padding, state);
  const bool same_size = conv.options().stride == std::array<std::int64_t, 3>{1, 1, 1} &&
                         conv.options().padding == std::array<std::int64_t, 3>{0, 1, 1};
  const std::int64_t num_past = past.defined() ? past.size(2) : 0;
  Tensor y;
  if (same_size && nn::can_filter_minimally(x, conv.weight, /*doubled=*/false, num_past)) {
    y = nn::filter_minimally(x, conv.weight, conv.bias, addend, /*doubled=*/false, past);
  } else if (addend.defined()) {
    y = conv.forward_add(join(past, x), std::move(addend));
  } else {
    y = conv.forward(join(past, x));
  }
  remember(past, x, shape.keep, state);
  return y;
}

}  // namespace

Tensor extend_time(const Tensor& x_BCTHW,
                   std::int64_t left,
                   std::int64_t keep,
                   TimePadding padding,
                   TimeState* state) {
  const Tensor past = past_of(x_BCTHW, {left, keep}, padding, state);
  Tensor extended = join(past, x_BCTHW);
  remember(past, x_BCTHW, keep, state);
  return extended;
}

Tensor causal_conv3d(const Tensor& x_BCTHW,
                     const nn::Conv3dImpl& conv,
                     TimePadding padding,
                     TimeState* state,
                     Tensor addend) {
  return convolve(nn::channels_last(x_BCTHW), conv, padding, state, std::move(addend));
}

Tensor norm_silu_conv3d(const Tensor& x_BCTHW,
                        const nn::GroupNormImpl& norm,
                        nn::NormScope scope,
                        const nn::Conv3dImpl& conv,
                        TimePadding padding,
                        TimeState* state) {
  return convolve(norm.forward_silu(x_BCTHW, scope), conv, padding, state, {});
}

Tensor norm_silu_conv3d_consume(Tensor x_BCTHW,
                                const nn::GroupNormImpl& norm,
                                nn::NormScope scope,
                                const nn::Conv3dImpl& conv,
                                TimePadding padding,
                                TimeState* state,
                                Tensor addend) {
  const Tensor normed = norm.forward_silu_consume(std::move(x_BCTHW), scope);
  return convolve(normed, conv, padding, state, std::move(addend));
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

Tensor CausalConv3dImpl::forward_consume(Tensor x_BCTHW,
                                         const nn::GroupNormImpl& norm,
                                         nn::NormScope scope,
                                         Tensor addend,
                                         StreamState* stream) const {
  TimeState* const state = conv->options().kernel[0] == 1 ? nullptr : next_state(stream);
  return norm_silu_conv3d_consume(
      std::move(x_BCTHW), norm, scope, *conv, padding_, state, std::move(addend));
}

}  // namespace kinema::vae
