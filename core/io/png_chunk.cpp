// SPDX-License-Identifier: Apache-2.0
#include "core/io/png_chunk.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/io/message_text.h"
#include "core/io/utf8.h"

namespace kinema::io {
namespace {

// Four tables, so that four bytes are taken at once.
consteval std::array<std::array<std::uint32_t, 256>, 4> make_tables() {
  std::array<std::array<std::uint32_t, 256>, 4> tables{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t value = n;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value & 1U) != 0 ? 0xEDB88320U ^ (value >> 1U) : value >> 1U;
    }
    tables[0][n] = value;
  }
  for (std::size_t n = 0; n < 256; ++n) {
    for (std::size_t k = 1; k < 4; ++k) {
      tables[k][n] = tables[0][tables[k - 1][n] & 0xFFU] ^ (tables[k - 1][n] >> 8U);
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

std::string big_endian32(std::uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += static_cast<char>((value >> shift) & 0xFFU);
  }
  return text;
}

Error text_error(std::string_view keyword, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "image.text",
                .place = "io.image",
                .subject = "PNG text '" + printable(keyword) + "'",
                .expected = std::move(expected),
                .got = std::move(got)});
}

void check_keyword(std::string_view keyword) {
  const bool printable_ascii =
      std::all_of(keyword.begin(), keyword.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (keyword.empty() || keyword.size() > 79 || !printable_ascii || keyword.front() == ' ' ||
      keyword.back() == ' ' || keyword.find("  ") != std::string_view::npos) {
    throw text_error(keyword,
                     "a keyword of 1 to 79 printable ASCII characters, words apart by "
                     "single spaces",
                     std::to_string(keyword.size()) + " bytes");
  }
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc) noexcept {
  std::uint32_t value = ~crc;
  std::size_t i = 0;
  const auto at = [&](std::size_t index) { return static_cast<std::uint32_t>(bytes[index]); };
  for (; i + 4 <= bytes.size(); i += 4) {
    value ^= at(i) | (at(i + 1) << 8U) | (at(i + 2) << 16U) | (at(i + 3) << 24U);
    value = kTables[3][value & 0xFFU] ^ kTables[2][(value >> 8U) & 0xFFU] ^
            kTables[1][(value >> 16U) & 0xFFU] ^ kTables[0][value >> 24U];
  }
  for (; i < bytes.size(); ++i) {
    value = kTables[0][(value ^ at(i)) & 0xFFU] ^ (value >> 8U);
  }
  return ~value;
}

std::string png_chunk(std::string_view type, std::string_view data) {
  std::string chunk = big_endian32(static_cast<std::uint32_t>(data.size()));
  chunk += type;
  chunk += data;
  chunk += big_endian32(crc32(std::as_bytes(std::span(chunk)).subspan(4)));
  return chunk;
}

std::string png_text_chunk(std::string_view keyword, std::string_view text) {
  check_keyword(keyword);
  if (text.size() >= (1U << 30U)) {
    throw text_error(keyword, "text below 1 GiB", std::to_string(text.size()) + " bytes");
  }
  const bool plain = std::all_of(
      text.begin(), text.end(), [](char c) { return (c >= ' ' && c <= '~') || c == '\n'; });
  std::string data(keyword);
  data += '\0';
  if (plain) {
    data += text;
    return png_chunk("tEXt", data);
  }
  if (text.find('\0') != std::string_view::npos || !is_utf8(text)) {
    throw text_error(keyword, "UTF-8 without NUL", "other bytes");
  }
  data.append(4, '\0');  // not compressed, method 0, no language, no translated keyword
  data += text;
  return png_chunk("iTXt", data);
}

}  // namespace kinema::io
