// SPDX-License-Identifier: Apache-2.0
// The T5 encoder (arXiv 1910.10683; v1.1 and its gated GELU: arXiv 2002.05202; UMT5: arXiv
// 2304.09151). Registered names are those of the public checkpoints, so that one loader serves all
// of them.
//
// Pre-norm residual blocks, RMS norms, no biases in any projection, no scaling of q k^T, and
// instead of absolute positions a learned bias per head and distance bucket, added to the attention
// logits.
//
// Letters: T kept tokens of a batch, D model width, N heads, K head width, M longest text.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "core/nn/embedding.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "text/modules/packed_rows.h"
#include "text/t5_config.h"

namespace kinema::text {

/// Bucket of each distance key - query: exact for small distances, logarithmic up to
/// `max_distance`, one bucket for all beyond. Half of the buckets are for keys behind the query
/// when bidirectional.
/// @param relative_position  any shape, int64.  @return same shape, int64 in [0, num_buckets).
[[nodiscard]] Tensor t5_position_bucket(const Tensor& relative_position,
                                        bool bidirectional,
                                        std::int64_t num_buckets,
                                        std::int64_t max_distance);

class T5SelfAttentionImpl final : public torch::nn::Module {
 public:
  T5SelfAttentionImpl(const T5Config& config,
                      bool has_bias_table,
                      const nn::ParameterOptions& options);

  /// Bias of every head for all pairs of positions below `length`. @return [N, length, length],
  /// fp32.
  [[nodiscard]] Tensor position_bias(std::int64_t length) const;

  /// @param x_TD      normed tokens of all rows.
  /// @param bias_NMM  dtype of x_TD, M >= rows.span().
  /// @return [T, D].
  [[nodiscard]] Tensor forward(const Tensor& x_TD,
                               const PackedRows& rows,
                               const Tensor& bias_NMM) const;

  [[nodiscard]] bool has_bias_table() const { return !relative_attention_bias.is_empty(); }

  nn::Linear q{nullptr}, k{nullptr}, v{nullptr}, o{nullptr};
  nn::Embedding relative_attention_bias{nullptr};

 private:
  std::int64_t num_heads_, d_kv_, num_buckets_, max_distance_;
};
TORCH_MODULE(T5SelfAttention);

/// act(x wi) wo, or (act(x wi_0) * (x wi_1)) wo when gated.
class T5DenseImpl final : public torch::nn::Module {
 public:
  T5DenseImpl(const T5Config& config, const nn::ParameterOptions& options);
  /// @param x_TD normed tokens.  @return [T, D].
  [[nodiscard]] Tensor forward(const Tensor& x_TD) const;

  nn::Linear wi{nullptr}, wi_0{nullptr}, wi_1{nullptr}, wo{nullptr};

 private:
  nn::Activation activation_;
};
TORCH_MODULE(T5Dense);

/// "layer.0" of a block.
class T5AttentionLayerImpl final : public torch::nn::Module {
 public:
  T5AttentionLayerImpl(const T5Config& config,
                       bool has_bias_table,
                       const nn::ParameterOptions& options);
  T5SelfAttention SelfAttention{nullptr};
  nn::RmsNorm layer_norm{nullptr};
};
TORCH_MODULE(T5AttentionLayer);

/// "layer.1" of a block.
class T5DenseLayerImpl final : public torch::nn::Module {
 public:
  T5DenseLayerImpl(const T5Config& config, const nn::ParameterOptions& options);
  T5Dense DenseReluDense{nullptr};
  nn::RmsNorm layer_norm{nullptr};
};
TORCH_MODULE(T5DenseLayer);

class T5BlockImpl final : public torch::nn::Module {
 public:
  T5BlockImpl(const T5Config& config, bool has_bias_table, const nn::ParameterOptions& options);
  /// @param hidden_TD  residual stream, fp32.   @param dtype  of the matrix products.
  /// @return [T, D], fp32.
  [[nodiscard]] Tensor forward(const Tensor& hidden_TD,
                               const PackedRows& rows,
                               const Tensor& bias_NMM,
                               c10::ScalarType dtype) const;

  T5AttentionLayer attention{nullptr};
  T5DenseLayer dense{nullptr};
};
TORCH_MODULE(T5Block);

class T5StackImpl final : public torch::nn::Module {
 public:
  T5StackImpl(const T5Config& config, const nn::ParameterOptions& options);
  /// @param hidden_TD  embedded tokens.  @return [T, D], fp32, after the final norm.
  [[nodiscard]] Tensor forward(Tensor hidden_TD,
                               const PackedRows& rows,
                               c10::ScalarType dtype) const;

  std::vector<T5Block> blocks;
  nn::RmsNorm final_layer_norm{nullptr};
};
TORCH_MODULE(T5Stack);

/// The root: names start with "shared." and "encoder.".
class T5EncoderModelImpl final : public torch::nn::Module {
 public:
  explicit T5EncoderModelImpl(const T5Config& config, const nn::ParameterOptions& options = {});

  /// @param ids_T  tokens of all rows, int64.   @param dtype  of the matrix products, fp32 or bf16.
  /// @return [T, D], fp32.
  [[nodiscard]] Tensor forward(const Tensor& ids_T,
                               const PackedRows& rows,
                               c10::ScalarType dtype) const;

  nn::Embedding shared{nullptr};
  T5Stack encoder{nullptr};
};
TORCH_MODULE(T5EncoderModel);

}  // namespace kinema::text
