// SPDX-License-Identifier: Apache-2.0
// vocab.json + merges.txt: the pipeline that a tokenizer class of transformers puts around them.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "text/tokenizer/hash_tables.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/pipeline_tokenizer.h"

namespace kinema::text {
namespace {

enum class Family { kClip, kGpt2, kQwen2 };

// Word patterns: of CLIP (arXiv 2103.00020, its tokenizer) and of Qwen2 (arXiv 2407.10671).
constexpr const char* kClipWords = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The entries of vocab.json with their index.
class Entries {
  auto text() const {
    return [this](std::uint32_t at) -> std::string_view { return vocabulary_[at].first; };
  }

 public:
  Entries(Vocabulary vocabulary, std::size_t spare) : vocabulary_(std::move(vocabulary)) {
    index_.reserve(vocabulary_.size() + spare);
    for (std::uint32_t i = 0; i < vocabulary_.size(); ++i) {
      index_.find_or_insert(vocabulary_[i].first, i, text());
    }
  }

  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view token) const {
    const std::uint32_t at = index_.find(token, text());
    return at == StringIndex::kNone ? std::nullopt : std::optional(vocabulary_[at].second);
  }
  [[nodiscard]] bool contains(std::string_view token) const { return find(token).has_value(); }

  void add(const std::string& token, std::uint32_t id) {
    vocabulary_.emplace_back(token, id);
    index_.find_or_insert(token, static_cast<std::uint32_t>(vocabulary_.size() - 1), text());
  }

  [[nodiscard]] Vocabulary take() { return std::move(vocabulary_); }

 private:
  Vocabulary vocabulary_;
  StringIndex index_;
};

Family family_of(const SpecialTokens& special,
                 const Entries& vocabulary,
                 const JsonContext& context) {
  const std::string& name = special.tokenizer_class;
  if (name.starts_with("CLIP")) {
    return Family::kClip;
  }
  if (name.starts_with("Qwen2")) {
    return Family::kQwen2;
  }
  if (name.starts_with("GPT2")) {
    return Family::kGpt2;
  }
  if (!name.empty() && name != "PreTrainedTokenizer") {
    unsupported_component(context, "vocab.json of the class '" + name.substr(0, 60) + "'");
  }
  // Without a name: CLIP marks ends of words; Qwen2 is what is left among the text encoders in use.
  return vocabulary.contains("<|startoftext|>") && vocabulary.contains("a</w>") ? Family::kClip
                                                                                : Family::kQwen2;
}

std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> merges;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (!line.empty() && !line.starts_with("#version")) {
      merges.push_back(parse_merge(line, merges.size() + 1));
    }
  }
  return merges;
}

Json regex_split(const char* expression, const char* behavior, bool invert) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", expression}}},
          {"behavior", behavior},
          {"invert", invert}};
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json sequence(const char* key, Json parts) {
  return {{"type", "Sequence"}, {key, std::move(parts)}};
}

// The named special tokens, then added_tokens in the order of ids; a later mention replaces an
// earlier one. Names without an id anywhere are left out: no id is invented.
Json added_tokens(const SpecialTokens& special, const Entries& vocabulary, bool normalized_start) {
  Json list = Json::array();
  for (const auto& name : {special.bos, special.unknown, special.eos, special.pad}) {
    if (name && vocabulary.contains(*name)) {
      list.push_back({{"content", *name},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", normalized_start && name == special.bos},
                      {"special", true}});
    }
  }
  for (const auto& [id, token] : special.added_tokens) {
    list.push_back({{"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

// Ids of added tokens are part of the vocabulary here, so that they are what the files say.
void add_to_vocabulary(Entries& vocabulary,
                       const SpecialTokens& special,
                       const JsonContext& context) {
  for (const auto& [id, token] : special.added_tokens) {
    const auto known = vocabulary.find(token.content);
    if (!known) {
      vocabulary.add(token.content, static_cast<std::uint32_t>(id));
    } else if (*known != id) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.added_token",
                   .place = context.place,
                   .subject = context.subject + ": '" + token.content.substr(0, 60) + "'",
                   .expected = "one id, as in the vocabulary: " + std::to_string(*known),
                   .got = std::to_string(id)});
    }
  }
}

Json clip_post_processor(const SpecialTokens& special,
                         const Entries& vocabulary,
                         const JsonContext& context) {
  const std::string start = special.bos.value_or("<|startoftext|>");
  const std::string end = special.eos.value_or("<|endoftext|>");
  for (const auto& name : {start, end}) {
    if (!vocabulary.contains(name)) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "tokenizer.special",
                   .place = context.place,
                   .subject = context.subject + ": '" + name.substr(0, 60) + "'",
                   .expected = "an entry of the vocabulary",
                   .got = "none"});
    }
  }
  return {{"type", "RobertaProcessing"},
          {"sep", Json::array({end, *vocabulary.find(end)})},
          {"cls", Json::array({start, *vocabulary.find(start)})}};
}

}  // namespace

TokenizerJson pipeline_of_vocabulary(const TokenizerFiles& files, const SpecialTokens& special) {
  const JsonContext context{.place = "text.tokenizer", .subject = files.path_of("vocab.json")};
  if (!files.merges_txt) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.merges",
                 .place = "text.tokenizer",
                 .subject = files.path_of("merges.txt"),
                 .expected = "a file beside vocab.json",
                 .got = "none"});
  }
  Entries vocabulary(parse_vocabulary_json(*files.vocab_json, context),
                     special.added_tokens.size());
  const Family family = family_of(special, vocabulary, context);
  add_to_vocabulary(vocabulary, special, context);

  Json pipeline = {{"version", "1.0"},
                   {"added_tokens", added_tokens(special, vocabulary, family == Family::kClip)}};
  Json model = {{"type", "BPE"}};
  pipeline["decoder"] = byte_level(true, true);
  switch (family) {
    case Family::kClip:
      pipeline["normalizer"] = sequence(
          "normalizers",
          Json::array(
              {Json{{"type", "NFC"}},
               Json{{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
               Json{{"type", "Lowercase"}}}));
      pipeline["pre_tokenizer"] = sequence(
          "pretokenizers",
          Json::array({regex_split(kClipWords, "Removed", true), byte_level(false, true)}));
      pipeline["post_processor"] = clip_post_processor(special, vocabulary, context);
      model["end_of_word_suffix"] = "</w>";
      model["unk_token"] = special.unknown.value_or("<|endoftext|>");
      break;
    case Family::kQwen2:
      pipeline["normalizer"] = {{"type", "NFC"}};
      pipeline["pre_tokenizer"] = sequence(
          "pretokenizers",
          Json::array({regex_split(kQwen2Words, "Isolated", false), byte_level(false, false)}));
      break;
    case Family::kGpt2:
      pipeline["pre_tokenizer"] = byte_level(false, true);
      break;
  }
  pipeline["model"] = std::move(model);
  TokenizerJson result;
  result.document = std::move(pipeline);
  result.lists.entries = vocabulary.take();
  result.lists.merges = parse_merges(*files.merges_txt);
  return result;
}

}  // namespace kinema::text
