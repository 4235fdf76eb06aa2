// SPDX-License-Identifier: Apache-2.0
// The text tower of CLIP (arXiv 2103.00020, section 2.4): a causal pre-norm transformer. Registered
// names are those of the public checkpoints.
//
// Letters: B batch, M tokens, D model width, N heads, K head width, P projection width.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "core/nn/embedding.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "text/clip_text_config.h"

namespace kinema::text {

class ClipTextEmbeddingsImpl final : public torch::nn::Module {
 public:
  ClipTextEmbeddingsImpl(const ClipTextConfig& config, const nn::ParameterOptions& options);
  /// @param ids_BM int64.  @return [B, M, D], dtype of the weights.
  [[nodiscard]] Tensor forward(const Tensor& ids_BM) const;

  nn::Embedding token_embedding{nullptr}, position_embedding{nullptr};
};
TORCH_MODULE(ClipTextEmbeddings);

class ClipAttentionImpl final : public torch::nn::Module {
 public:
  ClipAttentionImpl(const ClipTextConfig& config, const nn::ParameterOptions& options);
  /// @param x_BMD     normed tokens.
  /// @param mask      added to the logits, [M, M] or [B, 1, M, M].   @return [B, M, D].
  [[nodiscard]] Tensor forward(const Tensor& x_BMD, const Tensor& mask) const;

  nn::Linear k_proj{nullptr}, v_proj{nullptr}, q_proj{nullptr}, out_proj{nullptr};

 private:
  std::int64_t num_heads_;
};
TORCH_MODULE(ClipAttention);

class ClipMlpImpl final : public torch::nn::Module {
 public:
  ClipMlpImpl(const ClipTextConfig& config, const nn::ParameterOptions& options);
  [[nodiscard]] Tensor forward(const Tensor& x_BMD) const;

  nn::Linear fc1{nullptr}, fc2{nullptr};

 private:
  nn::Activation activation_;
};
TORCH_MODULE(ClipMlp);

class ClipLayerImpl final : public torch::nn::Module {
 public:
  ClipLayerImpl(const ClipTextConfig& config, const nn::ParameterOptions& options);
  /// @param hidden_BMD  residual stream, fp32.  @param dtype  of the matrix products.  @return
  /// fp32.
  [[nodiscard]] Tensor forward(const Tensor& hidden_BMD,
                               const Tensor& mask,
                               c10::ScalarType dtype) const;

  ClipAttention self_attn{nullptr};
  nn::LayerNorm layer_norm1{nullptr}, layer_norm2{nullptr};
  ClipMlp mlp{nullptr};
};
TORCH_MODULE(ClipLayer);

class ClipTextTransformerImpl final : public torch::nn::Module {
 public:
  ClipTextTransformerImpl(const ClipTextConfig& config, const nn::ParameterOptions& options);

  struct Output {
    Tensor last_BMD;         ///< after the final norm
    Tensor penultimate_BMD;  ///< what goes into the last block
  };
  /// @param ids_BM  int64.   @param mask_BM  int64 1 for text, or undefined.
  /// @return fp32 tensors.
  [[nodiscard]] Output forward(const Tensor& ids_BM,
                               const Tensor& mask_BM,
                               c10::ScalarType dtype) const;

  ClipTextEmbeddings embeddings{nullptr};
  std::vector<ClipLayer> layers;
  nn::LayerNorm final_layer_norm{nullptr};
};
TORCH_MODULE(ClipTextTransformer);

/// The root: names start with "text_model." and "text_projection.".
class ClipTextRootImpl final : public torch::nn::Module {
 public:
  explicit ClipTextRootImpl(const ClipTextConfig& config, const nn::ParameterOptions& options = {});

  ClipTextTransformer text_model{nullptr};
  nn::Linear text_projection{nullptr};  ///< empty without a projection
};
TORCH_MODULE(ClipTextRoot);

/// Position in each row whose hidden state stands for the text: the first `eos_token_id`; for the
/// id 2, which old configs state wrongly, the largest id of the row. @return [B] int64.
[[nodiscard]] Tensor clip_pooled_position(const Tensor& ids_BM, std::int64_t eos_token_id);

}  // namespace kinema::text
