// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/post_processors.h"

#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/normalizers.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxTemplate = 1024;

TokenId read_id(const Json& json, const JsonReader& reader, std::string_view key) {
  if (!json.is_number_unsigned() ||
      json.get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
    throw reader.error("config.type", key, "a token id", std::string(json.type_name()));
  }
  return static_cast<TokenId>(json.get<std::uint64_t>());
}

// One entry of a template: a text (by index) or special tokens.
struct TemplateEntry {
  std::optional<std::size_t> text;
  std::vector<TokenId> special;
};

class TemplateProcessor final : public PostProcessor {
 public:
  TemplateProcessor(std::vector<TemplateEntry> single, std::vector<TemplateEntry> pair)
      : single_(std::move(single)), pair_(std::move(pair)) {}

  std::size_t added() const override {
    std::size_t count = 0;
    for (const auto& entry : single_) {
      count += entry.special.size();
    }
    return count;
  }

  void apply(Parts& parts) const override {
    const auto& entries = parts.size() == 2 ? pair_ : single_;
    Parts result;
    for (const auto& entry : entries) {
      if (entry.text && *entry.text >= parts.size()) {
        throw template_error("a second text, of which there is none");
      }
      result.push_back(entry.text ? parts[*entry.text] : entry.special);
    }
    if (parts.size() > 2) {
      throw template_error("a template behind a template that makes more than two parts");
    }
    parts = std::move(result);
  }

  static Error template_error(std::string got) {
    return {ErrorKind::kBadCheckpoint,
            {.code = "tokenizer.template",
             .place = "text.tokenizer",
             .subject = "post_processor",
             .expected = "a template for one text",
             .got = std::move(got)}};
  }

 private:
  std::vector<TemplateEntry> single_;
  std::vector<TemplateEntry> pair_;
};

// [CLS] text [SEP]; in front of a second part, RobertaProcessing repeats [SEP].
class ClsSepProcessor final : public PostProcessor {
 public:
  ClsSepProcessor(TokenId cls, TokenId sep, bool doubled)
      : cls_(cls), sep_(sep), doubled_(doubled) {}
  std::size_t added() const override { return 2; }
  void apply(Parts& parts) const override {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i == 0 || doubled_) {
        parts[i].insert(parts[i].begin(), i == 0 ? cls_ : sep_);
      }
      parts[i].push_back(sep_);
    }
  }

 private:
  TokenId cls_;
  TokenId sep_;
  bool doubled_;
};

class ByteLevelProcessor final : public PostProcessor {
 public:
  std::size_t added() const override { return 0; }
  void apply(Parts&) const override {}
};

class SequenceProcessor final : public PostProcessor {
 public:
  explicit SequenceProcessor(std::vector<std::unique_ptr<PostProcessor>> steps)
      : steps_(std::move(steps)) {}
  std::size_t added() const override {
    std::size_t count = 0;
    for (const auto& step : steps_) {
      count += step->added();
    }
    return count;
  }
  void apply(Parts& parts) const override {
    for (const auto& step : steps_) {
      step->apply(parts);
    }
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> steps_;
};

using SpecialIds = std::map<std::string, std::vector<TokenId>, std::less<>>;

SpecialIds read_special_ids(JsonReader& reader, const JsonContext& context) {
  SpecialIds special;
  const Json* tokens = reader.find("special_tokens");
  if (tokens == nullptr || !tokens->is_object()) {
    throw reader.error("config.type",
                       "special_tokens",
                       "an object",
                       tokens == nullptr ? "nothing" : tokens->type_name());
  }
  for (const auto& [name, value] : tokens->items()) {
    JsonReader token(value, context, "special_tokens");
    const Json* ids = token.find("ids");
    if (ids == nullptr || !ids->is_array() || ids->size() > kMaxTemplate) {
      throw token.error("config.type",
                        "ids",
                        "a list of token ids",
                        ids == nullptr ? "nothing" : ids->type_name());
    }
    auto& list = special[name];
    for (const Json& id : *ids) {
      list.push_back(read_id(id, token, "ids"));
    }
  }
  return special;
}

std::vector<TemplateEntry> read_template(JsonReader& reader,
                                         std::string_view key,
                                         const SpecialIds& special,
                                         const JsonContext& context) {
  const Json* list = reader.find(key);
  if (list == nullptr || !list->is_array() || list->size() > kMaxTemplate) {
    throw reader.error(
        "config.type", key, "a list", list == nullptr ? "nothing" : list->type_name());
  }
  std::vector<TemplateEntry> entries;
  for (const Json& item : *list) {
    JsonReader entry(item, context, std::string(key));
    const Json* text = entry.find("Sequence");
    const Json* token = entry.find("SpecialToken");
    if ((text == nullptr) == (token == nullptr)) {
      throw entry.error("tokenizer.template", key, "Sequence or SpecialToken", "neither or both");
    }
    JsonReader body(text != nullptr ? *text : *token, context, std::string(key));
    std::string id;
    body.required("id", id);
    TemplateEntry result;
    if (text != nullptr) {
      if (id != "A" && id != "B") {
        throw body.error("tokenizer.template", "id", "A or B", id.substr(0, 40));
      }
      result.text = id == "A" ? 0 : 1;
    } else {
      const auto found = special.find(id);
      if (found == special.end()) {
        throw body.error("tokenizer.template", "id", "one of special_tokens", id.substr(0, 100));
      }
      result.special = found->second;
    }
    entries.push_back(std::move(result));
  }
  return entries;
}

std::unique_ptr<PostProcessor> make_template(JsonReader& reader, const JsonContext& context) {
  const SpecialIds special = read_special_ids(reader, context);
  auto single = read_template(reader, "single", special, context);
  auto pair = read_template(reader, "pair", special, context);
  for (const auto& entry : single) {
    if (entry.text && *entry.text != 0) {
      throw reader.error("tokenizer.template", "single", "the text A only", "B");
    }
  }
  return std::make_unique<TemplateProcessor>(std::move(single), std::move(pair));
}

TokenId read_named_id(JsonReader& reader, std::string_view key) {
  const Json* pair = reader.find(key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2) {
    throw reader.error(
        "config.type", key, "[token, id]", pair == nullptr ? "nothing" : pair->type_name());
  }
  return read_id((*pair)[1], reader, key);
}

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const Json& json, const JsonContext& context) {
  if (json.is_null()) {
    return nullptr;
  }
  JsonReader reader(json, context, "post_processor");
  std::string type;
  reader.required("type", type);
  if (type == "TemplateProcessing") {
    return make_template(reader, context);
  }
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    const TokenId sep = read_named_id(reader, "sep");
    const TokenId cls = read_named_id(reader, "cls");
    return std::make_unique<ClsSepProcessor>(cls, sep, type == "RobertaProcessing");
  }
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevelProcessor>();
  }
  if (type == "Sequence") {
    const Json* list = reader.find("processors");
    if (list == nullptr || !list->is_array()) {
      throw reader.error(
          "config.type", "processors", "a list", list == nullptr ? "nothing" : list->type_name());
    }
    std::vector<std::unique_ptr<PostProcessor>> steps;
    for (const Json& entry : *list) {
      if (auto step = make_post_processor(entry, context)) {
        steps.push_back(std::move(step));
      }
    }
    return std::make_unique<SequenceProcessor>(std::move(steps));
  }
  unsupported_component(context, "post_processor '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
