// SPDX-License-Identifier: Apache-2.0
// Text to piece ids and back as the sentencepiece library (0.2) does it, without the special tokens
// around a text. Unigram: Kudo, arXiv 1804.10959; the model file: Kudo and Richardson, arXiv
// 1808.06226.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/hash_tables.h"
#include "text/tokenizer/prefix_tree.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

class SentencePieceEncoder {
 public:
  explicit SentencePieceEncoder(SentencePieceModel model);

  [[nodiscard]] const SentencePieceModel& model() const noexcept { return model_; }
  [[nodiscard]] std::int64_t size() const noexcept {
    return static_cast<std::int64_t>(model_.pieces.size());
  }

  /// Ids of valid UTF-8.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const;

  /// Text of ids. `control_text` gives what stands for an id that is no piece or a control piece.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids,
                                   const std::function<std::string(TokenId)>& control_text) const;

  /// Id of a piece of any type.
  [[nodiscard]] std::optional<TokenId> find(std::string_view piece) const;
  /// The same, if it is a control piece.
  [[nodiscard]] std::optional<TokenId> find_control(std::string_view piece) const;

 private:
  struct Segment {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::optional<std::uint32_t> id;  ///< none: unknown
  };

  static PrefixTree make_tree(const SentencePieceModel& model,
                              bool user_defined_only,
                              std::vector<std::uint32_t>& ids);

  std::string normalize(std::string_view text, const SentencePieceRules& rules) const;
  std::size_t user_defined_length(std::string_view text) const;
  std::vector<Segment> segment_unigram(std::string_view text) const;
  std::vector<Segment> segment_bpe(std::string_view text) const;
  std::optional<std::uint32_t> find_matched(std::string_view piece) const;

  SentencePieceModel model_;
  std::vector<std::uint32_t> matched_ids_;  // pieces that a text can match
  std::vector<std::uint32_t> user_defined_ids_;
  PrefixTree matched_;
  PrefixTree user_defined_;
  std::array<std::uint32_t, 256> bytes_{};
  std::optional<std::uint32_t> unknown_;
  float unknown_score_ = 0.0F;
};

}  // namespace kinema::text
