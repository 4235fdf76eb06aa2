// SPDX-License-Identifier: Apache-2.0
// UTF-8 as text of untrusted files needs it: a check, and a decoder for one character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kinema::io {

struct Utf8Character {
  char32_t code = 0;
  std::size_t size = 0;  ///< bytes
};

/// The character that starts at `offset` (< text.size()), or nothing when the bytes are not
/// well-formed: overlong forms, surrogates and values above U+10FFFF are refused (Unicode 15, D92).
[[nodiscard]] std::optional<Utf8Character> decode_utf8(std::string_view text,
                                                       std::size_t offset) noexcept;

[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// Appends one character; `code` must be a Unicode scalar value.
void append_utf8(std::string& text, char32_t code);

/// `bytes` when they are UTF-8, otherwise read as Latin-1 and converted.
[[nodiscard]] std::string utf8_or_latin1(std::string bytes);

}  // namespace kinema::io
