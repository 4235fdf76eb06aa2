// SPDX-License-Identifier: Apache-2.0
// The 256 printable characters that stand for bytes in byte-level vocabularies (GPT-2, CLIP,
// Qwen2): printable Latin-1 stands for itself, the other bytes count up from U+0100.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace kinema::text {

[[nodiscard]] constexpr bool stands_for_itself(unsigned byte) noexcept {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

/// Character of each byte.
inline constexpr std::array<char32_t, 256> kByteCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return characters;
}();

/// Byte of a character below U+0144, or -1.
inline constexpr std::array<std::int16_t, 0x144> kCharacterBytes = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[kByteCharacters[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

/// Byte that a character stands for.
[[nodiscard]] constexpr std::optional<unsigned char> byte_of(char32_t character) noexcept {
  if (character >= kCharacterBytes.size() || kCharacterBytes[character] < 0) {
    return std::nullopt;
  }
  return static_cast<unsigned char>(kCharacterBytes[character]);
}

}  // namespace kinema::text
