// SPDX-License-Identifier: Apache-2.0
#include "dit/modules/blocks.h"

#include <algorithm>
#include <array>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "core/attention/attend.h"
#include "core/nn/activations.h"

namespace kinema::dit {
namespace {

/// Tokens that pass through a layer in one step of inference when nobody says otherwise: enough for
/// full speed of the matrix products, few enough to stay near the caches.
constexpr std::int64_t kTokensPerStep = 2048;

/// Number of units per step, at least 1, so that a step has about kTokensPerStep tokens.
std::int64_t step_of(std::int64_t wanted, std::int64_t tokens_per_unit) {
  return wanted > 0 ? wanted : std::max<std::int64_t>(1, kTokensPerStep / tokens_per_unit);
}

Tensor as_type(const Tensor& weight, const Tensor& like) {
  return weight.to(like.options().dtype(like.scalar_type()));
}

/// GELU of an intermediate result.
void gelu_inplace(Tensor& x) {
  nn::activate_inplace(x, nn::Activation::kGeluTanh);
}

/// attend_over_frames() in each window, averaged. Positions count from the start of the window, as
/// in the videos that the model was trained on. @param qkv_fsE  before the rule.
Tensor attend_in_windows(const Tensor& qkv_fsE,
                         std::int64_t batch,
                         std::int64_t num_heads,
                         QueryKeyRule rule,
                         const TemporalWindows& windows) {
  const std::int64_t frames = qkv_fsE.size(0) / batch;
  const std::int64_t positions = qkv_fsE.size(1);
  const std::int64_t width = qkv_fsE.size(2) / 3;
  const Tensor qkv_BTsE = qkv_fsE.view({batch, frames, positions, 3 * width});
  Tensor merged_BTsD = at::zeros({batch, frames, positions, width}, qkv_fsE.options());
  const attention::RotaryTable* rotary = rule.rotary;
  for (std::size_t j = 0; j < windows.windows.size(); ++j) {
    const diffusion::Window& window = windows.windows[j];
    Tensor part =
        qkv_BTsE.narrow(1, window.first, window.length).reshape({-1, positions, 3 * width});
    part = part.is_alias_of(qkv_fsE) ? part.clone() : part;
    attention::RotaryTable local;
    if (rotary != nullptr) {
      local = {rotary->cos_LJ.narrow(0, 0, window.length),
               rotary->sin_LJ.narrow(0, 0, window.length)};
      rule.rotary = &local;
    }
    norm_rotate(part, num_heads, rule);
    const Tensor seen =
        attend_over_frames(part, batch, num_heads).view({batch, window.length, positions, width});
    const Tensor weight_f11 = at::tensor(windows.weights[j], qkv_fsE.options().dtype(at::kFloat))
                                  .to(qkv_fsE.scalar_type())
                                  .view({-1, 1, 1});
    merged_BTsD.narrow(1, window.first, window.length).addcmul_(seen, weight_f11);
  }
  return merged_BTsD.flatten(0, 1);
}

}  // namespace

SelfAttentionImpl::SelfAttentionImpl(const AttentionOptions& options,
                                     const nn::ParameterOptions& parameters)
    : qkv(register_module("qkv", nn::Linear(options.width, 3 * options.width, true, parameters))),
      proj(register_module("proj", nn::Linear(options.width, options.width, true, parameters))),
      options_(options) {
  if (options.qk_norm) {
    const std::int64_t head_width = options.width / options.num_heads;
    q_norm = register_module("q_norm", nn::RmsNorm(head_width, options.eps, parameters));
    k_norm = register_module("k_norm", nn::RmsNorm(head_width, options.eps, parameters));
  }
}

Tensor SelfAttentionImpl::forward(const Tensor& x_BTSD,
                                  const attention::RotaryTable* rotary) const {
  const auto [batch, frames, positions, width] =
      std::array{x_BTSD.size(0), x_BTSD.size(1), x_BTSD.size(2), x_BTSD.size(3)};
  const std::int64_t heads = options_.num_heads;
  Tensor x = x_BTSD;
  switch (options_.axis) {
    case Axis::kSpatial:
      x = x.flatten(0, 1);
      break;
    case Axis::kTemporal:
      x = x.transpose(1, 2).flatten(0, 1);
      break;
    case Axis::kFull:
      x = x.flatten(1, 2);
      break;
  }
  const bool rotates = rotary != nullptr && options_.axis != Axis::kSpatial;
  const Tensor qkv_BL3NK = qkv->forward(x).view({x.size(0), x.size(1), 3, heads, width / heads});
  const auto prepare = [&](std::int64_t index, const nn::RmsNorm& norm) {
    Tensor head = qkv_BL3NK.select(2, index);
    const auto rotate = [&] { head = attention::apply_rotary(head, *rotary); };
    if (rotates && options_.rotate_before_norm) {
      rotate();
    }
    if (!norm.is_empty()) {
      head = norm->forward(head);
    }
    if (rotates && !options_.rotate_before_norm) {
      rotate();
    }
    return head;
  };
  attention::KvStore store;
  store.append({.key_BMNK = prepare(1, k_norm), .value_BMNK = qkv_BL3NK.select(2, 2)});
  const Tensor y = proj->forward(attention::attend(prepare(0, q_norm), store).flatten(2));
  return options_.axis == Axis::kTemporal
             ? y.view({batch, positions, frames, width}).transpose(1, 2)
             : y.view({batch, frames, positions, width});
}

Tensor SelfAttentionImpl::attend_part(Tensor qkv_fsE,
                                      const BlockContext& context,
                                      const QueryKeyRule& rule) const {
  const bool temporal = options_.axis == Axis::kTemporal;
  if (temporal && context.windows != nullptr && context.windows->windows.size() > 1) {
    return attend_in_windows(
        qkv_fsE, context.grid.batch, options_.num_heads, rule, *context.windows);
  }
  norm_rotate(qkv_fsE, options_.num_heads, rule);
  if (temporal) {
    return attend_over_frames(qkv_fsE, context.grid.batch, options_.num_heads);
  }
  const std::int64_t samples = options_.axis == Axis::kFull ? context.grid.batch : qkv_fsE.size(0);
  const Tensor heads = qkv_fsE.view({samples,
                                     qkv_fsE.size(0) / samples * qkv_fsE.size(1),
                                     3,
                                     options_.num_heads,
                                     options_.width / options_.num_heads});
  attention::KvStore store;
  store.append({.key_BMNK = heads.select(2, 1), .value_BMNK = heads.select(2, 2)});
  return attention::attend(heads.select(2, 0), store)
      .reshape({qkv_fsE.size(0), qkv_fsE.size(1), options_.width});
}

void SelfAttentionImpl::run(Tensor& x_FSD,
                            const BlockContext& context,
                            const Tensor& shift_RD,
                            const Tensor& scale_RD,
                            const Tensor& gate_RD) const {
  const std::int64_t frames = x_FSD.size(0);
  const std::int64_t positions = x_FSD.size(1);
  const bool by_frames = options_.axis == Axis::kSpatial;
  const bool by_positions = options_.axis == Axis::kTemporal;
  const std::int64_t frame_step = by_frames ? step_of(context.groups.frames, positions) : frames;
  const std::int64_t position_step =
      by_positions ? step_of(context.groups.positions, frames) : positions;
  QueryKeyRule rule = {.eps = options_.eps,
                       .rotary = by_frames ? nullptr : context.rotary,
                       .rotate_first = options_.rotate_before_norm};
  if (options_.qk_norm) {
    rule.query_weight_K = as_type(q_norm->weight, x_FSD);
    rule.key_weight_K = as_type(k_norm->weight, x_FSD);
  }
  for (std::int64_t f = 0; f < frames; f += frame_step) {
    for (std::int64_t s = 0; s < positions; s += position_step) {
      const Part part = {.first_frame = f,
                         .num_frames = std::min(frame_step, frames - f),
                         .first_position = s,
                         .num_positions = std::min(position_step, positions - s)};
      rule.rows_per_position = by_positions ? part.num_positions : 1;
      const Tensor normed = modulate_part(x_FSD, part, shift_RD, scale_RD, options_.eps);
      const Tensor seen = attend_part(qkv->forward(normed), context, rule);
      add_gated_part(x_FSD, part, proj->forward(seen), gate_RD);
    }
  }
}

CrossAttentionImpl::CrossAttentionImpl(std::int64_t width,
                                       std::int64_t num_heads,
                                       const nn::ParameterOptions& parameters)
    : q_linear(register_module("q_linear", nn::Linear(width, width, true, parameters))),
      kv_linear(register_module("kv_linear", nn::Linear(width, 2 * width, true, parameters))),
      proj(register_module("proj", nn::Linear(width, width, true, parameters))),
      num_heads_(num_heads) {}

Tensor CrossAttentionImpl::forward(const Tensor& x_BTSD, const PromptContext& prompt) const {
  const std::int64_t head_width = x_BTSD.size(-1) / num_heads_;
  const Tensor query =
      q_linear->forward(x_BTSD.flatten(1, 2)).unflatten(-1, {num_heads_, head_width});
  const Tensor kv =
      kv_linear->forward(prompt.context_BMD).unflatten(-1, {2, num_heads_, head_width});
  attention::KvStore store;
  store.append({.key_BMNK = kv.select(2, 0),
                .value_BMNK = kv.select(2, 1),
                .log_weight_BM = prompt.log_weight_BM});
  return proj->forward(attention::attend(query, store).flatten(2)).view(x_BTSD.sizes());
}

PromptStores CrossAttentionImpl::project(const Tensor& context_PD,
                                         const std::vector<std::int64_t>& lengths) const {
  const std::int64_t head_width = context_PD.size(-1) / num_heads_;
  const Tensor kv_P2NK =
      kv_linear->forward(context_PD).view({context_PD.size(0), 2, num_heads_, head_width});
  PromptStores stores;
  std::int64_t first = 0;
  for (const std::int64_t length : lengths) {
    const Tensor kv = kv_P2NK.narrow(0, first, length).unsqueeze(0);
    attention::KvStore store;
    store.append({.key_BMNK = kv.select(2, 0), .value_BMNK = kv.select(2, 1)});
    stores.push_back(std::move(store));
    first += length;
  }
  return stores;
}

Tensor CrossAttentionImpl::run(const Tensor& x_FSD,
                               const Part& part,
                               std::int64_t frames_per_sample,
                               const PromptStores& prompt) const {
  const std::int64_t width = x_FSD.size(2);
  const Tensor query = q_linear->forward(part.of(x_FSD));
  Tensor seen = at::empty(query.sizes(), query.options());
  const std::int64_t end = part.first_frame + part.num_frames;
  for (std::int64_t f = part.first_frame; f < end;) {
    const std::int64_t sample = f / frames_per_sample;
    const std::int64_t stop = std::min((sample + 1) * frames_per_sample, end);
    Tensor target = seen.narrow(0, f - part.first_frame, stop - f);
    const attention::KvStore& store = prompt[static_cast<std::size_t>(sample)];
    if (store.num_tokens() == 0) {
      target.zero_();
    } else {
      const Tensor query_BLNK = query.narrow(0, f - part.first_frame, stop - f)
                                    .reshape({1, -1, num_heads_, width / num_heads_});
      target.copy_(attention::attend(query_BLNK, store).reshape(target.sizes()));
    }
    f = stop;
  }
  return proj->forward(seen);
}

BlockImpl::BlockImpl(const BlockOptions& options, const nn::ParameterOptions& parameters)
    : eps_(options.attention.eps) {
  const std::int64_t width = options.attention.width;
  scale_shift_table =
      register_parameter("scale_shift_table", nn::make_parameter({6, width}, parameters));
  attn = register_module("attn", SelfAttention(options.attention, parameters));
  if (options.second_attention) {
    scale_shift_table_temporal = register_parameter("scale_shift_table_temporal",
                                                    nn::make_parameter({3, width}, parameters));
    AttentionOptions temporal = options.attention;
    temporal.axis = Axis::kTemporal;
    attn_temp = register_module("attn_temp", SelfAttention(temporal, parameters));
  }
  if (options.cross_attention) {
    cross_attn = register_module("cross_attn",
                                 CrossAttention(width, options.attention.num_heads, parameters));
  }
  mlp = register_module("mlp", Mlp(width, options.mlp_width, width, parameters));
}

Tensor BlockImpl::forward(const Tensor& x_BTSD,
                          const BlockContext& context,
                          const PromptContext* prompt) const {
  const std::int64_t batch = context.grid.batch;
  Tensor x = x_BTSD;
  const auto add_attention = [&](const SelfAttention& attention,
                                 const Tensor& vectors,
                                 std::int64_t first) {
    const Tensor normed = modulate(x, vectors.select(1, first), vectors.select(1, first + 1), eps_);
    const Tensor gate = spread_vectors(vectors.select(1, first + 2), batch);
    x = x + gate * attention->forward(normed, context.rotary);
  };
  const Tensor vectors_R6D = context.modulation_R6D + as_type(scale_shift_table, x);
  add_attention(attn, vectors_R6D, 0);
  if (!attn_temp.is_empty()) {
    add_attention(
        attn_temp, context.temporal_modulation_R3D + as_type(scale_shift_table_temporal, x), 0);
  }
  if (!cross_attn.is_empty()) {
    x = x + cross_attn->forward(x, *prompt);
  }
  const Tensor normed = modulate(x, vectors_R6D.select(1, 3), vectors_R6D.select(1, 4), eps_);
  return x + spread_vectors(vectors_R6D.select(1, 5), batch) * mlp->forward(normed);
}

void BlockImpl::run(Tensor& x_FSD, const BlockContext& context, const PromptStores* prompt) const {
  const Tensor vectors_R6D = context.modulation_R6D + as_type(scale_shift_table, x_FSD);
  attn->run(
      x_FSD, context, vectors_R6D.select(1, 0), vectors_R6D.select(1, 1), vectors_R6D.select(1, 2));
  if (!attn_temp.is_empty()) {
    const Tensor vectors_R3D =
        context.temporal_modulation_R3D + as_type(scale_shift_table_temporal, x_FSD);
    attn_temp->run(x_FSD,
                   context,
                   vectors_R3D.select(1, 0),
                   vectors_R3D.select(1, 1),
                   vectors_R3D.select(1, 2));
  }
  run_tail(x_FSD, context, vectors_R6D, prompt);
}

void BlockImpl::run_tail(Tensor& x_FSD,
                         const BlockContext& context,
                         const Tensor& modulation_R6D,
                         const PromptStores* prompt) const {
  const std::int64_t frames = x_FSD.size(0);
  const std::int64_t positions = x_FSD.size(1);
  const std::int64_t step = step_of(context.groups.frames, positions);
  for (std::int64_t f = 0; f < frames; f += step) {
    const Part part = {
        .first_frame = f, .num_frames = std::min(step, frames - f), .num_positions = positions};
    if (!cross_attn.is_empty()) {
      add_gated_part(x_FSD, part, cross_attn->run(x_FSD, part, context.grid.frames, *prompt), {});
    }
    const Tensor normed =
        modulate_part(x_FSD, part, modulation_R6D.select(1, 3), modulation_R6D.select(1, 4), eps_);
    Tensor hidden = mlp->fc1->forward(normed);
    gelu_inplace(hidden);
    add_gated_part(x_FSD, part, mlp->fc2->forward(hidden), modulation_R6D.select(1, 5));
  }
}

Tensor spread_vectors(const Tensor& vector_RD, std::int64_t batch) {
  return vector_RD.view({batch, vector_RD.size(0) / batch, 1, vector_RD.size(1)});
}

Tensor modulate(const Tensor& x_BTSD, const Tensor& shift_RD, const Tensor& scale_RD, double eps) {
  const std::array<std::int64_t, 1> shape = {x_BTSD.size(-1)};
  const std::int64_t batch = x_BTSD.size(0);
  return at::layer_norm(x_BTSD, shape, {}, {}, eps) * (spread_vectors(scale_RD, batch) + 1.0) +
         spread_vectors(shift_RD, batch);
}

}  // namespace kinema::dit
