// SPDX-License-Identifier: Apache-2.0
// Prompt cleaning as Open-Sora does it before its T5 encoder: web junk of captions goes away, the
// text becomes lower case. Mojibake is not repaired. Written from a description of the behaviour.
#pragma once

#include <string>
#include <string_view>

namespace kinema::text {

/// One application of the rules. They are meant to be applied twice: what one removal uncovers goes
/// in the second round. Invalid UTF-8 is read as U+FFFD. Texts above 100 kB throw kInvalidArgument
/// [text.prompt_too_long].
[[nodiscard]] std::string clean_caption(std::string_view text);

/// clean_caption twice: what the encoder sees.
[[nodiscard]] std::string text_preprocessing(std::string_view text);

/// Without cleaning: lower case, white space trimmed at both ends.
[[nodiscard]] std::string plain_preprocessing(std::string_view text);

}  // namespace kinema::text
