// SPDX-License-Identifier: Apache-2.0
// Text encoders behind one interface: T5, UMT5 and CLIP text, chosen by config.json.
//
//   const auto encoder = TextEncoder::load("model/text_encoder", parse_place("auto", "auto"));
//   const TextEncoding text = encoder->encode(input_ids_BM, attention_mask_BM);
//   use(text.context_BMD);
//
// Letters: B batch, M text tokens, D model width.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/base/log.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"

namespace kinema::text {

/// What an encoder says about a batch of texts; tensors have the dtype and device of its Place.
struct TextEncoding {
  Tensor context_BMD;                       ///< last hidden state, after the final norm
  std::optional<Tensor> pooled_BD{};        ///< CLIP: the final row at the end-of-text token
  std::optional<Tensor> penultimate_BMD{};  ///< CLIP: before the last block, without the final norm
  std::optional<Tensor>
      projected_BP;  ///< CLIP with text_projection: pooled_BD projected to width P
};

/// Mean of the rows whose mask is not 0, [B, D]: what small T5 models are pooled by.
[[nodiscard]] Tensor mean_of_tokens(const Tensor& context_BMD, const Tensor& mask_BM);

/// Facts for reports and for sizing what reads the context.
struct TextEncoderInfo {
  std::string family;                      ///< "t5", "umt5", "clip_text_model"
  std::int64_t width = 0;                  ///< D
  std::int64_t vocab_size = 0;             ///< ids must be smaller
  std::optional<std::int64_t> max_tokens;  ///< longest M; T5 has none
  std::int64_t num_layers = 0;
  std::int64_t num_parameters = 0;
  std::int64_t num_weight_bytes = 0;  ///< as kept, mapped files included
  tensor::Place place;
};

/// The files of one encoder.
struct ModelFiles {
  std::string config;   ///< config.json
  std::string weights;  ///< safetensors file, index of shards, or a folder that holds either

  /// The usual folder: config.json beside the weights.
  static ModelFiles in(const std::string& folder);
};

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  /// Loads a folder that holds config.json and safetensors (one file or shards): a T5, UMT5, CLIP
  /// or CLIP text checkpoint as published; decoder and image towers in it are left alone. 16-bit
  /// weights stay as they are, mapped from disk, and are widened as they are used when place.dtype
  /// is fp32. Config keys that kinema does not know are logged as one warning. Throws
  /// kBadCheckpoint [text.*, config.*, weights.*], kIo [io.*], or what core/io throws.
  static std::unique_ptr<TextEncoder> load(const std::string& folder,
                                           const tensor::Place& place,
                                           Logger& logger = null_logger());
  static std::unique_ptr<TextEncoder> load(const ModelFiles& files,
                                           const tensor::Place& place,
                                           Logger& logger = null_logger());

  /// @param input_ids_BM       integers in [0, vocab_size).
  /// @param attention_mask_BM  1 for text, 0 for padding (holes are allowed); absent: all text.
  /// Rows of T5 contexts where the mask is 0 are zero: they are not computed.
  /// Throws kShapeMismatch [tensor.shape], kInvalidArgument [text.token_id, text.mask,
  /// text.too_long].
  [[nodiscard]] virtual TextEncoding encode(
      const Tensor& input_ids_BM,
      const std::optional<Tensor>& attention_mask_BM = std::nullopt) const = 0;

  [[nodiscard]] virtual const TextEncoderInfo& info() const noexcept = 0;
};

}  // namespace kinema::text
