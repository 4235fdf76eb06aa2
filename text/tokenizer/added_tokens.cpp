// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxTokenText = 1024 * 1024;

bool word_before(std::string_view text, std::size_t position) {
  return position > 0 && is_word(previous_code_point(text, position));
}

bool word_behind(std::string_view text, std::size_t position) {
  return position < text.size() && is_word(next_code_point(text, position));
}

// Start of the white space that ends at `position`.
std::size_t spaces_before(std::string_view text, std::size_t position) {
  while (position > 0) {
    std::size_t before = position;
    if (!is_white_space(previous_code_point(text, before))) {
      break;
    }
    position = before;
  }
  return position;
}

std::size_t spaces_behind(std::string_view text, std::size_t position) {
  while (position < text.size()) {
    std::size_t after = position;
    if (!is_white_space(next_code_point(text, after))) {
      break;
    }
    position = after;
  }
  return position;
}

bool operator==(const AddedToken& a, const AddedToken& b) {
  return a.content == b.content && a.single_word == b.single_word && a.lstrip == b.lstrip &&
         a.rstrip == b.rstrip && a.normalized == b.normalized && a.special == b.special;
}

}  // namespace

AddedToken AddedToken::from_json(JsonReader& reader) {
  AddedToken token;
  reader.required("content", token.content);
  reader.required("single_word", token.single_word);
  reader.required("lstrip", token.lstrip);
  reader.required("rstrip", token.rstrip);
  reader.required("normalized", token.normalized);
  reader.required("special", token.special);
  return token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens,
                         const Model& model,
                         const Normalizer* normalizer) {
  TokenId next_id = model.size();
  for (auto& token : tokens) {
    if (token.content.empty()) {
      continue;
    }
    const auto known = ids_.find(token.content);
    if (known != ids_.end() && tokens_.at(known->second) == token) {
      continue;
    }
    TokenId id = 0;
    if (known != ids_.end()) {
      id = known->second;
    } else if (const auto in_model = model.token_to_id(token.content)) {
      id = *in_model;
    } else {
      id = next_id++;
    }
    if (token.normalized && normalizer != nullptr) {
      Piece piece(token.content, false, kMaxTokenText);
      normalizer->apply(piece);
      if (piece.text() != token.content) {
        normalized_[id] = piece.text();
      }
    }
    if (token.special) {
      special_[token.content] = true;
    }
    ids_[token.content] = id;
    tokens_[id] = std::move(token);
  }

  std::vector<std::pair<std::string, TokenId>> plain_patterns;
  std::vector<std::pair<std::string, TokenId>> normalized_patterns;
  for (const auto& [id, token] : tokens_) {
    if (!token.normalized) {
      plain_patterns.emplace_back(token.content, id);
      continue;
    }
    const auto rewritten = normalized_.find(id);
    normalized_patterns.emplace_back(
        rewritten == normalized_.end() ? token.content : rewritten->second, id);
  }
  plain_matcher_ = make_matcher(plain_patterns);
  normalized_matcher_ = make_matcher(normalized_patterns);
}

std::optional<AddedTokens::Matcher> AddedTokens::make_matcher(
    const std::vector<std::pair<std::string, TokenId>>& patterns) {
  if (patterns.empty()) {
    return std::nullopt;
  }
  std::vector<std::string_view> texts;
  std::vector<TokenId> ids;
  for (const auto& [text, id] : patterns) {
    texts.emplace_back(text);
    ids.push_back(id);
  }
  return Matcher{PrefixTree(texts), std::move(ids)};
}

void AddedTokens::split_one(const Piece& piece,
                            const Matcher& matcher,
                            std::vector<Piece>& result) const {
  const std::string_view text = piece.text();
  const auto add = [&](std::size_t begin, std::size_t end, std::optional<TokenId> id) {
    Piece part = piece.slice(begin, end);
    part.added_token = id;
    result.push_back(std::move(part));
  };
  std::size_t done = 0;  // everything before is in the result
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = 0;
    std::uint32_t index = 0;
    matcher.tree.prefixes(text.substr(at), [&](std::size_t size, std::uint32_t found) {
      length = size;
      index = found;
    });
    if (length == 0) {
      at += utf8_length(text[at]);
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + length;
    at = end;  // the search goes on here even if the token takes more or is passed over
    const TokenId id = matcher.ids[index];
    const AddedToken& token = tokens_.at(id);
    if (token.single_word && (word_before(text, begin) || word_behind(text, end))) {
      continue;
    }
    if (token.lstrip) {
      begin = std::max(spaces_before(text, begin), done);
    }
    if (token.rstrip) {
      end = spaces_behind(text, end);
    }
    if (done < begin) {
      add(done, begin, std::nullopt);
    }
    if (begin < end) {
      add(begin, end, id);
    }
    done = end;
  }
  if (done < text.size()) {
    add(done, text.size(), std::nullopt);
  }
}

void AddedTokens::split(std::vector<Piece>& pieces, const std::optional<Matcher>& matcher) const {
  std::vector<Piece> result;
  for (auto& piece : pieces) {
    if (piece.added_token) {
      result.push_back(std::move(piece));
    } else if (piece.empty()) {
      continue;
    } else if (matcher) {
      split_one(piece, *matcher, result);
    } else {
      result.push_back(piece.tracked() ? piece.slice(0, piece.text().size()) : std::move(piece));
    }
  }
  pieces = std::move(result);
}

std::vector<Piece> AddedTokens::extract(Piece text, const Normalizer* normalizer) const {
  std::vector<Piece> pieces;
  pieces.push_back(std::move(text));
  split(pieces, plain_matcher_);
  for (auto& piece : pieces) {
    if (!piece.added_token && normalizer != nullptr) {
      normalizer->apply(piece);
    }
  }
  split(pieces, normalized_matcher_);
  return pieces;
}

std::optional<TokenId> AddedTokens::find(std::string_view content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* AddedTokens::text_of(TokenId id) const {
  const auto rewritten = normalized_.find(id);
  if (rewritten != normalized_.end()) {
    return &rewritten->second;
  }
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : &found->second.content;
}

bool AddedTokens::is_special(std::string_view text) const {
  return special_.contains(text);
}

std::int64_t AddedTokens::id_limit(std::int64_t limit) const {
  return tokens_.empty() ? limit : std::max(limit, tokens_.rbegin()->first + 1);
}

}  // namespace kinema::text
