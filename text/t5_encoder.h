// SPDX-License-Identifier: Apache-2.0
// T5, T5 v1.1 and UMT5 text encoders from Hugging Face folders. The paper: "Exploring the Limits of
// Transfer Learning with a Unified Text-to-Text Transformer" (arXiv 1910.10683); UMT5: arXiv
// 2304.09151.
//
//   const auto encoder = T5Encoder::load(ModelFiles::in("model/text_encoder"), {c10::kCPU,
//   c10::kFloat}); const Tensor context_BMD = encoder->encode(input_ids_BM,
//   attention_mask_BM).context_BMD;
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "text/t5_config.h"
#include "text/text_encoder.h"

namespace kinema::text {

class T5Encoder final : public TextEncoder {
 public:
  ~T5Encoder() override;

  /// Loads an encoder-only or a whole T5 checkpoint (decoder and lm_head are left alone), one file
  /// or shards. place.dtype must be fp32 or bf16: fp16 overflows inside T5, kUnsupported
  /// [text.fp16]. See TextEncoder::load for the rest.
  static std::unique_ptr<T5Encoder> load(const ModelFiles& files,
                                         const tensor::Place& place,
                                         Logger& logger = null_logger());

  [[nodiscard]] TextEncoding encode(
      const Tensor& input_ids_BM,
      const std::optional<Tensor>& attention_mask_BM = std::nullopt) const override;
  [[nodiscard]] const TextEncoderInfo& info() const noexcept override;
  [[nodiscard]] const T5Config& config() const noexcept;

 private:
  struct Impl;
  explicit T5Encoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::text
