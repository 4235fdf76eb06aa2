// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding (Sennrich et al., arXiv 1508.07909) with the variants of public tokenizers.
#include <algorithm>
#include <array>
#include <limits>
#include <queue>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/hash_tables.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

[[noreturn]] void bad_merge(std::size_t number, std::string got) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.merges",
               .place = "text.tokenizer",
               .subject = "merge " + std::to_string(number),
               .expected = "two entries of the vocabulary that form a third",
               .got = std::move(got)});
}

// A vocabulary entry or merged run inside a piece; a doubly linked list over the vector.
struct Symbol {
  std::uint32_t id = 0;
  std::int32_t previous = -1;
  std::int32_t next = -1;
  bool alive = true;
};

struct Candidate {
  std::uint32_t rank = 0;
  std::uint32_t position = 0;
  std::uint32_t id = 0;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

class BpeModel final : public Model {
  auto entry() const {
    return [this](std::uint32_t at) -> std::string_view { return entries_[at].first; };
  }

 public:
  explicit BpeModel(BpeConfig config) : config_(std::move(config)) {
    entries_ = std::move(config_.vocabulary);
    index_.reserve(entries_.size());
    for (std::uint32_t i = 0; i < entries_.size(); ++i) {
      if (index_.find_or_insert(entries_[i].first, i, entry()) != i) {
        throw Error(ErrorKind::kBadCheckpoint,
                    {.code = "tokenizer.vocabulary",
                     .place = "text.tokenizer",
                     .subject = "vocab",
                     .expected = "every token once",
                     .got = "'" + entries_[i].first.substr(0, 60) + "' twice"});
      }
      limit_ = std::max(limit_, static_cast<std::int64_t>(entries_[i].second) + 1);
    }
    index_ids();
    index_merges();
    for (unsigned byte = 0; byte < 256; ++byte) {
      bytes_[byte] = find(byte_token(static_cast<unsigned char>(byte)));
    }
    if (config_.unknown_token) {
      unknown_ = find(*config_.unknown_token);
    }
  }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    if (piece.empty()) {
      return;
    }
    if (config_.ignore_merges) {
      if (const auto id = find(piece)) {
        ids.push_back(*id);
        return;
      }
    }
    std::vector<Symbol> symbols = split(piece);
    merge(symbols);
    for (const auto& symbol : symbols) {
      if (symbol.alive) {
        ids.push_back(symbol.id);
      }
    }
  }

  std::optional<TokenId> token_to_id(std::string_view token) const override {
    const auto id = find(token);
    return id ? std::optional<TokenId>(*id) : std::nullopt;
  }
  const std::string* id_to_token(TokenId id) const override {
    if (id < 0 || id >= limit_) {
      return nullptr;
    }
    if (!dense_.empty()) {
      const std::uint32_t at = dense_[static_cast<std::size_t>(id)];
      return at == StringIndex::kNone ? nullptr : &entries_[at].first;
    }
    const auto found = sparse_.find(static_cast<std::uint32_t>(id));
    return found == sparse_.end() ? nullptr : &entries_[found->second].first;
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(entries_.size()); }
  std::int64_t id_limit() const override { return limit_; }
  std::string_view name() const override { return "BPE"; }

 private:
  std::optional<std::uint32_t> find(std::string_view token) const {
    const std::uint32_t at = index_.find(token, entry());
    return at == StringIndex::kNone ? std::nullopt : std::optional(entries_[at].second);
  }

  void index_ids() {
    const auto limit = static_cast<std::size_t>(limit_);
    const bool dense = limit <= 4 * entries_.size() + 1024;
    if (dense) {
      dense_.assign(limit, StringIndex::kNone);
    }
    for (std::uint32_t i = 0; i < entries_.size(); ++i) {
      if (dense) {
        dense_[entries_[i].second] = i;
      } else {
        sparse_[entries_[i].second] = i;
      }
    }
  }

  void index_merges() {
    merges_.reserve(config_.merges.size());
    std::string joined;
    const std::size_t prefix = config_.continuing_prefix.size();
    for (std::size_t rank = 0; rank < config_.merges.size(); ++rank) {
      const auto& [left, right] = config_.merges[rank];
      const auto left_id = find(left);
      const auto right_id = find(right);
      if (!left_id || !right_id || right.size() < prefix) {
        bad_merge(rank + 1,
                  "'" + (left_id ? right : left).substr(0, 60) + "' is not in the vocabulary");
      }
      joined.assign(left);
      joined.append(right, prefix);
      const auto id = find(joined);
      if (!id) {
        bad_merge(rank + 1, "'" + joined.substr(0, 60) + "' is not in the vocabulary");
      }
      merges_.insert(*left_id, *right_id, {static_cast<std::uint32_t>(rank), *id});
    }
    config_.merges.clear();
    config_.merges.shrink_to_fit();
  }

  static void append(std::vector<Symbol>& symbols, std::uint32_t id) {
    const auto at = static_cast<std::int32_t>(symbols.size());
    if (at > 0) {
      symbols.back().next = at;
    }
    symbols.push_back({id, at - 1, -1, true});
  }

  bool append_bytes(std::vector<Symbol>& symbols, std::string_view token) const {
    for (const char c : token) {
      if (!bytes_[static_cast<unsigned char>(c)]) {
        return false;
      }
    }
    for (const char c : token) {
      append(symbols, *bytes_[static_cast<unsigned char>(c)]);
    }
    return true;
  }

  std::uint32_t unknown() const {
    if (!unknown_) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.unknown",
                   .place = "text.tokenizer",
                   .subject = "unknown token '" + *config_.unknown_token + "'",
                   .expected = "an entry of the vocabulary",
                   .got = "none"});
    }
    return *unknown_;
  }

  // One symbol a character. Characters that are no entry become byte tokens, the unknown token, or
  // nothing. An unknown token waits for the next known character, so byte tokens overtake it, as
  // they do in the reference.
  std::vector<Symbol> split(std::string_view piece) const {
    std::vector<Symbol> symbols;
    symbols.reserve(piece.size());
    bool waiting = false;
    std::string token;
    for (std::size_t i = 0; i < piece.size();) {
      const std::size_t length = utf8_length(piece[i]);
      token.assign(i == 0 ? std::string_view() : std::string_view(config_.continuing_prefix));
      token.append(piece, i, length);
      i += length;
      if (i >= piece.size()) {
        token += config_.end_of_word_suffix;
      }
      if (const auto id = find(token)) {
        if (waiting) {
          append(symbols, unknown());
          waiting = false;
        }
        append(symbols, *id);
        continue;
      }
      if (config_.byte_fallback && append_bytes(symbols, token)) {
        continue;
      }
      if (config_.unknown_token) {
        const std::uint32_t id = unknown();
        if (waiting && !config_.fuse_unknown) {
          append(symbols, id);
        }
        waiting = true;
      }
    }
    if (waiting) {
      append(symbols, unknown());
    }
    return symbols;
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::vector<Candidate> initial;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (const Merge* found = merges_.find(symbols[i].id, symbols[i + 1].id)) {
        initial.push_back({found->rank, static_cast<std::uint32_t>(i), found->id});
      }
    }
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(
        std::greater<>(), std::move(initial));
    const auto offer = [&](std::int32_t left, std::int32_t right) {
      if (left < 0 || right < 0) {
        return;
      }
      const Merge* found = merges_.find(symbols[static_cast<std::size_t>(left)].id,
                                        symbols[static_cast<std::size_t>(right)].id);
      if (found != nullptr) {
        queue.push({found->rank, static_cast<std::uint32_t>(left), found->id});
      }
    };
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      Symbol& left = symbols[best.position];
      if (!left.alive || left.next < 0) {
        continue;
      }
      Symbol& right = symbols[static_cast<std::size_t>(left.next)];
      const Merge* found = merges_.find(left.id, right.id);
      if (found == nullptr || found->id != best.id) {
        continue;  // one of the two has been merged since
      }
      left.id = best.id;
      right.alive = false;
      left.next = right.next;
      if (left.next >= 0) {
        symbols[static_cast<std::size_t>(left.next)].previous =
            static_cast<std::int32_t>(best.position);
      }
      offer(left.previous, static_cast<std::int32_t>(best.position));
      offer(static_cast<std::int32_t>(best.position), left.next);
    }
  }

  BpeConfig config_;
  Vocabulary entries_;
  StringIndex index_;
  std::vector<std::uint32_t> dense_;                         // entry by id
  std::unordered_map<std::uint32_t, std::uint32_t> sparse_;  // the same for ids with wide gaps
  MergeTable merges_;
  std::array<std::optional<std::uint32_t>, 256> bytes_{};
  std::optional<std::uint32_t> unknown_;
  std::int64_t limit_ = 0;
};

}  // namespace

std::string byte_token(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15U], '>'};
}

std::pair<std::string, std::string> parse_merge(std::string_view line, std::size_t number) {
  const auto space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    bad_merge(number,
              "'" + std::string(line.substr(0, 60)) + "' instead of two entries and one space");
  }
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

std::unique_ptr<Model> make_bpe_model(BpeConfig config) {
  return std::make_unique<BpeModel>(std::move(config));
}

}  // namespace kinema::text
