// SPDX-License-Identifier: Apache-2.0
// One regular expression of a tokenizer.json: refused, or its matches cover the text.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/unicode.h"

namespace {

constexpr std::array<std::string_view, 3> kTexts = {
    "",
    " the Cat's 12\xCC\x81 \xE7\xBA\xA2\xF0\x9F\x98\x80\n\n x",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaab"};

void search(const kinema::text::Pattern& pattern, std::string_view text) {
  std::size_t covered = 0;
  for (const auto& span : pattern.find(text)) {
    if (span.begin != covered || span.end < span.begin ||
        !kinema::text::is_boundary(text, span.end)) {
      std::abort();
    }
    covered = span.end;
  }
  if (covered != text.size()) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!kinema::text::is_valid_utf8(bytes)) {
    return -1;  // JSON holds valid text only
  }
  try {
    const auto pattern = kinema::text::Pattern::regex(bytes);
    for (const auto text : kTexts) {
      search(pattern, text);
    }
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadCheckpoint) {
      std::abort();
    }
  }
  return 0;
}
