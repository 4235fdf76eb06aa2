// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/special_tokens.h"

#include <charconv>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/tokenizer_json.h"

namespace kinema::text {
namespace {

JsonContext context_of(const TokenizerFiles& files, const std::string& name) {
  return {.place = "text.tokenizer", .subject = files.path_of(name)};
}

// A token is written as a string or as an object with its content.
void read_token(JsonReader& reader, std::string_view key, std::optional<std::string>& token) {
  const Json* value = reader.find(key);
  if (value == nullptr || token) {
    return;
  }
  const Json* text =
      value->is_object() && value->contains("content") ? &value->at("content") : value;
  if (!text->is_string()) {
    throw reader.error("config.type", key, "a token", value->type_name());
  }
  if (!text->get_ref<const std::string&>().empty()) {
    token = text->get<std::string>();
  }
}

void read_names(JsonReader& reader, SpecialTokens& special) {
  read_token(reader, "bos_token", special.bos);
  read_token(reader, "eos_token", special.eos);
  read_token(reader, "pad_token", special.pad);
  read_token(reader, "unk_token", special.unknown);
}

void read_added(JsonReader& reader, SpecialTokens& special, const JsonContext& context) {
  const Json* decoder = reader.find("added_tokens_decoder");
  if (decoder == nullptr) {
    return;
  }
  if (!decoder->is_object()) {
    throw reader.error("config.type", "added_tokens_decoder", "an object", decoder->type_name());
  }
  for (const auto& [key, value] : decoder->items()) {
    TokenId id = 0;
    const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (status != std::errc() || end != key.data() + key.size() || id < 0 || id > UINT32_MAX) {
      throw reader.error("tokenizer.added_token",
                         "added_tokens_decoder",
                         "ids as keys",
                         "'" + key.substr(0, 40) + "'");
    }
    JsonReader token(value, context, "added_tokens_decoder." + key);
    special.added_tokens[id] = AddedToken::from_json(token);
  }
}

void read_added_map(const std::string& text, SpecialTokens& special, const JsonContext& context) {
  for (const auto& [token, id] : parse_vocabulary_json(text, context)) {
    special.added_tokens.try_emplace(
        static_cast<TokenId>(id),
        AddedToken{.content = token, .normalized = false, .special = true});
  }
}

}  // namespace

SpecialTokens SpecialTokens::read(const TokenizerFiles& files) {
  SpecialTokens special;
  if (files.tokenizer_config) {
    const JsonContext context = context_of(files, "tokenizer_config.json");
    const Json json = parse_json(*files.tokenizer_config, context);
    JsonReader reader(json, context);
    reader.optional("tokenizer_class", special.tokenizer_class);
    if (special.tokenizer_class.ends_with("Fast")) {
      special.tokenizer_class.resize(special.tokenizer_class.size() - 4);
    }
    read_names(reader, special);
    reader.optional("add_bos_token", special.add_bos);
    reader.optional("add_eos_token", special.add_eos);
    reader.optional("extra_ids", special.extra_ids);
    read_added(reader, special, context);
  }
  if (files.special_tokens_map) {
    const JsonContext context = context_of(files, "special_tokens_map.json");
    const Json json = parse_json(*files.special_tokens_map, context);
    JsonReader reader(json, context);
    read_names(reader, special);
  }
  if (files.added_tokens) {
    read_added_map(*files.added_tokens, special, context_of(files, "added_tokens.json"));
  }
  return special;
}

}  // namespace kinema::text
