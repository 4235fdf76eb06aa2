// SPDX-License-Identifier: Apache-2.0
// The pre-tokenizers of tokenizer.json: Sequence, Split, ByteLevel, Metaspace, Whitespace,
// WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit.
#pragma once

#include <memory>
#include <vector>

#include "core/base/json.h"
#include "text/tokenizer/piece.h"

namespace kinema::text {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Cuts and rewrites the pieces that are not added tokens.
  virtual void apply(std::vector<Piece>& pieces) const = 0;
  /// Whether it asks where a piece stood in the original text.
  [[nodiscard]] virtual bool needs_origins() const { return false; }
};

/// When Metaspace puts its character in front of a piece.
enum class PrependScheme { kAlways, kFirst, kNever };

/// What "replacement", "prepend_scheme", "add_prefix_space" and "split" of a Metaspace say.
struct MetaspaceConfig {
  std::string replacement;  ///< one character in UTF-8
  PrependScheme scheme = PrependScheme::kAlways;
  bool split = true;

  /// Throws kBadCheckpoint [tokenizer.metaspace].
  static MetaspaceConfig from_json(JsonReader& reader);
};

/// Null for JSON null. Throws kBadCheckpoint [tokenizer.unsupported] for an unknown type.
[[nodiscard]] std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& json,
                                                               const JsonContext& context);

}  // namespace kinema::text
