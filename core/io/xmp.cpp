// SPDX-License-Identifier: Apache-2.0
#include "core/io/xmp.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "core/base/error.h"
#include "core/io/message_text.h"
#include "core/io/utf8.h"

namespace kinema::io {
namespace {

constexpr std::string_view kProperty = "kinema:provenance";
constexpr std::string_view kEncodingProperty = "kinema:encoding";
constexpr std::string_view kJsonString = "json-string";

Error packet_error(std::string_view code,
                   std::string_view subject,
                   std::string expected,
                   std::string got) {
  return Error(ErrorKind::kBadData,
               {.code = "xmp." + std::string(code),
                .place = "io.xmp",
                .subject = std::string(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

/// Production Char of XML 1.0.
bool is_xml_character(char32_t code) {
  return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code < 0xD800) ||
         (code >= 0xE000 && code < 0xFFFE) || code >= 0x10000;
}

/// Whether XML can hold every character. Throws for text that is not UTF-8.
bool is_xml_text(std::string_view text) {
  bool fits = true;
  for (std::size_t i = 0; i < text.size();) {
    const auto character = decode_utf8(text, i);
    if (!character) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "xmp.utf8",
                   .place = "io.xmp",
                   .subject = "provenance",
                   .expected = "UTF-8",
                   .got = "another byte at " + std::to_string(i)});
    }
    fits = fits && is_xml_character(character->code);
    i += character->size;
  }
  return fits;
}

/// Backslash escapes for what XML cannot hold, and for the backslash itself.
std::string to_json_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto character = *decode_utf8(text, i);
    if (character.code == '\\') {
      out += "\\\\";
    } else if (is_xml_character(character.code)) {
      out += text.substr(i, character.size);
    } else {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(character.code));
      out += escape.data();
    }
    i += character.size;
  }
  return out;
}

std::string from_json_escapes(std::string_view text, std::string_view subject) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    std::uint32_t code = 0;
    const char* const digits = text.data() + i + 2;
    if (i + 1 < text.size() && text[i + 1] == '\\') {
      out += '\\';
      i += 1;
    } else if (i + 5 < text.size() && text[i + 1] == 'u' &&
               std::from_chars(digits, digits + 4, code, 16).ptr == digits + 4 &&
               (code < 0xD800 || code >= 0xE000)) {
      append_utf8(out, code);
      i += 5;
    } else {
      throw packet_error(
          "escape", subject, "\\\\ or \\uXXXX", "'" + printable(text.substr(i, 6)) + "'");
    }
  }
  return out;
}

std::string to_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\r':  // a reader would turn it into a line feed
        out += "&#13;";
        break;
      case '\n':  // and these into spaces, once in an attribute
        out += "&#10;";
        break;
      case '\t':
        out += "&#9;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// The character that "&name;" stands for; `name` without & and ;.
std::optional<char32_t> entity(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, char32_t>, 5> kNamed = {
      {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}}};
  for (const auto& [known, code] : kNamed) {
    if (name == known) {
      return code;
    }
  }
  if (!name.starts_with('#')) {
    return std::nullopt;
  }
  const bool hexadecimal = name.starts_with("#x");
  const std::string_view digits = name.substr(hexadecimal ? 2 : 1);
  std::uint32_t code = 0;
  const char* const end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, code, hexadecimal ? 16 : 10);
  const bool scalar = code <= 0x10FFFF && (code < 0xD800 || code >= 0xE000);
  if (digits.empty() || result.ec != std::errc() || result.ptr != end || !scalar) {
    return std::nullopt;
  }
  return code;
}

std::string from_xml(std::string_view text, std::string_view subject) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') {
      throw packet_error("escape", subject, "plain text as provenance", "markup inside it");
    }
    if (text[i] != '&') {
      out += text[i];
      continue;
    }
    constexpr std::size_t kLongest = 12;
    const std::size_t end = text.substr(i, kLongest).find(';');
    const auto code =
        end == std::string_view::npos ? std::nullopt : entity(text.substr(i + 1, end - 1));
    if (!code) {
      throw packet_error(
          "escape", subject, "an XML entity", "'" + printable(text.substr(i, kLongest)) + "'");
    }
    append_utf8(out, *code);
    i += end;
  }
  if (!is_utf8(out)) {
    throw packet_error("utf8", subject, "UTF-8", "other bytes");
  }
  return out;
}

bool is_name_end(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/// Escaped value of a property, as element content or as attribute value.
std::optional<std::string_view> find_property(std::string_view packet,
                                              std::string_view name,
                                              std::string_view subject) {
  for (std::size_t at = packet.find(name); at != std::string_view::npos;
       at = packet.find(name, at + name.size())) {
    const char before = at == 0 ? '\0' : packet[at - 1];
    std::size_t next = at + name.size();
    if (before == '<') {
      if (next < packet.size() && packet[next] != '>' && packet[next] != '/' &&
          !is_name_end(packet[next])) {
        continue;  // a longer name
      }
      const std::size_t open = packet.find('>', next);
      if (open == std::string_view::npos) {
        throw packet_error("truncated", subject, "the end of a tag", "the end of the packet");
      }
      if (packet[open - 1] == '/') {
        return "";
      }
      const std::string closing = "</" + std::string(name);
      const std::size_t close = packet.find(closing, open);
      if (close == std::string_view::npos) {
        throw packet_error("truncated", subject, "'" + closing + ">'", "the end of the packet");
      }
      return packet.substr(open + 1, close - open - 1);
    }
    if (!is_name_end(before)) {
      continue;
    }
    while (next < packet.size() && is_name_end(packet[next])) {
      ++next;
    }
    if (next >= packet.size() || packet[next] != '=') {
      continue;
    }
    do {
      ++next;
    } while (next < packet.size() && is_name_end(packet[next]));
    if (next >= packet.size() || (packet[next] != '"' && packet[next] != '\'')) {
      continue;
    }
    const std::size_t close = packet.find(packet[next], next + 1);
    if (close == std::string_view::npos) {
      throw packet_error("truncated", subject, "the end of an attribute", "the end of the packet");
    }
    return packet.substr(next + 1, close - next - 1);
  }
  return std::nullopt;
}

}  // namespace

std::string wrap_xmp(std::string_view text) {
  const bool plain = is_xml_text(text);
  std::string packet =
      "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
      "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n"
      "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n"
      "<rdf:Description rdf:about=\"\" xmlns:kinema=\"";
  packet += kXmpNamespace;
  packet += "\">\n";
  const auto add = [&packet](std::string_view name, std::string_view value) {
    packet.append("<").append(name).append(">");
    packet.append(to_xml(value));
    packet.append("</").append(name).append(">\n");
  };
  if (!plain) {
    add(kEncodingProperty, kJsonString);
  }
  add(kProperty, plain ? std::string(text) : to_json_escapes(text));
  packet += "</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>";
  return packet;
}

std::optional<std::string> unwrap_xmp(std::string_view packet, std::string_view subject) {
  const auto value = find_property(packet, kProperty, subject);
  if (!value) {
    return std::nullopt;
  }
  std::string text = from_xml(*value, subject);
  const auto encoding = find_property(packet, kEncodingProperty, subject);
  if (encoding && from_xml(*encoding, subject) == kJsonString) {
    return from_json_escapes(text, subject);
  }
  return text;
}

}  // namespace kinema::io
