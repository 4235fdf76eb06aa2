// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say about special
// tokens.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/memory_files.h"

namespace kinema::text {

struct SpecialTokens {
  std::string tokenizer_class;  ///< without "Fast"; empty if unknown
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> pad;
  std::optional<std::string> unknown;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<std::int64_t> extra_ids;       ///< sentinel tokens of T5
  std::map<TokenId, AddedToken> added_tokens;  ///< added_tokens_decoder and added_tokens.json

  /// Reads whichever files are there. Throws kBadCheckpoint [json.*], [config.type],
  /// [tokenizer.added_token].
  static SpecialTokens read(const TokenizerFiles& files);
};

}  // namespace kinema::text
