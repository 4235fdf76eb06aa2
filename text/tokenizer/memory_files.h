// SPDX-License-Identifier: Apache-2.0
// The files of a tokenizer as strings, for tests, fuzzing and archives.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

/// Contents of the files that were found; the first of tokenizer_json, sentencepiece_model and
/// vocab_json (with merges_txt) decides, the rest only names special tokens.
struct TokenizerFiles {
  std::string subject = "tokenizer";  ///< folder or file, for messages
  std::optional<std::string> tokenizer_json;
  std::optional<std::string> sentencepiece_model;
  std::optional<std::string> vocab_json;
  std::optional<std::string> merges_txt;
  std::optional<std::string> tokenizer_config;
  std::optional<std::string> special_tokens_map;
  std::optional<std::string> added_tokens;
};

/// A tokenizer from these files. Throws kBadCheckpoint.
[[nodiscard]] std::unique_ptr<Tokenizer> load_from_memory(const TokenizerFiles& files);

}  // namespace kinema::text
