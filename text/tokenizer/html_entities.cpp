// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>

#include "text/tokenizer/html_text.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

struct Entity {
  std::string_view name;
  std::string_view text;
  bool without_semicolon;
};

constexpr Entity kEntities[] = {
#include "text/tokenizer/html_entities.inc"
};

// What the numbers 0x80 to 0x9F stand for: the characters of Windows-1252.
constexpr std::array<char32_t, 32> kWindows1252 = {
    0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,  0x2030, 0x160,
    0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};

bool is_refused(std::uint32_t number) {
  return (number >= 1 && number <= 8) || number == 0x0B || (number >= 0x0E && number <= 0x1F) ||
         number == 0x7F || (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFEU) == 0xFFFE;
}

void append_number(std::string& result, std::uint32_t number) {
  if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) {
    append_utf8(result, 0xFFFD);
  } else if (number >= 0x80 && number <= 0x9F) {
    append_utf8(result, kWindows1252[number - 0x80]);
  } else if (!is_refused(number)) {
    append_utf8(result, number);
  }
}

// "#65;", "#x41" at the start of `text`: appends the character, returns the length; 0 if it is
// none.
std::size_t take_number(std::string_view text, std::string& result) {
  const bool hexadecimal = text.size() > 1 && (text[1] == 'x' || text[1] == 'X');
  std::size_t i = hexadecimal ? 2 : 1;
  const std::size_t first = i;
  std::uint32_t number = 0;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    const char lower = static_cast<char>(c | 0x20);
    std::uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<std::uint32_t>(c - '0');
    } else if (hexadecimal && lower >= 'a' && lower <= 'f') {
      digit = static_cast<std::uint32_t>(lower - 'a' + 10);
    } else {
      break;
    }
    number = std::min(number * (hexadecimal ? 16 : 10) + digit, 0x110000U);
  }
  if (i == first) {
    return 0;
  }
  append_number(result, number);
  return i < text.size() && text[i] == ';' ? i + 1 : i;
}

// A name at the start of `text`, up to 32 characters and a semicolon: the longest known beginning
// of it.
std::size_t take_name(std::string_view text, std::string& result) {
  constexpr std::string_view kEnds = "\t\n\f <&#;";
  std::size_t end = 0;
  for (int count = 0;
       end < text.size() && count < 32 && kEnds.find(text[end]) == std::string_view::npos;
       ++count) {
    end += utf8_length(text[end]);
  }
  if (end == 0) {
    return 0;
  }
  if (end < text.size() && text[end] == ';') {
    if (const auto entity = html_entity(text.substr(0, end), false)) {
      result += *entity;
      return end + 1;
    }
  }
  for (std::size_t length = end; length >= 2; --length) {
    if (const auto entity = html_entity(text.substr(0, length), true)) {
      result += *entity;
      return length;
    }
  }
  return 0;
}

}  // namespace

std::optional<std::string_view> html_entity(std::string_view name, bool without_semicolon) {
  const auto* found = std::lower_bound(
      std::begin(kEntities),
      std::end(kEntities),
      name,
      [](const Entity& entity, std::string_view wanted) { return entity.name < wanted; });
  if (found == std::end(kEntities) || found->name != name ||
      (without_semicolon && !found->without_semicolon)) {
    return std::nullopt;
  }
  return found->text;
}

std::string html_unescape(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      result += text[i++];
      continue;
    }
    const std::string_view rest = text.substr(i + 1);
    const std::size_t length =
        rest.starts_with('#') ? take_number(rest, result) : take_name(rest, result);
    if (length == 0) {
      result += '&';
    }
    i += 1 + length;
  }
  return result;
}

}  // namespace kinema::text
