// SPDX-License-Identifier: Apache-2.0
// A part of the text on its way through a tokenizer: its current form, and, where a component asks
// for it, where each byte comes from in the text before normalisation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/pattern.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

/// One output character of a rewrite. `change` > 0: inserted behind the previous one; 0: replaces
/// one character of the input; -n: replaces one and removes the n that follow.
struct Change {
  char32_t character = 0;
  std::int32_t change = 0;
};

class Piece {
 public:
  Piece() = default;
  /// The whole text, valid UTF-8. `track`: keep origins; `max_bytes`: size that a rewrite may
  /// reach.
  Piece(std::string text, bool track, std::size_t max_bytes);

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] bool empty() const noexcept { return text_.empty(); }
  [[nodiscard]] bool tracked() const noexcept { return tracked_; }
  /// Byte offset, in the original text, of what this piece was cut from; 0 when origins are not
  /// kept.
  [[nodiscard]] std::uint32_t origin() const noexcept { return shift_; }

  /// Id of the added token that this piece is; such a piece is finished.
  std::optional<TokenId> added_token;

  /// Rewrites the text; the first `skipped` characters of the input are dropped.
  void transform(std::span<const Change> changes, std::size_t skipped);
  /// Replaces the text; origins, if kept, become that of the piece.
  void assign(std::string text);
  /// Puts `prefix` in front; an empty piece stays empty.
  void prepend(std::string_view prefix);
  /// Replaces what matched by `content`.
  void replace(std::span<const MatchSpan> spans, std::string_view content);
  /// Removes white space at the ends.
  void strip(bool left, bool right);
  /// The bytes [begin, end) as a piece of their own.
  [[nodiscard]] Piece slice(std::size_t begin, std::size_t end) const;

 private:
  void check_size() const;
  void add_rewritten(std::string_view text);
  [[nodiscard]] std::size_t inserted_after_replace(std::span<const MatchSpan> spans,
                                                   std::size_t content) const;

  std::string text_;
  // Bytes at the front that an empty match at the very start has put there. The reference counts
  // them to no character of the original, so a rewrite of the whole text keeps them and adds its
  // result.
  std::size_t inserted_ = 0;
  std::vector<std::uint32_t> origins_;  // per byte of text_, absolute
  std::uint32_t shift_ = 0;
  bool tracked_ = false;
  std::size_t max_bytes_ = SIZE_MAX;
};

/// Cuts every unfinished piece into the non-empty parts of `spans_of(piece)`.
template <typename SpansOf>
void split_pieces(std::vector<Piece>& pieces, SpansOf spans_of) {
  std::vector<Piece> result;
  result.reserve(pieces.size());
  for (auto& piece : pieces) {
    if (piece.added_token) {
      result.push_back(std::move(piece));
      continue;
    }
    const std::vector<MatchSpan> spans = spans_of(piece);
    for (const auto& span : spans) {
      if (span.begin < span.end) {
        result.push_back(piece.slice(span.begin, span.end));
      }
    }
  }
  pieces = std::move(result);
}

}  // namespace kinema::text
