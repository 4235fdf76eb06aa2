// SPDX-License-Identifier: Apache-2.0
// Text from untrusted files made fit for an error message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kinema::io {

/// At most `max_bytes` of `text` (cut between UTF-8 characters, "..." appended), with control
/// characters replaced by '?', so that a file name or tensor name cannot steer a terminal.
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t max_bytes = 120) {
  const bool cut = text.size() > max_bytes;
  std::size_t size = cut ? max_bytes : text.size();
  while (cut && size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80U) {
    --size;
  }
  std::string out(text.substr(0, size));
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      c = '?';
    }
  }
  return cut ? out + "..." : out;
}

}  // namespace kinema::io
