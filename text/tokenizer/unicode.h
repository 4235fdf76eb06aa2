// SPDX-License-Identifier: Apache-2.0
// Unicode for tokenizers: UTF-8, character classes, case, normal forms and grapheme clusters.
//
// The classes are those of the libraries that trained the public tokenizers, which sit on different
// Unicode versions: text classes follow Unicode 16, normal forms Unicode 9, punctuation Unicode 8.
// ICU (Unicode 15 in Debian 12) supplies the data; small tables add what it lacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kinema::text {

/// Code point at `position` of valid UTF-8; moves `position` behind it.
char32_t next_code_point(std::string_view text, std::size_t& position);

/// Code point that ends at `position` (> 0) of valid UTF-8; moves `position` to its start.
char32_t previous_code_point(std::string_view text, std::size_t& position);

/// Bytes of the character that starts with `lead`, a lead byte of valid UTF-8.
[[nodiscard]] constexpr std::size_t utf8_length(char lead) noexcept {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

void append_utf8(std::string& text, char32_t code_point);

/// A copy in which every maximal ill-formed sequence is one U+FFFD (Unicode 16, section 3.9).
[[nodiscard]] std::string valid_utf8(std::string_view bytes);

[[nodiscard]] bool is_valid_utf8(std::string_view bytes);

/// Whether `position` does not lie inside a character of valid UTF-8.
[[nodiscard]] constexpr bool is_boundary(std::string_view text, std::size_t position) noexcept {
  return position >= text.size() || (static_cast<unsigned char>(text[position]) & 0xC0U) != 0x80U;
}

/// The property White_Space.
[[nodiscard]] bool is_white_space(char32_t code_point);
/// General category N: digits, letter numbers, other numbers.
[[nodiscard]] bool is_numeric(char32_t code_point);
/// What regular expressions call a word character (UTS 18): alphabetic, mark, decimal digit,
/// connector punctuation, join control.
[[nodiscard]] bool is_word(char32_t code_point);
/// General category P as of Unicode 8, and ASCII punctuation and symbols.
[[nodiscard]] bool is_punctuation(char32_t code_point);
/// General category M as of Unicode 9.
[[nodiscard]] bool is_combining_mark(char32_t code_point);

/// Ranges of ICU property `name` ("L", "Nd", "Word") that Unicode 16 has and this ICU lacks, in the
/// syntax of a set expression without brackets; may be empty.
[[nodiscard]] const std::string& newer_code_points(std::string_view name);

/// Full lower case of each character by itself: no final sigma, U+0130 becomes i and U+0307.
[[nodiscard]] std::string lower_case(std::string_view text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// The normal form by the tables of Unicode 9: younger characters stay as they are.
[[nodiscard]] std::string normalize(NormalForm form, std::string_view text);

/// Whether a text may be cut in front of this character and both parts normalised by themselves.
[[nodiscard]] bool normalizes_apart(NormalForm form, char32_t code_point);

/// End of the extended grapheme cluster that starts at `position` (< size), UAX 29.
[[nodiscard]] std::size_t grapheme_end(std::string_view text, std::size_t position);

/// Bytes of standard base64 with padding; nothing if malformed.
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

}  // namespace kinema::text
