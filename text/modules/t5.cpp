// SPDX-License-Identifier: Apache-2.0
#include "text/modules/t5.h"

#include <cmath>
#include <optional>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/where.h>

namespace kinema::text {

Tensor t5_position_bucket(const Tensor& relative_position,
                          bool bidirectional,
                          std::int64_t num_buckets,
                          std::int64_t max_distance) {
  Tensor distance;
  Tensor offset;
  if (bidirectional) {
    num_buckets /= 2;
    offset = relative_position.gt(0).to(at::kLong) * num_buckets;
    distance = relative_position.abs();
  } else {
    distance = relative_position.neg().clamp_min(0);
    offset = at::zeros_like(distance);
  }
  const std::int64_t num_exact = num_buckets / 2;
  // In fp32 and in this order: where the logarithm meets an integer the truncation depends on it.
  const double log_range =
      std::log(static_cast<double>(max_distance) / static_cast<double>(num_exact));
  const Tensor ratio = distance.clamp_min(1).to(at::kFloat) / static_cast<double>(num_exact);
  const Tensor steps = ratio.log() / log_range * static_cast<double>(num_buckets - num_exact);
  const Tensor far = (steps.to(at::kLong) + num_exact).clamp_max(num_buckets - 1);
  return offset + at::where(distance < num_exact, distance, far);
}

T5SelfAttentionImpl::T5SelfAttentionImpl(const T5Config& config,
                                         bool has_bias_table,
                                         const nn::ParameterOptions& options)
    : num_heads_(config.num_heads),
      d_kv_(config.d_kv),
      num_buckets_(config.relative_attention_num_buckets),
      max_distance_(config.relative_attention_max_distance) {
  const std::int64_t inner = num_heads_ * d_kv_;
  q = register_module("q", nn::Linear(config.d_model, inner, /*has_bias=*/false, options));
  k = register_module("k", nn::Linear(config.d_model, inner, /*has_bias=*/false, options));
  v = register_module("v", nn::Linear(config.d_model, inner, /*has_bias=*/false, options));
  o = register_module("o", nn::Linear(inner, config.d_model, /*has_bias=*/false, options));
  if (has_bias_table) {
    relative_attention_bias = register_module("relative_attention_bias",
                                              nn::Embedding(num_buckets_, num_heads_, options));
  }
}

Tensor T5SelfAttentionImpl::position_bias(std::int64_t length) const {
  const Tensor& table = relative_attention_bias->weight;
  const auto ids = at::TensorOptions().dtype(at::kLong).device(table.device());
  // One value per head and distance -(length-1) .. length-1; row i of the bias is the window of
  // `length` values that starts at distance -i, that is at index length-1-i.
  const Tensor distance = at::arange(1 - length, length, ids);
  const Tensor bucket =
      t5_position_bucket(distance, /*bidirectional=*/true, num_buckets_, max_distance_);
  const Tensor by_distance = relative_attention_bias->forward(bucket).to(at::kFloat).t();
  return by_distance.unfold(1, length, 1).flip(1);
}

Tensor T5SelfAttentionImpl::forward(const Tensor& x_TD,
                                    const PackedRows& rows,
                                    const Tensor& bias_NMM) const {
  const auto attend =
      [](const Tensor& q_BNMK, const Tensor& k_BNMK, const Tensor& v_BNMK, const Tensor& bias) {
        return at::scaled_dot_product_attention(
            q_BNMK, k_BNMK, v_BNMK, bias, /*dropout_p=*/0.0, /*is_causal=*/false, /*scale=*/1.0);
      };
  const Tensor q_TD = q->forward(x_TD);
  const Tensor k_TD = k->forward(x_TD);
  const Tensor v_TD = v->forward(x_TD);
  const auto heads =
      [&](const Tensor& all_TD, std::int64_t begin, std::int64_t batch, std::int64_t length) {
        return all_TD.narrow(0, begin, batch * length)
            .view({batch, length, num_heads_, d_kv_})
            .transpose(1, 2);
      };
  Tensor mixed_TD;
  if (rows.is_dense()) {
    const std::int64_t batch = rows.batch;
    const Tensor bias = bias_NMM.narrow(1, 0, rows.length).narrow(2, 0, rows.length);
    mixed_TD = attend(heads(q_TD, 0, batch, rows.length),
                      heads(k_TD, 0, batch, rows.length),
                      heads(v_TD, 0, batch, rows.length),
                      bias.unsqueeze(0).expand({batch, -1, -1, -1}))
                   .transpose(1, 2)
                   .reshape(q_TD.sizes());
  } else {
    mixed_TD = at::empty_like(q_TD);
    for (const PackedRows::Row& row : rows.rows) {
      if (row.count == 0) {
        continue;
      }
      Tensor bias = bias_NMM.narrow(1, 0, row.count).narrow(2, 0, row.count);
      if (row.positions.defined()) {
        const Tensor positions = row.positions.to(bias_NMM.device());
        bias = bias_NMM.index_select(1, positions).index_select(2, positions);
      }
      const Tensor mixed = attend(heads(q_TD, row.begin, 1, row.count),
                                  heads(k_TD, row.begin, 1, row.count),
                                  heads(v_TD, row.begin, 1, row.count),
                                  bias.unsqueeze(0));
      mixed_TD.narrow(0, row.begin, row.count)
          .view({1, row.count, num_heads_, d_kv_})
          .copy_(mixed.transpose(1, 2));
    }
  }
  return o->forward(mixed_TD);
}

T5DenseImpl::T5DenseImpl(const T5Config& config, const nn::ParameterOptions& options)
    : activation_(config.activation) {
  if (config.is_gated) {
    wi_0 = register_module("wi_0",
                           nn::Linear(config.d_model, config.d_ff, /*has_bias=*/false, options));
    wi_1 = register_module("wi_1",
                           nn::Linear(config.d_model, config.d_ff, /*has_bias=*/false, options));
  } else {
    wi =
        register_module("wi", nn::Linear(config.d_model, config.d_ff, /*has_bias=*/false, options));
  }
  wo = register_module("wo", nn::Linear(config.d_ff, config.d_model, /*has_bias=*/false, options));
}

Tensor T5DenseImpl::forward(const Tensor& x_TD) const {
  Tensor inner = nn::activate(wi.is_empty() ? wi_0->forward(x_TD) : wi->forward(x_TD), activation_);
  if (wi.is_empty()) {
    inner = inner * wi_1->forward(x_TD);
  }
  return wo->forward(inner);
}

T5AttentionLayerImpl::T5AttentionLayerImpl(const T5Config& config,
                                           bool has_bias_table,
                                           const nn::ParameterOptions& options)
    : SelfAttention(
          register_module("SelfAttention", T5SelfAttention(config, has_bias_table, options))),
      layer_norm(register_module(
          "layer_norm", nn::RmsNorm(config.d_model, config.layer_norm_epsilon, options))) {}

T5DenseLayerImpl::T5DenseLayerImpl(const T5Config& config, const nn::ParameterOptions& options)
    : DenseReluDense(register_module("DenseReluDense", T5Dense(config, options))),
      layer_norm(register_module(
          "layer_norm", nn::RmsNorm(config.d_model, config.layer_norm_epsilon, options))) {}

T5BlockImpl::T5BlockImpl(const T5Config& config,
                         bool has_bias_table,
                         const nn::ParameterOptions& options)
    : attention(config, has_bias_table, options), dense(config, options) {
  torch::nn::ModuleList layer;
  layer->push_back(attention);
  layer->push_back(dense);
  register_module("layer", layer);
}

Tensor T5BlockImpl::forward(const Tensor& hidden_TD,
                            const PackedRows& rows,
                            const Tensor& bias_NMM,
                            c10::ScalarType dtype) const {
  const Tensor attended_TD = attention->SelfAttention->forward(
      attention->layer_norm->forward(hidden_TD).to(dtype), rows, bias_NMM);
  const Tensor middle_TD = hidden_TD + attended_TD;
  const Tensor dense_TD =
      dense->DenseReluDense->forward(dense->layer_norm->forward(middle_TD).to(dtype));
  return middle_TD + dense_TD;
}

T5StackImpl::T5StackImpl(const T5Config& config, const nn::ParameterOptions& options) {
  torch::nn::ModuleList block;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    blocks.push_back(T5Block(config, /*has_bias_table=*/i == 0 || config.per_block_bias, options));
    block->push_back(blocks.back());
  }
  register_module("block", block);
  final_layer_norm = register_module(
      "final_layer_norm", nn::RmsNorm(config.d_model, config.layer_norm_epsilon, options));
}

Tensor T5StackImpl::forward(Tensor hidden_TD, const PackedRows& rows, c10::ScalarType dtype) const {
  hidden_TD = hidden_TD.to(at::kFloat);
  Tensor bias_NMM;
  for (const T5Block& block : blocks) {
    const T5SelfAttention& attention = block->attention->SelfAttention;
    if (attention->has_bias_table()) {
      bias_NMM = attention->position_bias(rows.span()).to(dtype);
    }
    hidden_TD = block->forward(hidden_TD, rows, bias_NMM, dtype);
  }
  return final_layer_norm->forward(hidden_TD);
}

T5EncoderModelImpl::T5EncoderModelImpl(const T5Config& config, const nn::ParameterOptions& options)
    : shared(register_module("shared", nn::Embedding(config.vocab_size, config.d_model, options))),
      encoder(register_module("encoder", T5Stack(config, options))) {}

Tensor T5EncoderModelImpl::forward(const Tensor& ids_T,
                                   const PackedRows& rows,
                                   c10::ScalarType dtype) const {
  return encoder->forward(shared->forward(ids_T), rows, dtype);
}

// Parameters: t5-v1_1-xxl encoder 4,762,310,656; t5-v1_1-small encoder 35,332,800.
// Compared with transformers T5EncoderModel and UMT5EncoderModel (tests/golden/text).

}  // namespace kinema::text
