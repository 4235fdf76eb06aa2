// SPDX-License-Identifier: Apache-2.0
// The video diffusion transformer as a module: xGen-VideoSyn-1 (arXiv 2408.12590) and Open-Sora
// 1.1 (layout stdit2), Open-Sora 1.2 (stdit3), PixArt-alpha and PixArt-Sigma (arXiv 2310.00426,
// 2403.04692), Latte (arXiv 2401.03048), and full attention over small videos.
//
//   VDiT model(config);
//   init_weights(*model, seed);
//   const Tensor prediction = model->forward(latents_BCTHW, timesteps, conditioning);  // trains
//
// Letters: B batch, C channels, T frames, H W rows and columns, M text tokens, D width, R vectors
// of modulation.
#pragma once

#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "core/diffusion/denoiser.h"
#include "core/tensor/tensor.h"
#include "dit/modules/blocks.h"
#include "dit/modules/embedders.h"
#include "dit/vdit_config.h"

namespace kinema::dit {

/// Prompt keys and values of every block with cross-attention, for one batch of prompts. They
/// depend on the text alone, so one cache serves all steps and all windows of a video.
class PromptCache {
 public:
  PromptCache() = default;
  PromptCache(std::vector<PromptStores> blocks, std::int64_t batch)
      : blocks_(std::move(blocks)), batch_(batch) {}

  [[nodiscard]] std::int64_t batch() const noexcept { return batch_; }
  [[nodiscard]] const PromptStores& block(std::size_t index) const { return blocks_.at(index); }
  [[nodiscard]] std::int64_t num_bytes() const noexcept;

 private:
  std::vector<PromptStores> blocks_;  ///< in the order in which the blocks run
  std::int64_t batch_ = 0;
};

/// "linear" and "scale_shift_table" [2, D].
class FinalLayerImpl final : public torch::nn::Module {
 public:
  FinalLayerImpl(std::int64_t width,
                 std::int64_t out,
                 double eps,
                 const nn::ParameterOptions& options = {});
  [[nodiscard]] Tensor forward(const Tensor& x_BTSD, const Tensor& condition_RD) const;
  /// The same with the fused kernels; x is [B * T, S, D].
  [[nodiscard]] Tensor run(const Tensor& x_FSD, const Tensor& condition_RD) const;

  nn::Linear linear{nullptr};
  Tensor scale_shift_table;

 private:
  double eps_;
};
TORCH_MODULE(FinalLayer);

class VDiTImpl final : public torch::nn::Module {
 public:
  explicit VDiTImpl(const VDitConfig& config, const nn::ParameterOptions& options = {});

  /// One differentiable pass.
  /// @param latents_BCTHW  @param timesteps  [B] or [B, T], 0 .. 1000, fractions allowed.
  /// @return float32 [B, C or 2 C, T, H, W].
  /// Throws kShapeMismatch [tensor.shape], kInvalidArgument [dit.condition, dit.frames].
  [[nodiscard]] Tensor forward(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               const diffusion::Conditioning& conditioning) const;

  /// The same by fused kernels, group by group, with prompt keys and values from a cache.
  [[nodiscard]] Tensor run(const Tensor& latents_BCTHW,
                           const Tensor& timesteps,
                           const diffusion::Conditioning& conditioning,
                           const PromptCache& prompt,
                           const ExecutionGroups& groups = {},
                           const TemporalWindows* windows = nullptr) const;

  /// @param context_BMD  text features.  @param mask_BM  true where a token counts, or undefined.
  [[nodiscard]] PromptCache make_prompt_cache(const Tensor& context_BMD,
                                              const Tensor& mask_BM) const;

  /// Features of the null caption, [batch, num_tokens, C]: the first rows of "y_embedding".
  /// Throws kInvalidArgument [dit.null_caption] when the model has none or fewer rows.
  [[nodiscard]] Tensor null_context(std::int64_t batch, std::int64_t num_tokens) const;

  /// stdit3, latte: whether temporal blocks run. Without them frames are independent images.
  void set_temporal_blocks(bool enabled) noexcept { temporal_blocks_ = enabled; }

  /// forward() remembers the inputs of blocks only and computes blocks again for their gradients.
  void set_recompute(bool enabled) noexcept { recompute_ = enabled; }

  [[nodiscard]] const VDitConfig& config() const noexcept { return config_; }
  /// In the order in which they run.
  [[nodiscard]] const std::vector<Block>& blocks() const noexcept { return order_; }

  PatchEmbed x_embedder{nullptr};
  ScalarEmbedder t_embedder{nullptr};
  ModulationProjection t_block{nullptr};
  ModulationProjection t_block_temp{nullptr};  ///< stdit2
  CaptionEmbedder y_embedder{nullptr};
  ScalarEmbedder fps_embedder{nullptr};
  ScalarEmbedder fl_embedder{nullptr};     ///< number of frames
  ScalarEmbedder csize_embedder{nullptr};  ///< height and width
  ScalarEmbedder ar_embedder{nullptr};     ///< height / width
  Mlp pooled_embedder{nullptr};
  FinalLayer final_layer{nullptr};

 private:
  /// Everything before the first block.
  struct Prepared {
    Grid grid{};
    Tensor x_BTSD;
    Tensor final_condition_RD;
    Tensor modulation_R6D;
    Tensor temporal_modulation_R3D;
    std::optional<attention::RotaryTable> rotary;
    Tensor frame_positions_TD;  ///< latte, for more than one frame
  };

  void make_blocks(const nn::ParameterOptions& options);
  [[nodiscard]] Prepared prepare(const Tensor& latents_BCTHW,
                                 const Tensor& timesteps,
                                 const diffusion::Conditioning& conditioning) const;
  void embed_conditions(const Tensor& times,
                        const diffusion::Conditioning& conditioning,
                        Prepared& prepared) const;
  [[nodiscard]] Tensor position_table(const Grid& grid,
                                      const diffusion::Conditioning& conditioning) const;
  [[nodiscard]] BlockContext block_context(const Prepared& prepared) const;
  [[nodiscard]] Tensor recomputed_block(std::size_t index,
                                        const Tensor& x_BTSD,
                                        const Prepared& prepared,
                                        const PromptContext& prompt) const;
  [[nodiscard]] bool is_temporal(std::size_t index) const;
  /// Whether block `index` is the first with temporal positions (latte).
  [[nodiscard]] bool adds_frame_positions(std::size_t index) const;

  VDitConfig config_;
  std::vector<Block> order_;
  Tensor rope_freqs_;      ///< the buffer "rope.freqs"
  c10::ScalarType dtype_;  ///< of activations; parameters may be narrower
  bool temporal_blocks_ = true;
  bool recompute_ = false;
};
TORCH_MODULE(VDiT);

}  // namespace kinema::dit
