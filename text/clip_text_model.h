// SPDX-License-Identifier: Apache-2.0
// The text encoder of CLIP from a Hugging Face folder, as Stable Diffusion and its relatives use
// it. "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020).
//
//   const auto clip = ClipTextModel::load(ModelFiles::in("model/text_encoder"), place);
//   const TextEncoding text = clip->encode(input_ids_BM);   // context, penultimate, pooled
#pragma once

#include <memory>
#include <optional>

#include "text/clip_text_config.h"
#include "text/text_encoder.h"

namespace kinema::text {

/// Attention is causal; without a mask, padding behind the text changes nothing before it. With a
/// mask, padding keys are hidden and all rows are computed.
class ClipTextModel final : public TextEncoder {
 public:
  ~ClipTextModel() override;

  /// Loads CLIPTextModel, CLIPTextModelWithProjection or the text side of a whole CLIPModel.
  static std::unique_ptr<ClipTextModel> load(const ModelFiles& files,
                                             const tensor::Place& place,
                                             Logger& logger = null_logger());

  /// Fills context_BMD, penultimate_BMD, pooled_BD, and projected_BP when the weights have a
  /// projection.
  [[nodiscard]] TextEncoding encode(
      const Tensor& input_ids_BM,
      const std::optional<Tensor>& attention_mask_BM = std::nullopt) const override;
  [[nodiscard]] const TextEncoderInfo& info() const noexcept override;
  [[nodiscard]] const ClipTextConfig& config() const noexcept;

 private:
  struct Impl;
  explicit ClipTextModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::text
