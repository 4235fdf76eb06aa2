// SPDX-License-Identifier: Apache-2.0
// The model of a tokenizer: cuts one pre-tokenised piece into vocabulary entries.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

class Model {
 public:
  virtual ~Model() = default;
  /// Appends the ids of `piece` (valid UTF-8). Throws kBadCheckpoint [tokenizer.unknown] when a
  /// part of it is not in the vocabulary and the model has no usable unknown token.
  virtual void encode(std::string_view piece, std::vector<TokenId>& ids) const = 0;
  [[nodiscard]] virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;
  /// Null for an id without an entry.
  [[nodiscard]] virtual const std::string* id_to_token(TokenId id) const = 0;
  /// Number of distinct entries.
  [[nodiscard]] virtual std::int64_t size() const = 0;
  /// Largest id + 1.
  [[nodiscard]] virtual std::int64_t id_limit() const = 0;
  /// "BPE", "unigram".
  [[nodiscard]] virtual std::string_view name() const = 0;
};

/// Entries of a vocabulary with their ids, in any order.
using Vocabulary = std::vector<std::pair<std::string, std::uint32_t>>;

struct BpeConfig {
  Vocabulary vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  ///< best first
  std::optional<std::string> unknown_token;
  std::string continuing_prefix;   ///< in front of every character but the first
  std::string end_of_word_suffix;  ///< behind the last character
  bool fuse_unknown = false;       ///< neighbouring unknown characters become one token
  bool byte_fallback = false;      ///< <0x00> .. <0xFF> stand in for unknown characters
  bool ignore_merges = false;      ///< a piece that is an entry is taken whole
};

/// Byte pair encoding: the best-ranked pair of neighbours is merged until none is left.
/// Throws kBadCheckpoint [tokenizer.merges] for a merge of or into something that is no entry.
[[nodiscard]] std::unique_ptr<Model> make_bpe_model(BpeConfig config);

struct UnigramConfig {
  std::vector<std::pair<std::string, double>> pieces;  ///< entry and log probability, by id
  std::optional<std::size_t> unknown_id;
  bool byte_fallback = false;
};

/// Unigram language model: the segmentation of highest total score.
/// Throws kBadCheckpoint [tokenizer.unknown_id] when unknown_id is not an id.
[[nodiscard]] std::unique_ptr<Model> make_unigram_model(UnigramConfig config);

struct ModelLists;

/// The "model" of a tokenizer.json with its lists. Throws kBadCheckpoint [tokenizer.unsupported],
/// [tokenizer.vocabulary], [tokenizer.merges], [config.*].
[[nodiscard]] std::unique_ptr<Model> make_model(const Json& json,
                                                ModelLists lists,
                                                const JsonContext& context);

/// The two entries of a merge "a b". Throws kBadCheckpoint
/// [tokenizer.merges].
[[nodiscard]] std::pair<std::string, std::string> parse_merge(std::string_view line,
                                                              std::size_t number);

/// "<0xHH>".
[[nodiscard]] std::string byte_token(unsigned char byte);

}  // namespace kinema::text
