// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_encoder.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
constexpr float kUnknownPenalty = 10.0F;
constexpr float kResetScore = 100000.0F;
constexpr std::size_t kMaxNormalized = 1ULL << 30;
constexpr std::uint32_t kNone = UINT32_MAX;

bool is_matched(PieceType type) {
  return type == PieceType::kNormal || type == PieceType::kUserDefined ||
         type == PieceType::kUnused;
}

// What a user-defined symbol scores in a unigram model: more than its characters would.
float user_defined_score(std::size_t length) {
  return static_cast<float>(0.1 * (static_cast<double>(length) - 1.0));
}

// One step of BPE: the symbols left and right may merge.
struct Pair {
  float score = 0.0F;
  std::uint32_t left = 0;
  std::uint32_t right = 0;
  std::size_t size = 0;
  bool operator<(const Pair& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

struct Symbol {
  std::size_t begin = 0;
  std::size_t size = 0;
  std::int64_t previous = -1;
  std::int64_t next = -1;
  bool frozen = false;  // a user-defined symbol
};

}  // namespace

PrefixTree SentencePieceEncoder::make_tree(const SentencePieceModel& model,
                                           bool user_defined_only,
                                           std::vector<std::uint32_t>& ids) {
  std::vector<std::string_view> texts;
  for (std::uint32_t id = 0; id < model.pieces.size(); ++id) {
    const PieceType type = model.pieces[id].type;
    if (user_defined_only ? type == PieceType::kUserDefined : is_matched(type)) {
      texts.emplace_back(model.pieces[id].text);
      ids.push_back(id);
    }
  }
  return PrefixTree(texts);
}

SentencePieceEncoder::SentencePieceEncoder(SentencePieceModel model)
    : model_(std::move(model)),
      matched_(make_tree(model_, false, matched_ids_)),
      user_defined_(make_tree(model_, true, user_defined_ids_)) {
  float lowest = std::numeric_limits<float>::max();
  bytes_.fill(kNone);
  for (std::uint32_t id = 0; id < model_.pieces.size(); ++id) {
    const auto& piece = model_.pieces[id];
    if (piece.type == PieceType::kNormal) {
      lowest = std::min(lowest, piece.score);
    } else if (piece.type == PieceType::kUnknown) {
      unknown_ = id;
    } else if (piece.type == PieceType::kByte) {
      for (unsigned byte = 0; byte < 256; ++byte) {
        if (piece.text == byte_token(static_cast<unsigned char>(byte))) {
          bytes_[byte] = id;
        }
      }
    }
  }
  unknown_score_ = lowest - kUnknownPenalty;
}

std::optional<TokenId> SentencePieceEncoder::find(std::string_view piece) const {
  for (std::uint32_t id = 0; id < model_.pieces.size(); ++id) {
    if (!is_matched(model_.pieces[id].type) && model_.pieces[id].text == piece) {
      return id;
    }
  }
  const auto id = find_matched(piece);
  return id ? std::optional<TokenId>(*id) : std::nullopt;
}

std::optional<TokenId> SentencePieceEncoder::find_control(std::string_view piece) const {
  const auto id = find(piece);
  return id && model_.pieces[static_cast<std::size_t>(*id)].type == PieceType::kControl
             ? id
             : std::nullopt;
}

std::optional<std::uint32_t> SentencePieceEncoder::find_matched(std::string_view piece) const {
  const auto index = matched_.find(piece);
  return index ? std::optional(matched_ids_[*index]) : std::nullopt;
}

std::size_t SentencePieceEncoder::user_defined_length(std::string_view text) const {
  std::size_t longest = 0;
  user_defined_.prefixes(text, [&](std::size_t length, std::uint32_t) { longest = length; });
  return longest;
}

std::string SentencePieceEncoder::normalize(std::string_view text,
                                            const SentencePieceRules& rules) const {
  const std::string_view space = rules.escape_whitespaces ? kSpace : std::string_view(" ");
  // Longest user-defined symbol, else longest entry of the map, else one character.
  const auto next = [&]() -> std::string_view {
    std::size_t length = user_defined_length(text);
    std::string_view form;
    if (length == 0 && rules.map) {
      const auto match = rules.map->find_longest(text);
      length = match.length;
      form = match.replacement;
    } else {
      form = text.substr(0, length);
    }
    if (length == 0) {
      length = utf8_length(text.front());
      form = text.substr(0, length);
    }
    text.remove_prefix(length);
    return form;
  };

  if (rules.remove_extra_whitespaces) {
    while (!text.empty()) {
      const std::string_view rest = text;
      if (next() != " ") {
        text = rest;
        break;
      }
    }
  }
  std::string result;
  if (text.empty()) {
    return result;
  }
  if (!model_.whitespace_as_suffix && rules.add_dummy_prefix) {
    result += space;
  }
  bool after_space = rules.remove_extra_whitespaces;
  while (!text.empty()) {
    std::string_view form = next();
    while (after_space && form.starts_with(' ')) {
      form.remove_prefix(1);
    }
    for (const char c : form) {
      if (c == ' ') {
        result += space;
      } else {
        result += c;
      }
    }
    if (!form.empty()) {
      after_space = form.ends_with(' ') && rules.remove_extra_whitespaces;
    }
    if (result.size() > kMaxNormalized) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.expansion",
                   .place = "text.tokenizer",
                   .subject = "normalised text",
                   .expected = "at most " + format_bytes(kMaxNormalized),
                   .got = "more"});
    }
  }
  while (rules.remove_extra_whitespaces && result.ends_with(space)) {
    result.resize(result.size() - space.size());
  }
  if (model_.whitespace_as_suffix && rules.add_dummy_prefix) {
    result += space;
  }
  return result;
}

// Viterbi in single precision, as the reference does it, because ties are broken by rounding.
std::vector<SentencePieceEncoder::Segment> SentencePieceEncoder::segment_unigram(
    std::string_view text) const {
  struct Best {
    float score = 0.0F;
    std::uint32_t begin = kNone;
    std::uint32_t id = kNone;  // kNone: unknown
  };
  std::vector<Best> best(text.size() + 1);
  std::size_t frontier = 0;
  const auto offer = [&](std::size_t begin, std::size_t end, float score, std::uint32_t id) {
    frontier = std::max(frontier, end);
    Best& target = best[end];
    if (target.begin == kNone || score > target.score) {
      target = {score, static_cast<std::uint32_t>(begin), id};
    }
  };
  for (std::size_t i = 0; i < text.size();) {
    if (best[i].score < -kResetScore || best[i].score > kResetScore) {
      // Long texts: only differences matter, and large sums would lose them.
      const float offset = best[i].score;
      for (std::size_t k = i; k <= frontier; ++k) {
        if (k == i || best[k].begin != kNone) {
          best[k].score -= offset;
        }
      }
    }
    const float here = best[i].score;
    const std::size_t length = utf8_length(text[i]);
    bool single = false;
    matched_.prefixes(text.substr(i), [&](std::size_t size, std::uint32_t index) {
      const std::uint32_t id = matched_ids_[index];
      const auto& piece = model_.pieces[id];
      if (piece.type == PieceType::kUnused) {
        return;
      }
      const float score =
          piece.type == PieceType::kUserDefined ? user_defined_score(size) : piece.score;
      offer(i, i + size, score + here, id);
      single = single || size == length;
    });
    if (!single) {
      offer(i, i + length, unknown_score_ + here, kNone);
    }
    i += length;
  }
  std::vector<Segment> segments;
  for (std::size_t end = text.size(); end > 0; end = best[end].begin) {
    const std::uint32_t id = best[end].id;
    segments.push_back({best[end].begin, end, id == kNone ? std::nullopt : std::optional(id)});
  }
  std::reverse(segments.begin(), segments.end());
  return segments;
}

std::vector<SentencePieceEncoder::Segment> SentencePieceEncoder::segment_bpe(
    std::string_view text) const {
  std::vector<Symbol> symbols;
  symbols.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t defined = user_defined_length(text.substr(i));
    const std::size_t size = defined != 0 ? defined : utf8_length(text[i]);
    const auto at = static_cast<std::int64_t>(symbols.size());
    i += size;
    symbols.push_back({i - size, size, at - 1, i < text.size() ? at + 1 : -1, defined != 0});
  }
  std::vector<Pair> pairs;
  // How unused pieces were put together, by their place: begin and size to size of the left part.
  std::unordered_map<std::uint64_t, std::uint32_t> parts;
  const auto key = [](std::size_t begin, std::size_t size) {
    return (static_cast<std::uint64_t>(begin) << 32) | size;
  };
  const auto make_pair = [&](std::int64_t left, std::int64_t right, auto&& accept) {
    if (left < 0 || right < 0) {
      return;
    }
    const Symbol& a = symbols[static_cast<std::size_t>(left)];
    const Symbol& b = symbols[static_cast<std::size_t>(right)];
    if (a.frozen || b.frozen || a.size + b.size >= 8000) {
      return;
    }
    const auto id = find_matched(text.substr(a.begin, a.size + b.size));
    if (!id) {
      return;
    }
    accept(Pair{model_.pieces[*id].score,
                static_cast<std::uint32_t>(left),
                static_cast<std::uint32_t>(right),
                a.size + b.size});
    if (model_.pieces[*id].type == PieceType::kUnused) {
      parts[key(a.begin, a.size + b.size)] = static_cast<std::uint32_t>(a.size);
    }
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    make_pair(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i + 1), [&](Pair pair) {
      pairs.push_back(pair);
    });
  }
  std::priority_queue<Pair> queue(std::less<Pair>(), std::move(pairs));
  while (!queue.empty()) {
    const Pair top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.left];
    Symbol& right = symbols[top.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) {
      continue;
    }
    left.size += right.size;
    left.next = right.next;
    if (right.next >= 0) {
      symbols[static_cast<std::size_t>(right.next)].previous = top.left;
    }
    right.size = 0;
    make_pair(left.previous, top.left, [&](Pair pair) { queue.push(pair); });
    make_pair(top.left, left.next, [&](Pair pair) { queue.push(pair); });
  }

  std::vector<Segment> segments;
  std::vector<std::pair<std::size_t, std::size_t>> open;
  for (std::int64_t i = symbols.empty() ? -1 : 0; i >= 0;
       i = symbols[static_cast<std::size_t>(i)].next) {
    const Symbol& symbol = symbols[static_cast<std::size_t>(i)];
    open.emplace_back(symbol.begin, symbol.size);
    while (!open.empty()) {
      const auto [begin, size] = open.back();
      open.pop_back();
      const auto id = find_matched(text.substr(begin, size));
      const bool unused = id && model_.pieces[*id].type == PieceType::kUnused;
      const auto split = unused ? parts.find(key(begin, size)) : parts.end();
      if (split != parts.end()) {
        open.emplace_back(begin + split->second, size - split->second);
        open.emplace_back(begin, split->second);
      } else {
        segments.push_back({begin, begin + size, unused ? std::nullopt : id});
      }
    }
  }
  return segments;
}

std::vector<TokenId> SentencePieceEncoder::encode(std::string_view text) const {
  const std::string normalized = normalize(text, model_.rules);
  const auto segments = model_.unigram ? segment_unigram(normalized) : segment_bpe(normalized);
  std::vector<TokenId> ids;
  bool after_unknown = false;
  for (const auto& segment : segments) {
    const bool unknown = !segment.id;
    if (!unknown) {
      ids.push_back(*segment.id);
    } else if (model_.byte_fallback) {
      for (std::size_t i = segment.begin; i < segment.end; ++i) {
        ids.push_back(bytes_[static_cast<unsigned char>(normalized[i])]);
      }
    } else if (!after_unknown) {
      ids.push_back(*unknown_);
    }
    after_unknown = unknown;
  }
  return ids;
}

std::string SentencePieceEncoder::decode(
    std::span<const TokenId> ids, const std::function<std::string(TokenId)>& control_text) const {
  std::string text;
  std::string bytes;
  const auto flush = [&] {
    // One U+FFFD for each byte that starts no character.
    for (std::size_t i = 0; i < bytes.size();) {
      const std::size_t length = std::min(utf8_length(bytes[i]), bytes.size() - i);
      if (is_valid_utf8(std::string_view(bytes).substr(i, length))) {
        text.append(bytes, i, length);
        i += length;
      } else {
        text += "\xEF\xBF\xBD";
        ++i;
      }
    }
    bytes.clear();
  };
  bool at_start = true;
  for (const TokenId id : ids) {
    const SentencePieceEntry* piece =
        id >= 0 && id < size() ? &model_.pieces[static_cast<std::size_t>(id)] : nullptr;
    if (piece != nullptr && piece->type == PieceType::kByte) {
      const auto byte =
          std::find(bytes_.begin(), bytes_.end(), static_cast<std::uint32_t>(id)) - bytes_.begin();
      bytes.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    at_start = at_start && text.empty();
    if (piece == nullptr || piece->type == PieceType::kControl) {
      text += control_text(id);
      continue;
    }
    if (piece->type == PieceType::kUnknown) {
      text += model_.unknown_surface;
    } else {
      std::string_view rest = piece->text;
      bool took_space = false;
      if (at_start && (model_.rules.add_dummy_prefix || model_.rules.remove_extra_whitespaces) &&
          rest.starts_with(kSpace)) {
        rest.remove_prefix(kSpace.size());
        took_space = !model_.rules.remove_extra_whitespaces;
      }
      for (auto at = rest.find(kSpace); at != std::string_view::npos; at = rest.find(kSpace)) {
        text.append(rest.substr(0, at)).push_back(' ');
        rest.remove_prefix(at + kSpace.size());
      }
      text += rest;
      at_start = at_start && !took_space;
    }
    at_start = at_start && text.empty();
  }
  flush();
  return model_.decoding_rules ? normalize(text, *model_.decoding_rules) : text;
}

}  // namespace kinema::text
