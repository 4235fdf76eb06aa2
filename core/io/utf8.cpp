// SPDX-License-Identifier: Apache-2.0
#include "core/io/utf8.h"

namespace kinema::io {

std::optional<Utf8Character> decode_utf8(std::string_view text, std::size_t offset) noexcept {
  const auto byte = [&](std::size_t i) -> char32_t {
    return static_cast<unsigned char>(text[offset + i]);
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) {
    return Utf8Character{lead, 1};
  }
  std::size_t size = 0;
  char32_t least = 0;
  char32_t code = 0;
  if (lead >= 0xC2 && lead < 0xE0) {
    size = 2, least = 0x80, code = lead & 0x1F;
  } else if (lead >= 0xE0 && lead < 0xF0) {
    size = 3, least = 0x800, code = lead & 0x0F;
  } else if (lead >= 0xF0 && lead < 0xF5) {
    size = 4, least = 0x10000, code = lead & 0x07;
  } else {
    return std::nullopt;
  }
  if (size > text.size() - offset) {
    return std::nullopt;
  }
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return std::nullopt;
    }
    code = (code << 6) | (byte(i) & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (code < least || surrogate || code > 0x10FFFF) {
    return std::nullopt;
  }
  return Utf8Character{code, size};
}

bool is_utf8(std::string_view text) noexcept {
  std::size_t offset = 0;
  while (offset < text.size()) {
    if (static_cast<unsigned char>(text[offset]) < 0x80) {
      ++offset;
      continue;
    }
    const auto character = decode_utf8(text, offset);
    if (!character) {
      return false;
    }
    offset += character->size;
  }
  return true;
}

void append_utf8(std::string& text, char32_t code) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | (code >> 12));
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string utf8_or_latin1(std::string bytes) {
  if (is_utf8(bytes)) {
    return bytes;
  }
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    append_utf8(text, static_cast<unsigned char>(c));
  }
  return text;
}

}  // namespace kinema::io
