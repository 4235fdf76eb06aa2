// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, from the files that a Hugging Face folder holds. No LibTorch.
//
//   const auto tokenizer = Tokenizer::load("model/tokenizer");
//   const TokenBatch batch = tokenizer->encode_batch({"a red circle"}, {.max_length = 300});
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::text {

using TokenId = std::int64_t;

/// Ids and mask of B texts, row-major [B, length]; mask 1 for text and special tokens, 0 for
/// padding.
struct TokenBatch {
  std::int64_t batch = 0;
  std::int64_t length = 0;
  std::vector<TokenId> input_ids;
  std::vector<std::int64_t> attention_mask;
};

enum class Padding {
  kMaxLength,  ///< every row has exactly max_length tokens
  kLongest,    ///< rows are as long as the longest text (at most max_length)
};

struct EncodeOptions {
  std::int64_t max_length = 512;  ///< counts the special tokens; longer texts lose their tail
  Padding padding = Padding::kMaxLength;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Loads from a folder (tokenizer.json, else spiece.model / tokenizer.model, else vocab.json +
  /// merges.txt; tokenizer_config.json and special_tokens_map.json name the special tokens) or from
  /// one of these files. Throws kIo [io.open] or kBadCheckpoint [tokenizer.*].
  static std::unique_ptr<Tokenizer> load(const std::string& path);

  /// Ids with the special tokens that the files ask for (</s>, <s>, <|startoftext|> ...), no
  /// truncation. Invalid UTF-8 is read as U+FFFD per maximal bad sequence.
  [[nodiscard]] virtual std::vector<TokenId> encode(std::string_view text) const = 0;

  /// The same, cut to `max_length` tokens including the special ones, which survive.
  [[nodiscard]] virtual std::vector<TokenId> encode_truncated(std::string_view text,
                                                              std::int64_t max_length) const = 0;

  /// Text of ids. Unknown ids throw kInvalidArgument [tokenizer.id].
  [[nodiscard]] virtual std::string decode(std::span<const TokenId> ids,
                                           bool skip_special) const = 0;

  /// Number of ids, added tokens included.
  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;
  [[nodiscard]] virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;
  /// The id that fills rows: pad_token, else 0.
  [[nodiscard]] virtual TokenId pad_id() const = 0;
  [[nodiscard]] virtual std::optional<TokenId> eos_id() const = 0;
  /// "tokenizer.json, BPE, byte level, 151643 tokens" for inspect.
  [[nodiscard]] virtual std::string description() const = 0;

  /// Encodes B texts into one right-padded batch.
  [[nodiscard]] TokenBatch encode_batch(std::span<const std::string> texts,
                                        const EncodeOptions& options) const;
};

}  // namespace kinema::text
