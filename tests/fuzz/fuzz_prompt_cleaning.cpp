// SPDX-License-Identifier: Apache-2.0
// Cleaning of prompts: any bytes give trimmed, valid text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "text/tokenizer/html_text.h"
#include "text/tokenizer/prompt_cleaning.h"
#include "text/tokenizer/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string cleaned = kinema::text::clean_caption(text);
  const std::string visible = kinema::text::html_text(kinema::text::valid_utf8(text));
  if (!kinema::text::is_valid_utf8(cleaned) || !kinema::text::is_valid_utf8(visible) ||
      !kinema::text::is_valid_utf8(kinema::text::plain_preprocessing(text)) ||
      cleaned.starts_with(' ') || cleaned.ends_with(' ')) {
    std::abort();
  }
  return 0;
}
