// SPDX-License-Identifier: Apache-2.0
// Transformer blocks of all VDiT layouts. One tensor order serves spatial, temporal and full
// attention: frames, positions, channels; attention over either axis is a matter of strides.
//
// Each part has two ways to run: forward() is differentiable and makes no assumption; run() changes
// the residual stream in place, part by part, for inference.
//
// Letters: B batch, T frames, S positions, D width, N heads, K head width, M text tokens, R vectors
// of modulation (B, or B * T when frames have times of their own).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/attention/kv_store.h"
#include "core/attention/rotary.h"
#include "core/diffusion/windows.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "dit/modules/embedders.h"
#include "dit/modules/fused_ops.h"

namespace kinema::dit {

/// Which tokens see each other.
enum class Axis {
  kSpatial,   ///< those of one frame
  kTemporal,  ///< those at one position
  kFull,      ///< all of one video
};

/// In which steps inference goes through a video. The result does not depend on it.
struct ExecutionGroups {
  std::int64_t frames = 0;     ///< frames per step of what happens inside frames; 0: chosen
  std::int64_t positions = 0;  ///< positions per step of temporal attention; 0: chosen
};

/// Windows that cover all frames, and the normalised weights of their frames (FreeNoise, arXiv
/// 2310.15169: triangular).
struct TemporalWindows {
  std::vector<diffusion::Window> windows;
  std::vector<std::vector<double>> weights;
};

/// What all blocks of one forward pass share.
struct BlockContext {
  Grid grid{};
  Tensor modulation_R6D;           ///< shift, scale, gate of attention, then of the MLP
  Tensor temporal_modulation_R3D;  ///< stdit2: of temporal attention
  const attention::RotaryTable* rotary = nullptr;  ///< temporal or full attention
  ExecutionGroups groups{};
  /// run(): temporal attention in these windows of frames, averaged; fewer than two: in one piece.
  const TemporalWindows* windows = nullptr;
};

struct AttentionOptions {
  std::int64_t width = 0;
  std::int64_t num_heads = 0;
  bool qk_norm = false;
  bool rotate_before_norm = false;
  double eps = 1e-6;
  Axis axis = Axis::kSpatial;
};

/// "qkv", "proj", and with qk_norm "q_norm", "k_norm".
class SelfAttentionImpl final : public torch::nn::Module {
 public:
  explicit SelfAttentionImpl(const AttentionOptions& options,
                             const nn::ParameterOptions& parameters = {});

  /// @param x_BTSD  @param rotary  of the axis, or null.  @return [B, T, S, D].
  [[nodiscard]] Tensor forward(const Tensor& x_BTSD, const attention::RotaryTable* rotary) const;
  /// x += gate attention(modulate(x)), x being [B * T, S, D].
  void run(Tensor& x_FSD,
           const BlockContext& context,
           const Tensor& shift_RD,
           const Tensor& scale_RD,
           const Tensor& gate_RD) const;

  nn::Linear qkv{nullptr};
  nn::Linear proj{nullptr};
  nn::RmsNorm q_norm{nullptr};  ///< empty without qk_norm
  nn::RmsNorm k_norm{nullptr};

 private:
  [[nodiscard]] Tensor attend_part(Tensor qkv_fsE,
                                   const BlockContext& context,
                                   const QueryKeyRule& rule) const;

  AttentionOptions options_;
};
TORCH_MODULE(SelfAttention);

/// Prompt keys and values of one block, sample by sample, without padding.
using PromptStores = std::vector<attention::KvStore>;

/// Projected text of a batch for the differentiable way: padded, with a mask.
struct PromptContext {
  Tensor context_BMD;
  Tensor log_weight_BM;  ///< undefined: all tokens count
};

/// "q_linear", "kv_linear", "proj".
class CrossAttentionImpl final : public torch::nn::Module {
 public:
  CrossAttentionImpl(std::int64_t width,
                     std::int64_t num_heads,
                     const nn::ParameterOptions& parameters = {});

  [[nodiscard]] Tensor forward(const Tensor& x_BTSD, const PromptContext& prompt) const;
  /// @param context_PD  rows of all samples, one after another.  @param lengths  rows of each.
  [[nodiscard]] PromptStores project(const Tensor& context_PD,
                                     const std::vector<std::int64_t>& lengths) const;
  /// The value to add to the part of x.
  [[nodiscard]] Tensor run(const Tensor& x_FSD,
                           const Part& part,
                           std::int64_t frames_per_sample,
                           const PromptStores& prompt) const;

  nn::Linear q_linear{nullptr};
  nn::Linear kv_linear{nullptr};
  nn::Linear proj{nullptr};

 private:
  std::int64_t num_heads_;
};
TORCH_MODULE(CrossAttention);

struct BlockOptions {
  AttentionOptions attention{};
  std::int64_t mlp_width = 0;
  bool second_attention = false;  ///< stdit2: "attn_temp" after "attn"
  bool cross_attention = true;
};

/// "scale_shift_table" [6, D], "attn", "cross_attn", "mlp"; stdit2 also
/// "scale_shift_table_temporal" [3, D] and "attn_temp".
class BlockImpl final : public torch::nn::Module {
 public:
  explicit BlockImpl(const BlockOptions& options, const nn::ParameterOptions& parameters = {});

  /// @param prompt  null for blocks without cross-attention.
  [[nodiscard]] Tensor forward(const Tensor& x_BTSD,
                               const BlockContext& context,
                               const PromptContext* prompt) const;
  /// The same on x itself. @param prompt  null for blocks without cross-attention.
  void run(Tensor& x_FSD, const BlockContext& context, const PromptStores* prompt) const;

  Tensor scale_shift_table;
  Tensor scale_shift_table_temporal;
  SelfAttention attn{nullptr};
  SelfAttention attn_temp{nullptr};
  CrossAttention cross_attn{nullptr};
  Mlp mlp{nullptr};

 private:
  void run_tail(Tensor& x_FSD,
                const BlockContext& context,
                const Tensor& modulation_R6D,
                const PromptStores* prompt) const;

  double eps_;
};
TORCH_MODULE(Block);

/// LayerNorm(x) (1 + scale) + shift. @param x_BTSD  @param shift_RD, scale_RD  R = B or B * T.
[[nodiscard]] Tensor modulate(const Tensor& x_BTSD,
                              const Tensor& shift_RD,
                              const Tensor& scale_RD,
                              double eps);
/// [R, D] -> [B, 1 or T, 1, D].
[[nodiscard]] Tensor spread_vectors(const Tensor& vector_RD, std::int64_t batch);

}  // namespace kinema::dit
