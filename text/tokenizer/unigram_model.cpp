// SPDX-License-Identifier: Apache-2.0
// Unigram language model tokenization (Kudo, arXiv 1804.10959): Viterbi over the log probabilities
// of the pieces. An unknown character scores 10 less than the worst piece; neighbouring unknown
// ones fuse.
#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/prefix_tree.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr std::uint32_t kNoId = UINT32_MAX;

std::vector<std::string_view> texts_of(const std::vector<std::pair<std::string, double>>& pieces) {
  std::vector<std::string_view> texts;
  texts.reserve(pieces.size());
  for (const auto& [piece, score] : pieces) {
    texts.emplace_back(piece);
  }
  return texts;
}

class UnigramModel final : public Model {
 public:
  explicit UnigramModel(UnigramConfig config)
      : config_(std::move(config)), tree_(texts_of(config_.pieces)) {
    if (config_.unknown_id && *config_.unknown_id >= config_.pieces.size()) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.unknown_id",
                   .place = "text.tokenizer",
                   .subject = "unk_id",
                   .expected = "less than " + std::to_string(config_.pieces.size()) +
                               " (size of the vocabulary)",
                   .got = std::to_string(*config_.unknown_id)});
    }
    double lowest = std::numeric_limits<double>::infinity();
    for (const auto& [piece, score] : config_.pieces) {
      lowest = std::min(lowest, score);
    }
    unknown_score_ = lowest - kUnknownPenalty;
    for (unsigned byte = 0; byte < 256; ++byte) {
      bytes_[byte] = tree_.find(byte_token(static_cast<unsigned char>(byte)));
    }
  }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    for (const auto& [begin, end] : segment(piece)) {
      append(piece.substr(begin, end - begin), ids);
    }
  }

  std::optional<TokenId> token_to_id(std::string_view token) const override {
    const auto id = tree_.find(token);
    return id ? std::optional<TokenId>(*id) : std::nullopt;
  }
  const std::string* id_to_token(TokenId id) const override {
    return id >= 0 && id < id_limit() ? &config_.pieces[static_cast<std::size_t>(id)].first
                                      : nullptr;
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(config_.pieces.size()); }
  std::int64_t id_limit() const override { return size(); }
  std::string_view name() const override { return "unigram"; }

 private:
  struct Best {
    double score = 0.0;
    std::uint32_t begin = kNoId;  // start of the last piece; kNoId: not reached
    std::uint32_t id = kNoId;
  };
  using Segment = std::pair<std::size_t, std::size_t>;

  std::uint32_t unknown() const {
    if (!config_.unknown_id) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.unknown",
                   .place = "text.tokenizer",
                   .subject = "unigram model",
                   .expected = "unk_id, as the text has unknown characters",
                   .got = "none"});
    }
    return static_cast<std::uint32_t>(*config_.unknown_id);
  }

  // Byte ranges of the best path, in order.
  std::vector<Segment> segment(std::string_view text) const {
    std::vector<Best> best(text.size() + 1);
    const auto offer = [&](std::size_t begin, std::size_t end, double score, std::uint32_t id) {
      Best& target = best[end];
      if (target.begin == kNoId || score > target.score) {
        target = {score, static_cast<std::uint32_t>(begin), id};
      }
    };
    for (std::size_t i = 0; i < text.size();) {
      const double here = best[i].score;
      const std::size_t length = utf8_length(text[i]);
      bool single = false;
      tree_.prefixes(text.substr(i), [&](std::size_t size, std::uint32_t id) {
        offer(i, i + size, config_.pieces[id].second + here, id);
        single = single || size == length;
      });
      if (!single) {
        // Offered before it is known whether an unknown token exists: only a path that is taken
        // matters.
        const bool better =
            best[i + length].begin == kNoId || unknown_score_ + here > best[i + length].score;
        if (better) {
          offer(i, i + length, unknown_score_ + here, unknown());
        }
      }
      i += length;
    }
    std::vector<Segment> segments;
    bool fused = false;
    for (std::size_t end = text.size(); end > 0; end = best[end].begin) {
      const std::size_t begin = best[end].begin;
      const bool is_unknown = config_.unknown_id && best[end].id == *config_.unknown_id;
      if (is_unknown && fused) {
        segments.back().first = begin;
      } else {
        segments.emplace_back(begin, end);
      }
      fused = is_unknown;
    }
    std::reverse(segments.begin(), segments.end());
    return segments;
  }

  void append(std::string_view token, std::vector<TokenId>& ids) const {
    if (const auto id = tree_.find(token)) {
      ids.push_back(*id);
      return;
    }
    const bool all_bytes =
        config_.byte_fallback && std::all_of(token.begin(), token.end(), [&](char c) {
          return bytes_[static_cast<unsigned char>(c)].has_value();
        });
    if (!all_bytes) {
      ids.push_back(unknown());
      return;
    }
    for (const char c : token) {
      ids.push_back(*bytes_[static_cast<unsigned char>(c)]);
    }
  }

  UnigramConfig config_;
  PrefixTree tree_;
  std::array<std::optional<std::uint32_t>, 256> bytes_{};
  double unknown_score_ = 0.0;
};

}  // namespace

std::unique_ptr<Model> make_unigram_model(UnigramConfig config) {
  return std::make_unique<UnigramModel>(std::move(config));
}

}  // namespace kinema::text
