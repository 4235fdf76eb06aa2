// SPDX-License-Identifier: Apache-2.0
// Runs the components of a tokenizer.json as the tokenizers library (0.23) does: added tokens,
// normalizer, pre-tokenizer, model, post-processor, decoder.
#pragma once

#include <memory>
#include <string>

#include "core/base/json.h"
#include "text/tokenizer/special_tokens.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_json.h"

namespace kinema::text {

/// `description`: what the ids come from ("tokenizer.json"). Throws kBadCheckpoint.
[[nodiscard]] std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerJson json,
                                                                 const SpecialTokens& special,
                                                                 const JsonContext& context,
                                                                 std::string source);

/// A tokenizer.json equal to vocab.json + merges.txt for the class that tokenizer_config.json names
/// (Qwen2, CLIP, GPT-2). Throws kBadCheckpoint [tokenizer.unsupported], [tokenizer.vocabulary],
/// [tokenizer.merges].
[[nodiscard]] TokenizerJson pipeline_of_vocabulary(const TokenizerFiles& files,
                                                   const SpecialTokens& special);

/// Cuts off what exceeds `max_length`, the `added` special tokens not counted. Throws
/// kInvalidArgument [tokenizer.max_length] if not even these fit.
[[nodiscard]] std::size_t room_for_text(std::int64_t max_length, std::size_t added);

/// Refuses texts above 256 MB: kInvalidArgument [tokenizer.text_too_long].
void check_text_size(std::string_view text);

/// kInvalidArgument [tokenizer.id]: no token has this id.
[[noreturn]] void unknown_id(TokenId id, std::int64_t limit);

}  // namespace kinema::text
