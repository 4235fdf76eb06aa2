// SPDX-License-Identifier: Apache-2.0
// spiece.model and tokenizer.model. T5 models end in </s> and
// have sentinel tokens behind their pieces; Llama models begin with <s>. Special strings inside a
// text are plain characters.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer/special_tokens.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

/// Throws kBadCheckpoint [tokenizer.spm_format], [tokenizer.charsmap], [tokenizer.unsupported].
[[nodiscard]] std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                                      const SpecialTokens& special,
                                                                      const std::string& subject);

}  // namespace kinema::text
