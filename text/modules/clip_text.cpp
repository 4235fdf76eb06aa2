// SPDX-License-Identifier: Apache-2.0
#include "text/modules/clip_text.h"

#include <cmath>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/triu.h>
#include <ATen/ops/where.h>

namespace kinema::text {
namespace {

/// Causal mask, and padding keys where mask_BM is 0, as values to add to logits. A row without any
/// visible key (padding before the text) sees all keys alike instead of dividing by zero.
/// @return [M, M] without mask_BM, else [B, 1, M, M]; fp32.
Tensor attention_mask(const Tensor& ids_BM, const Tensor& mask_BM) {
  const std::int64_t length = ids_BM.size(1);
  const auto flags = at::TensorOptions().dtype(at::kBool).device(ids_BM.device());
  Tensor hidden = at::full({length, length}, true, flags).triu(1);
  if (mask_BM.defined()) {
    hidden = hidden.logical_or(mask_BM.eq(0).unsqueeze(1).unsqueeze(1));
  }
  return hidden.to(at::kFloat) * static_cast<double>(std::numeric_limits<float>::lowest());
}

}  // namespace

ClipTextEmbeddingsImpl::ClipTextEmbeddingsImpl(const ClipTextConfig& config,
                                               const nn::ParameterOptions& options)
    : token_embedding(register_module(
          "token_embedding", nn::Embedding(config.vocab_size, config.hidden_size, options))),
      position_embedding(register_module(
          "position_embedding",
          nn::Embedding(config.max_position_embeddings, config.hidden_size, options))) {}

Tensor ClipTextEmbeddingsImpl::forward(const Tensor& ids_BM) const {
  const Tensor positions_MD = position_embedding->weight.narrow(0, 0, ids_BM.size(1));
  return token_embedding->forward(ids_BM).to(at::kFloat) + positions_MD.to(at::kFloat);
}

ClipAttentionImpl::ClipAttentionImpl(const ClipTextConfig& config,
                                     const nn::ParameterOptions& options)
    : num_heads_(config.num_attention_heads) {
  const std::int64_t width = config.hidden_size;
  k_proj = register_module("k_proj", nn::Linear(width, width, /*has_bias=*/true, options));
  v_proj = register_module("v_proj", nn::Linear(width, width, /*has_bias=*/true, options));
  q_proj = register_module("q_proj", nn::Linear(width, width, /*has_bias=*/true, options));
  out_proj = register_module("out_proj", nn::Linear(width, width, /*has_bias=*/true, options));
}

Tensor ClipAttentionImpl::forward(const Tensor& x_BMD, const Tensor& mask) const {
  const auto heads = [this](const Tensor& all_BMD) {
    return all_BMD
        .view({all_BMD.size(0), all_BMD.size(1), num_heads_, all_BMD.size(2) / num_heads_})
        .transpose(1, 2);
  };
  const Tensor mixed_BNMK = at::scaled_dot_product_attention(heads(q_proj->forward(x_BMD)),
                                                             heads(k_proj->forward(x_BMD)),
                                                             heads(v_proj->forward(x_BMD)),
                                                             mask.to(x_BMD.scalar_type()));
  return out_proj->forward(mixed_BNMK.transpose(1, 2).reshape(x_BMD.sizes()));
}

ClipMlpImpl::ClipMlpImpl(const ClipTextConfig& config, const nn::ParameterOptions& options)
    : fc1(register_module(
          "fc1",
          nn::Linear(config.hidden_size, config.intermediate_size, /*has_bias=*/true, options))),
      fc2(register_module(
          "fc2",
          nn::Linear(config.intermediate_size, config.hidden_size, /*has_bias=*/true, options))),
      activation_(config.hidden_act) {}

Tensor ClipMlpImpl::forward(const Tensor& x_BMD) const {
  return fc2->forward(nn::activate(fc1->forward(x_BMD), activation_));
}

ClipLayerImpl::ClipLayerImpl(const ClipTextConfig& config, const nn::ParameterOptions& options)
    : self_attn(register_module("self_attn", ClipAttention(config, options))),
      layer_norm1(register_module(
          "layer_norm1", nn::LayerNorm(config.hidden_size, config.layer_norm_eps, options))),
      layer_norm2(register_module(
          "layer_norm2", nn::LayerNorm(config.hidden_size, config.layer_norm_eps, options))),
      mlp(register_module("mlp", ClipMlp(config, options))) {}

Tensor ClipLayerImpl::forward(const Tensor& hidden_BMD,
                              const Tensor& mask,
                              c10::ScalarType dtype) const {
  const Tensor middle_BMD =
      hidden_BMD + self_attn->forward(layer_norm1->forward(hidden_BMD).to(dtype), mask);
  return middle_BMD + mlp->forward(layer_norm2->forward(middle_BMD).to(dtype));
}

ClipTextTransformerImpl::ClipTextTransformerImpl(const ClipTextConfig& config,
                                                 const nn::ParameterOptions& options)
    : embeddings(register_module("embeddings", ClipTextEmbeddings(config, options))),
      final_layer_norm(register_module(
          "final_layer_norm", nn::LayerNorm(config.hidden_size, config.layer_norm_eps, options))) {
  torch::nn::ModuleList list;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers.push_back(ClipLayer(config, options));
    list->push_back(layers.back());
  }
  auto encoder = std::make_shared<torch::nn::Module>();
  encoder->register_module("layers", list);
  register_module("encoder", encoder);
}

ClipTextTransformerImpl::Output ClipTextTransformerImpl::forward(const Tensor& ids_BM,
                                                                 const Tensor& mask_BM,
                                                                 c10::ScalarType dtype) const {
  const Tensor mask = attention_mask(ids_BM, mask_BM);
  Tensor hidden_BMD = embeddings->forward(ids_BM);
  Tensor penultimate_BMD;
  for (const ClipLayer& layer : layers) {
    penultimate_BMD = hidden_BMD;
    hidden_BMD = layer->forward(hidden_BMD, mask, dtype);
  }
  return {.last_BMD = final_layer_norm->forward(hidden_BMD), .penultimate_BMD = penultimate_BMD};
}

ClipTextRootImpl::ClipTextRootImpl(const ClipTextConfig& config,
                                   const nn::ParameterOptions& options)
    : text_model(register_module("text_model", ClipTextTransformer(config, options))) {
  if (config.has_projection) {
    text_projection = register_module(
        "text_projection",
        nn::Linear(config.hidden_size, config.projection_dim, /*has_bias=*/false, options));
  }
}

Tensor clip_pooled_position(const Tensor& ids_BM, std::int64_t eos_token_id) {
  constexpr std::int64_t kLegacyEos = 2;
  if (eos_token_id == kLegacyEos) {
    return ids_BM.argmax(1);
  }
  // argmax of equal values gives the first; a row without the token gives position 0.
  return ids_BM.eq(eos_token_id).to(at::kInt).argmax(1);
}

// Compared with transformers CLIPTextModel and CLIPTextModelWithProjection (tests/golden/text).

}  // namespace kinema::text
