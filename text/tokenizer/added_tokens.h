// SPDX-License-Identifier: Apache-2.0
// Tokens that are cut out of the text before the model sees it: special tokens and user additions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/piece.h"
#include "text/tokenizer/prefix_tree.h"

namespace kinema::text {

struct AddedToken {
  std::string content;
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space on its left with it
  bool rstrip = false;       ///< takes the white space on its right with it
  bool normalized = true;    ///< looked for, in normalised form, in the normalised text
  bool special = false;      ///< left out when decoding with skip_special

  /// Reads one entry of "added_tokens". Throws kBadCheckpoint [config.*].
  static AddedToken from_json(JsonReader& reader);
};

class AddedTokens {
 public:
  /// Ids follow from the order: a content that is known keeps its id, a new one gets the next free
  /// id behind the model's. `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Model& model, const Normalizer* normalizer);

  /// The text as pieces: added tokens, and normalised text between them.
  [[nodiscard]] std::vector<Piece> extract(Piece text, const Normalizer* normalizer) const;

  [[nodiscard]] std::optional<TokenId> find(std::string_view content) const;
  /// What decoding starts from: the content, in normalised form where that is what is looked for.
  /// Null for an id that is not an added token.
  [[nodiscard]] const std::string* text_of(TokenId id) const;
  [[nodiscard]] bool is_special(std::string_view text) const;
  /// Added tokens by id.
  [[nodiscard]] const std::map<TokenId, AddedToken>& tokens() const noexcept { return tokens_; }
  /// Largest id + 1, at least `limit`.
  [[nodiscard]] std::int64_t id_limit(std::int64_t limit) const;

 private:
  /// Strings to look for and the id of each.
  struct Matcher {
    PrefixTree tree;
    std::vector<TokenId> ids;
  };

  static std::optional<Matcher> make_matcher(
      const std::vector<std::pair<std::string, TokenId>>& patterns);
  void split(std::vector<Piece>& pieces, const std::optional<Matcher>& matcher) const;
  void split_one(const Piece& piece, const Matcher& matcher, std::vector<Piece>& result) const;

  std::map<TokenId, AddedToken> tokens_;
  std::map<std::string, TokenId, std::less<>> ids_;
  std::map<TokenId, std::string> normalized_;
  std::map<std::string, bool, std::less<>> special_;
  std::optional<Matcher> plain_matcher_;
  std::optional<Matcher> normalized_matcher_;
};

}  // namespace kinema::text
