// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "text/tokenizer/pipeline_tokenizer.h"
#include "text/tokenizer/sentencepiece_encoder.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::int64_t kT5ExtraIds = 100;
constexpr std::int64_t kMaxExtraIds = 1'000'000;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, const SpecialTokens& special)
      : encoder_(std::move(model)) {
    place_special(special);
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    return surround(encode_text(text));
  }

  std::vector<TokenId> encode_truncated(std::string_view text,
                                        std::int64_t max_length) const override {
    const std::size_t room = room_for_text(max_length, (first_ ? 1U : 0U) + (last_ ? 1U : 0U));
    auto ids = encode_text(text);
    ids.resize(std::min(ids.size(), room));
    return surround(std::move(ids));
  }

  std::string decode(std::span<const TokenId> ids, bool skip_special) const override {
    for (const TokenId id : ids) {
      if (text_of(id) == nullptr) {
        unknown_id(id, vocab_size());
      }
    }
    return encoder_.decode(ids,
                           [&](TokenId id) { return skip_special ? std::string() : *text_of(id); });
  }

  std::int64_t vocab_size() const override {
    return added_.empty() ? encoder_.size() : std::max(encoder_.size(), added_.rbegin()->first + 1);
  }

  std::optional<TokenId> token_to_id(std::string_view token) const override {
    for (const auto& [id, content] : added_) {
      if (content == token) {
        return id;
      }
    }
    return encoder_.find(token);
  }

  TokenId pad_id() const override { return pad_id_; }
  std::optional<TokenId> eos_id() const override { return eos_id_; }

  std::string description() const override {
    return std::string("sentencepiece, ") + (encoder_.model().unigram ? "unigram" : "BPE") + ", " +
           std::to_string(vocab_size()) + " tokens";
  }

 private:
  const std::string* text_of(TokenId id) const {
    if (id >= 0 && id < encoder_.size()) {
      return &encoder_.model().pieces[static_cast<std::size_t>(id)].text;
    }
    const auto found = added_.find(id);
    return found == added_.end() ? nullptr : &found->second;
  }

  void place_special(const SpecialTokens& special) {
    const SentencePieceModel& model = encoder_.model();
    const std::string& name = special.tokenizer_class;
    const bool multilingual = name.starts_with("MT5");
    const bool t5 = name.starts_with("T5") || name.starts_with("UMT5") || multilingual ||
                    (name.empty() && model.unigram);
    for (const auto& [id, token] : special.added_tokens) {
      if (id >= encoder_.size()) {
        added_[id] = token.content;
      }
    }
    if (t5 && added_.empty() && !token_to_id("<extra_id_0>")) {
      add_sentinels(special.extra_ids.value_or(multilingual ? 0 : kT5ExtraIds));
    }
    if (special.add_bos.value_or(!t5)) {
      first_ = named(special.bos, model.bos_piece);
    }
    eos_id_ = named(special.eos, model.eos_piece);
    if (special.add_eos.value_or(t5)) {
      last_ = eos_id_;
    }
    pad_id_ = named(special.pad, model.pad_piece).value_or(0);
  }

  // <extra_id_0> has the largest id.
  void add_sentinels(std::int64_t count) {
    if (count < 0 || count > kMaxExtraIds) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.extra_ids",
                   .place = "text.tokenizer",
                   .subject = "extra_ids",
                   .expected = "0 to " + std::to_string(kMaxExtraIds),
                   .got = std::to_string(count)});
    }
    for (std::int64_t i = 0; i < count; ++i) {
      added_[encoder_.size() + count - 1 - i] = "<extra_id_" + std::to_string(i) + ">";
    }
  }

  // The token that the configuration names, else the control piece that the model names.
  std::optional<TokenId> named(const std::optional<std::string>& token,
                               const std::string& fallback) const {
    if (token) {
      if (const auto id = token_to_id(*token)) {
        return id;
      }
    }
    return encoder_.find_control(fallback);
  }

  std::vector<TokenId> encode_text(std::string_view bytes) const {
    check_text_size(bytes);
    return encoder_.encode(valid_utf8(bytes));
  }

  std::vector<TokenId> surround(std::vector<TokenId> ids) const {
    if (first_) {
      ids.insert(ids.begin(), *first_);
    }
    if (last_) {
      ids.push_back(*last_);
    }
    return ids;
  }

  SentencePieceEncoder encoder_;
  std::map<TokenId, std::string> added_;
  std::optional<TokenId> first_;
  std::optional<TokenId> last_;
  std::optional<TokenId> eos_id_;
  TokenId pad_id_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        const SpecialTokens& special,
                                                        const std::string& subject) {
  return std::make_unique<SentencePieceTokenizer>(SentencePieceModel::parse(model, subject),
                                                  special);
}

}  // namespace kinema::text
