// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include <sentencepiece_processor.h>

#include "core/base/error.h"
#include "text/tokenizer/pipeline_tokenizer.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer/unicode.h"

// Exported by the library but in no public header; without it the library writes to stderr.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);
}  // namespace sentencepiece::logging

namespace kinema::text {
namespace {

constexpr std::int64_t kT5ExtraIds = 100;
constexpr std::int64_t kMaxExtraIds = 1'000'000;
constexpr int kFatalOnly = 3;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model,
                         const SpecialTokens& special,
                         const std::string& subject) {
    const CheckedModel checked = check_sentencepiece_model(model, subject);
    unigram_ = checked.unigram;
    sentencepiece::logging::SetMinLogLevel(kFatalOnly);
    std::string problem;
    try {
      const auto status = processor_.LoadFromSerializedProto(checked.bytes);
      if (!status.ok()) {
        problem = status.ToString();
      }
    } catch (const std::exception& exception) {
      problem = exception.what();
    }
    if (!problem.empty() || processor_.GetPieceSize() != checked.pieces) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.spm_load",
                   .place = "text.tokenizer",
                   .subject = subject,
                   .expected = "a model that sentencepiece can load",
                   .got = problem.empty() ? "another number of pieces" : problem});
    }
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
    std::string text;
    std::vector<int> run;
    const auto flush = [&] {
      if (!run.empty()) {
        text += decode_run(run);
      }
      run.clear();
    };
    for (const TokenId id : ids) {
      const auto added = added_.find(id);
      const bool piece = id >= 0 && id < processor_.GetPieceSize();
      if (added == added_.end() && !piece) {
        unknown_id(id, vocab_size());
      }
      if (added == added_.end() && !processor_.IsControl(static_cast<int>(id))) {
        run.push_back(static_cast<int>(id));
        continue;
      }
      flush();
      if (!skip_special) {
        text += added != added_.end() ? added->second : processor_.IdToPiece(static_cast<int>(id));
      }
    }
    flush();
    return text;
  }

  std::int64_t vocab_size() const override {
    const std::int64_t pieces = processor_.GetPieceSize();
    return added_.empty() ? pieces : std::max<std::int64_t>(pieces, added_.rbegin()->first + 1);
  }

  std::optional<TokenId> token_to_id(std::string_view token) const override {
    for (const auto& [id, content] : added_) {
      if (content == token) {
        return id;
      }
    }
    const int id = processor_.PieceToId(token);
    // The library answers with the unknown token for what it does not know.
    if (id < 0 || id >= processor_.GetPieceSize() || processor_.IdToPiece(id) != token) {
      return std::nullopt;
    }
    return id;
  }

  TokenId pad_id() const override { return pad_id_; }
  std::optional<TokenId> eos_id() const override { return eos_id_; }

  std::string description() const override {
    return std::string("sentencepiece, ") + (unigram_ ? "unigram" : "BPE") + ", " +
           std::to_string(vocab_size()) + " tokens";
  }

 private:
  void place_special(const SpecialTokens& special) {
    const std::string& name = special.tokenizer_class;
    const bool multilingual = name.starts_with("MT5");
    const bool t5 = name.starts_with("T5") || name.starts_with("UMT5") || multilingual ||
                    (name.empty() && unigram_);
    for (const auto& [id, token] : special.added_tokens) {
      if (id >= processor_.GetPieceSize()) {
        added_[id] = token.content;
      }
    }
    if (t5 && added_.empty() && !token_to_id("<extra_id_0>")) {
      add_sentinels(special.extra_ids.value_or(multilingual ? 0 : kT5ExtraIds));
    }
    if (special.add_bos.value_or(!t5)) {
      first_ = named(special.bos, processor_.bos_id());
    }
    eos_id_ = named(special.eos, processor_.eos_id());
    if (special.add_eos.value_or(t5)) {
      last_ = eos_id_;
    }
    pad_id_ = named(special.pad, processor_.pad_id()).value_or(0);
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
      added_[processor_.GetPieceSize() + count - 1 - i] = "<extra_id_" + std::to_string(i) + ">";
    }
  }

  std::optional<TokenId> named(const std::optional<std::string>& token, int fallback) const {
    if (token) {
      if (const auto id = token_to_id(*token)) {
        return id;
      }
    }
    return fallback >= 0 ? std::optional<TokenId>(fallback) : std::nullopt;
  }

  std::vector<TokenId> encode_text(std::string_view bytes) const {
    check_text_size(bytes);
    std::vector<int> ids;
    const auto status = processor_.Encode(valid_utf8(bytes), &ids);
    if (!status.ok()) {
      throw failed(status.ToString());
    }
    return {ids.begin(), ids.end()};
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

  std::string decode_run(const std::vector<int>& ids) const {
    std::string text;
    const auto status = processor_.Decode(ids, &text);
    if (!status.ok()) {
      throw failed(status.ToString());
    }
    return text;
  }

  static Error failed(std::string got) {
    return {ErrorKind::kBadCheckpoint,
            {.code = "tokenizer.spm_run",
             .place = "text.tokenizer",
             .subject = "SentencePiece model",
             .expected = "a model that sentencepiece can run",
             .got = std::move(got)}};
  }

  sentencepiece::SentencePieceProcessor processor_;
  bool unigram_ = true;
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
  return std::make_unique<SentencePieceTokenizer>(model, special, subject);
}

}  // namespace kinema::text
