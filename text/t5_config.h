// SPDX-License-Identifier: Apache-2.0
// Shape of a T5, T5 v1.1 or UMT5 encoder, as its config.json states it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/nn/activations.h"

namespace kinema::text {

/// Field names are the keys of the public files.
struct T5Config {
  std::int64_t vocab_size = 32128;
  std::int64_t d_model = 4096;  ///< D
  std::int64_t d_kv = 64;       ///< K, width of one head; num_heads * d_kv need not be d_model
  std::int64_t d_ff = 10240;
  std::int64_t num_layers = 24;
  std::int64_t num_heads = 64;  ///< N
  std::int64_t relative_attention_num_buckets = 32;
  std::int64_t relative_attention_max_distance = 128;
  double layer_norm_epsilon = 1e-6;
  nn::Activation activation = nn::Activation::kGeluTanh;
  bool is_gated = true;         ///< wi_0 and wi_1 (v1.1) instead of one wi
  bool per_block_bias = false;  ///< UMT5: every block has its own relative bias table

  /// Reads a Hugging Face config of model_type "t5" or "umt5". Keys of the decoder and of training
  /// are left alone; other unknown keys are appended to `unknown_keys`. Throws kBadCheckpoint
  /// [config.missing, config.type, text.config, text.activation]; `subject` is the path for
  /// messages.
  static T5Config from_json(const Json& json,
                            const std::string& subject,
                            std::vector<std::string>& unknown_keys);
  /// The same keys; from_json(to_json()) == *this.
  [[nodiscard]] Json to_json() const;
  /// All broken rules in one kBadCheckpoint [text.config].
  void validate(const std::string& subject) const;
  bool operator==(const T5Config&) const = default;
};

}  // namespace kinema::text
