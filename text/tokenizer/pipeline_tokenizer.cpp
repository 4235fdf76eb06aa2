// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pipeline_tokenizer.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/decoders.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/post_processors.h"
#include "text/tokenizer/pre_tokenizers.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxText = 256ULL * 1024 * 1024;
// Real rules stay far below: one character of three bytes becomes at most 18 characters (NFKD).
constexpr std::size_t kMaxGrowth = 256;
constexpr std::size_t kFreeGrowth = 64ULL * 1024;
constexpr std::size_t kMaxNormalized = 1ULL << 30;

class PipelineTokenizer final : public Tokenizer {
 public:
  PipelineTokenizer(TokenizerJson json,
                    const SpecialTokens& special,
                    const JsonContext& context,
                    std::string source)
      : source_(std::move(source)) {
    JsonReader reader(json.document, context);
    const Json nothing;
    const auto part = [&](std::string_view key) -> const Json& {
      const Json* found = reader.find(key);
      return found == nullptr ? nothing : *found;
    };
    std::string version;
    if (reader.optional("version", version) && version != "1.0") {
      unsupported_component(context, "version '" + version.substr(0, 40) + "'");
    }
    normalizer_ = make_normalizer(part("normalizer"), context);
    pre_tokenizer_ = make_pre_tokenizer(part("pre_tokenizer"), context);
    post_processor_ = make_post_processor(part("post_processor"), context);
    decoder_ = make_decoder(part("decoder"), context);
    if (part("model").is_null()) {
      throw reader.error("config.missing", "model", "a model", "nothing");
    }
    model_ = make_model(part("model"), std::move(json.lists), context);
    added_ = std::make_unique<AddedTokens>(
        read_added(part("added_tokens"), context), *model_, normalizer_.get());
    byte_level_ = decoder_ != nullptr && part("decoder").value("type", "") == "ByteLevel";
    name_special(special);
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    PostProcessor::Parts parts = {encode_text(text)};
    return finish(std::move(parts));
  }

  std::vector<TokenId> encode_truncated(std::string_view text,
                                        std::int64_t max_length) const override {
    const std::size_t added = post_processor_ == nullptr ? 0 : post_processor_->added();
    const std::size_t room = room_for_text(max_length, added);
    PostProcessor::Parts parts = {encode_text(text)};
    if (parts.front().size() > room) {
      parts.front().resize(room);
    }
    return finish(std::move(parts));
  }

  std::string decode(std::span<const TokenId> ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const TokenId id : ids) {
      const std::string* token = added_->text_of(id);
      if (token == nullptr) {
        token = model_->id_to_token(id);
      }
      if (token == nullptr) {
        unknown_id(id, vocab_size());
      }
      if (!skip_special || !added_->is_special(*token)) {
        tokens.push_back(*token);
      }
    }
    if (decoder_ != nullptr) {
      decoder_->apply(tokens);
    }
    std::string text;
    for (const auto& token : tokens) {
      if (decoder_ == nullptr && &token != &tokens.front()) {
        text += ' ';
      }
      text += token;
    }
    return text;
  }

  std::int64_t vocab_size() const override { return added_->id_limit(model_->id_limit()); }

  std::optional<TokenId> token_to_id(std::string_view token) const override {
    const auto id = added_->find(token);
    return id ? id : model_->token_to_id(token);
  }

  TokenId pad_id() const override { return pad_id_; }
  std::optional<TokenId> eos_id() const override { return eos_id_; }

  std::string description() const override {
    return source_ + ", " + std::string(model_->name()) + (byte_level_ ? ", byte level" : "") +
           ", " + std::to_string(vocab_size()) + " tokens";
  }

 private:
  static std::vector<AddedToken> read_added(const Json& json, const JsonContext& context) {
    std::vector<AddedToken> tokens;
    if (json.is_null()) {
      return tokens;
    }
    if (!json.is_array()) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "config.type",
                   .place = context.place,
                   .subject = context.subject + ": added_tokens",
                   .expected = "a list",
                   .got = json.type_name()});
    }
    for (const Json& entry : json) {
      JsonReader reader(entry, context, "added_tokens");
      tokens.push_back(AddedToken::from_json(reader));
    }
    return tokens;
  }

  // The end token of the configuration, else the one special token that follows every text.
  void name_special(const SpecialTokens& special) {
    if (special.pad) {
      pad_id_ = token_to_id(*special.pad).value_or(0);
    }
    if (special.eos) {
      eos_id_ = token_to_id(*special.eos);
    } else if (post_processor_ != nullptr && !special.bos && !special.pad) {
      PostProcessor::Parts empty = {{}};
      const auto ids = finish(std::move(empty));
      PostProcessor::Parts one = {{-1}};
      const auto around = finish(std::move(one));
      if (!ids.empty() && !around.empty() && around.back() != -1) {
        eos_id_ = ids.back();
      }
    }
  }

  std::vector<TokenId> encode_text(std::string_view bytes) const {
    check_text_size(bytes);
    std::string text = valid_utf8(bytes);
    const std::size_t limit = std::min(kMaxNormalized, kFreeGrowth + kMaxGrowth * text.size());
    const bool track = pre_tokenizer_ != nullptr && pre_tokenizer_->needs_origins();
    std::vector<Piece> pieces =
        added_->extract(Piece(std::move(text), track, limit), normalizer_.get());
    if (pre_tokenizer_ != nullptr) {
      pre_tokenizer_->apply(pieces);
    }
    std::vector<TokenId> ids;
    for (const auto& piece : pieces) {
      if (piece.added_token) {
        ids.push_back(*piece.added_token);
      } else {
        model_->encode(piece.text(), ids);
      }
    }
    return ids;
  }

  std::vector<TokenId> finish(PostProcessor::Parts parts) const {
    if (post_processor_ != nullptr) {
      post_processor_->apply(parts);
    }
    std::vector<TokenId> ids;
    for (auto& part : parts) {
      if (ids.empty()) {
        ids = std::move(part);
      } else {
        ids.insert(ids.end(), part.begin(), part.end());
      }
    }
    return ids;
  }

  std::string source_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<PostProcessor> post_processor_;
  std::unique_ptr<TokenDecoder> decoder_;
  std::unique_ptr<AddedTokens> added_;
  bool byte_level_ = false;
  TokenId pad_id_ = 0;
  std::optional<TokenId> eos_id_;
};

}  // namespace

std::size_t room_for_text(std::int64_t max_length, std::size_t added) {
  if (max_length < 1 || static_cast<std::uint64_t>(max_length) < added) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "tokenizer.max_length",
                 .place = "text.tokenizer",
                 .subject = "max_length",
                 .expected = "at least " + std::to_string(std::max<std::size_t>(added, 1)) +
                             " (the special tokens alone)",
                 .got = std::to_string(max_length)});
  }
  return static_cast<std::size_t>(max_length) - added;
}

void check_text_size(std::string_view text) {
  if (text.size() > kMaxText) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "tokenizer.text_too_long",
                 .place = "text.tokenizer",
                 .subject = "text",
                 .expected = "at most " + format_bytes(kMaxText),
                 .got = format_bytes(text.size())});
  }
}

void unknown_id(TokenId id, std::int64_t limit) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "tokenizer.id",
               .place = "text.tokenizer",
               .subject = "token id",
               .expected = "the id of a token, 0 to " + std::to_string(limit - 1),
               .got = std::to_string(id)});
}

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerJson json,
                                                   const SpecialTokens& special,
                                                   const JsonContext& context,
                                                   std::string source) {
  return std::make_unique<PipelineTokenizer>(std::move(json), special, context, std::move(source));
}

}  // namespace kinema::text
