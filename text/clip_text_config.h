// SPDX-License-Identifier: Apache-2.0
// Shape of a CLIP text encoder, as its config.json states it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/nn/activations.h"
#include "text/hf_config.h"

namespace kinema::text {

/// Field names are the keys of the public files.
struct ClipTextConfig {
  std::int64_t vocab_size = 49408;
  std::int64_t hidden_size = 512;  ///< D
  std::int64_t intermediate_size = 2048;
  std::int64_t projection_dim = 512;  ///< P, used with has_projection
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 8;  ///< N; divides hidden_size
  std::int64_t max_position_embeddings = 77;
  std::int64_t eos_token_id = 49407;  ///< 2: the older rule for the pooled row, see ClipTextModel
  double layer_norm_eps = 1e-5;
  nn::Activation hidden_act = nn::Activation::kQuickGelu;
  bool has_projection = false;  ///< the weights hold text_projection

  /// Reads a config of model_type "clip_text_model", or "clip" with its "text_config".
  /// `has_projection` follows "architectures": CLIPTextModelWithProjection and CLIPModel have one.
  /// Unknown keys are appended to `unknown_keys`. Throws kBadCheckpoint [config.*, text.*].
  static ClipTextConfig from_hf(const HfConfig& hf, std::vector<std::string>& unknown_keys);
  /// Keys of a "clip_text_model"; from_hf(to_json()) == *this.
  [[nodiscard]] Json to_json() const;
  /// All broken rules in one kBadCheckpoint [text.config].
  void validate(const std::string& subject) const;
  bool operator==(const ClipTextConfig&) const = default;
};

}  // namespace kinema::text
