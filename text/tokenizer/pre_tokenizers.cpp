// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pre_tokenizers.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

// The word pattern of GPT-2.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::vector<MatchSpan> whole(const Piece& piece) {
  return {{0, piece.text().size(), false}};
}

// Spans of the single characters for which `wanted` holds and of what lies between them.
template <typename Wanted>
std::vector<MatchSpan> find_characters(std::string_view text, Wanted wanted) {
  std::vector<MatchSpan> spans;
  std::size_t previous = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (!wanted(next_code_point(text, i))) {
      continue;
    }
    if (previous < begin) {
      spans.push_back({previous, begin, false});
    }
    spans.push_back({begin, i, true});
    previous = i;
  }
  if (previous < text.size()) {
    spans.push_back({previous, text.size(), false});
  }
  return spans;
}

void invert(std::vector<MatchSpan>& spans) {
  for (auto& span : spans) {
    span.match = !span.match;
  }
}

class SplitPreTokenizer final : public PreTokenizer {
 public:
  SplitPreTokenizer(Pattern pattern, SplitBehavior behavior, bool inverted)
      : pattern_(std::move(pattern)), behavior_(behavior), inverted_(inverted) {}

  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [this](const Piece& piece) {
      auto spans = pattern_.find(piece.text());
      if (inverted_) {
        invert(spans);
      }
      return apply_behavior(std::move(spans), behavior_);
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool inverted_;
};

class ByteLevelPreTokenizer final : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), words_(use_regex ? &gpt2_words() : nullptr) {}

  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [this](Piece& piece) {
      if (add_prefix_space_ && !piece.text().starts_with(' ')) {
        piece.prepend(" ");
      }
      return words_ != nullptr ? words_->find(piece.text()) : whole(piece);
    });
    for (auto& piece : pieces) {
      if (!piece.added_token) {
        map_bytes(piece);
      }
    }
  }

 private:
  // Compiled once; it never changes.
  static const Pattern& gpt2_words() {
    static const Pattern kWords = Pattern::regex(kGpt2Words);
    return kWords;
  }

  bool add_prefix_space_;
  const Pattern* words_;
};

class MetaspacePreTokenizer final : public PreTokenizer {
 public:
  explicit MetaspacePreTokenizer(MetaspaceConfig config)
      : config_(std::move(config)),
        mark_(Pattern::literal(config_.replacement)),
        space_(Pattern::literal(" ")) {}

  bool needs_origins() const override { return config_.scheme == PrependScheme::kFirst; }

  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [this](Piece& piece) {
      piece.replace(space_.find(piece.text()), config_.replacement);
      const bool wanted = config_.scheme == PrependScheme::kAlways ||
                          (config_.scheme == PrependScheme::kFirst && piece.origin() == 0);
      if (wanted && !piece.text().starts_with(config_.replacement)) {
        piece.prepend(config_.replacement);
      }
      return config_.split
                 ? apply_behavior(mark_.find(piece.text()), SplitBehavior::kMergedWithNext)
                 : whole(piece);
    });
  }

 private:
  MetaspaceConfig config_;
  Pattern mark_;
  Pattern space_;
};

// Pre-tokenizers that cut at single characters.
class CharacterPreTokenizer final : public PreTokenizer {
 public:
  using Wanted = bool (*)(char32_t);
  CharacterPreTokenizer(Wanted wanted, SplitBehavior behavior)
      : wanted_(wanted), behavior_(behavior) {}

  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [this](const Piece& piece) {
      return apply_behavior(find_characters(piece.text(), wanted_), behavior_);
    });
  }

 private:
  Wanted wanted_;
  SplitBehavior behavior_;
};

class DelimiterPreTokenizer final : public PreTokenizer {
 public:
  explicit DelimiterPreTokenizer(std::string delimiter)
      : pattern_(Pattern::literal(std::move(delimiter))) {}

  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [this](const Piece& piece) {
      return apply_behavior(pattern_.find(piece.text()), SplitBehavior::kRemoved);
    });
  }

 private:
  Pattern pattern_;
};

// Runs of word characters and runs of what is neither word nor white space.
class WhitespacePreTokenizer final : public PreTokenizer {
 public:
  void apply(std::vector<Piece>& pieces) const override {
    split_pieces(pieces, [](const Piece& piece) {
      std::vector<MatchSpan> spans;
      int previous = 0;
      const std::string_view text = piece.text();
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t begin = i;
        const char32_t c = next_code_point(text, i);
        const int kind = is_word(c) ? 1 : is_white_space(c) ? 0 : 2;
        if (kind != 0 && kind == previous) {
          spans.back().end = i;
        } else if (kind != 0) {
          spans.push_back({begin, i, true});
        }
        previous = kind;
      }
      return spans;
    });
  }
};

class SequencePreTokenizer final : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> parts)
      : parts_(std::move(parts)) {}

  void apply(std::vector<Piece>& pieces) const override {
    for (const auto& part : parts_) {
      part->apply(pieces);
    }
  }
  bool needs_origins() const override {
    return std::any_of(
        parts_.begin(), parts_.end(), [](const auto& part) { return part->needs_origins(); });
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

SplitBehavior read_behavior(JsonReader& reader, bool required) {
  std::string name = "Isolated";
  if (required) {
    reader.required("behavior", name);
  } else {
    reader.optional("behavior", name);
  }
  constexpr std::array<std::string_view, 5> kNames = {
      "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  constexpr std::array kBehaviors = {SplitBehavior::kRemoved,
                                     SplitBehavior::kIsolated,
                                     SplitBehavior::kMergedWithPrevious,
                                     SplitBehavior::kMergedWithNext,
                                     SplitBehavior::kContiguous};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) {
      return kBehaviors[i];
    }
  }
  throw reader.error("tokenizer.behavior",
                     "behavior",
                     "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous",
                     name.substr(0, 100));
}

std::unique_ptr<PreTokenizer> make_split(JsonReader& reader, const JsonContext& context) {
  const Json* pattern = reader.find("pattern");
  if (pattern == nullptr) {
    throw reader.error("config.missing", "pattern", "a pattern", "nothing");
  }
  bool inverted = false;
  reader.required("invert", inverted);
  const SplitBehavior behavior = read_behavior(reader, true);
  return std::make_unique<SplitPreTokenizer>(
      Pattern::from_json(*pattern, context), behavior, inverted);
}

std::unique_ptr<PreTokenizer> make_sequence(JsonReader& reader, const JsonContext& context) {
  const Json* list = reader.find("pretokenizers");
  if (list == nullptr || !list->is_array()) {
    throw reader.error(
        "config.type", "pretokenizers", "a list", list == nullptr ? "nothing" : list->type_name());
  }
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const Json& entry : *list) {
    if (auto part = make_pre_tokenizer(entry, context)) {
      parts.push_back(std::move(part));
    }
  }
  return std::make_unique<SequencePreTokenizer>(std::move(parts));
}

std::string read_character(JsonReader& reader, std::string_view key) {
  std::string text;
  reader.required(key, text);
  if (text.empty() || utf8_length(text.front()) != text.size()) {
    throw reader.error("tokenizer.metaspace", key, "one character", "'" + text.substr(0, 40) + "'");
  }
  return text;
}

}  // namespace

MetaspaceConfig MetaspaceConfig::from_json(JsonReader& reader) {
  MetaspaceConfig config;
  config.replacement = read_character(reader, "replacement");
  bool add_prefix_space = true;
  const bool has_prefix = reader.optional("add_prefix_space", add_prefix_space);
  std::string scheme;
  if (reader.optional("prepend_scheme", scheme)) {
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      throw reader.error(
          "tokenizer.metaspace", "prepend_scheme", "always, first or never", scheme.substr(0, 40));
    }
    config.scheme = scheme == "always"  ? PrependScheme::kAlways
                    : scheme == "first" ? PrependScheme::kFirst
                                        : PrependScheme::kNever;
    if (has_prefix && !add_prefix_space && config.scheme != PrependScheme::kNever) {
      throw reader.error(
          "tokenizer.metaspace", "prepend_scheme", "never, as add_prefix_space is false", scheme);
    }
  } else if (!add_prefix_space) {
    config.scheme = PrependScheme::kNever;  // files older than prepend_scheme
  }
  reader.optional("split", config.split);
  return config;
}

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& json, const JsonContext& context) {
  if (json.is_null()) {
    return nullptr;
  }
  JsonReader reader(json, context, "pre_tokenizer");
  std::string type;
  reader.required("type", type);
  if (type == "Sequence") {
    return make_sequence(reader, context);
  }
  if (type == "Split") {
    return make_split(reader, context);
  }
  if (type == "ByteLevel") {
    bool add_prefix_space = true;
    bool use_regex = true;
    reader.required("add_prefix_space", add_prefix_space);
    reader.optional("use_regex", use_regex);
    return std::make_unique<ByteLevelPreTokenizer>(add_prefix_space, use_regex);
  }
  if (type == "Metaspace") {
    return std::make_unique<MetaspacePreTokenizer>(MetaspaceConfig::from_json(reader));
  }
  if (type == "Whitespace") {
    return std::make_unique<WhitespacePreTokenizer>();
  }
  if (type == "WhitespaceSplit") {
    return std::make_unique<CharacterPreTokenizer>(&is_white_space, SplitBehavior::kRemoved);
  }
  if (type == "Digits") {
    bool individual = false;
    reader.required("individual_digits", individual);
    return std::make_unique<CharacterPreTokenizer>(
        &is_numeric, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    return std::make_unique<CharacterPreTokenizer>(&is_punctuation, read_behavior(reader, false));
  }
  if (type == "CharDelimiterSplit") {
    return std::make_unique<DelimiterPreTokenizer>(read_character(reader, "delimiter"));
  }
  unsupported_component(context, "pre_tokenizer '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
