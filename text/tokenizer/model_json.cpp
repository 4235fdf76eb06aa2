// SPDX-License-Identifier: Apache-2.0
// Reads the "model" of a tokenizer.json.
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizers.h"

namespace kinema::text {
namespace {

[[noreturn]] void bad_vocabulary(const JsonContext& context,
                                 std::string expected,
                                 std::string got) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.vocabulary",
               .place = context.place,
               .subject = context.subject + ": vocab",
               .expected = std::move(expected),
               .got = std::move(got)});
}

std::vector<std::pair<std::string, std::string>> read_merges(const Json& json,
                                                             const JsonContext& context) {
  const auto bad = [&](std::size_t number, const Json& got) -> Error {
    return {ErrorKind::kBadCheckpoint,
            {.code = "tokenizer.merges",
             .place = context.place,
             .subject = context.subject + ": merge " + std::to_string(number),
             .expected = "'a b' or ['a', 'b']",
             .got = std::string(got.type_name())}};
  };
  if (!json.is_array()) {
    throw bad(0, json);
  }
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(json.size());
  const bool pairs = !json.empty() && json.front().is_array();
  for (const Json& entry : json) {
    if (!pairs) {
      if (!entry.is_string()) {
        throw bad(merges.size() + 1, entry);
      }
      const auto& line = entry.get_ref<const std::string&>();
      if (!line.starts_with("#version")) {
        merges.push_back(parse_merge(line, merges.size() + 1));
      }
      continue;
    }
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
      throw bad(merges.size() + 1, entry);
    }
    merges.emplace_back(entry[0].get_ref<const std::string&>(),
                        entry[1].get_ref<const std::string&>());
  }
  return merges;
}

std::unique_ptr<Model> read_bpe(JsonReader& reader, const JsonContext& context) {
  BpeConfig config;
  double dropout = 0.0;
  if (reader.optional("dropout", dropout) && dropout != 0.0) {
    unsupported_component(context,
                          "BPE dropout " + std::to_string(dropout) + ", which makes ids random");
  }
  reader.optional("unk_token", config.unknown_token);
  reader.optional("continuing_subword_prefix", config.continuing_prefix);
  reader.optional("end_of_word_suffix", config.end_of_word_suffix);
  reader.optional("fuse_unk", config.fuse_unknown);
  reader.optional("byte_fallback", config.byte_fallback);
  reader.optional("ignore_merges", config.ignore_merges);
  const Json* vocabulary = reader.find("vocab");
  const Json* merges = reader.find("merges");
  if (vocabulary == nullptr || merges == nullptr) {
    throw reader.error(
        "config.missing", vocabulary == nullptr ? "vocab" : "merges", "a list", "nothing");
  }
  config.vocabulary = read_vocabulary(*vocabulary, context);
  config.merges = read_merges(*merges, context);
  return make_bpe_model(std::move(config));
}

std::unique_ptr<Model> read_unigram(JsonReader& reader, const JsonContext& context) {
  UnigramConfig config;
  std::int64_t unknown = 0;
  if (reader.optional("unk_id", unknown)) {
    config.unknown_id = static_cast<std::size_t>(unknown);
  }
  reader.optional("byte_fallback", config.byte_fallback);
  const Json* vocabulary = reader.find("vocab");
  if (vocabulary == nullptr || !vocabulary->is_array()) {
    bad_vocabulary(context,
                   "a list of [piece, score]",
                   vocabulary == nullptr ? "nothing" : vocabulary->type_name());
  }
  config.pieces.reserve(vocabulary->size());
  for (const Json& entry : *vocabulary) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      bad_vocabulary(context, "[piece, score]", "entry " + std::to_string(config.pieces.size()));
    }
    config.pieces.emplace_back(entry[0].get_ref<const std::string&>(), entry[1].get<double>());
  }
  return make_unigram_model(std::move(config));
}

}  // namespace

Vocabulary read_vocabulary(const Json& json, const JsonContext& context) {
  if (!json.is_object()) {
    bad_vocabulary(context, "an object of token: id", json.type_name());
  }
  Vocabulary vocabulary;
  vocabulary.reserve(json.size());
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_unsigned() ||
        id.get<std::uint64_t>() >= std::numeric_limits<std::uint32_t>::max()) {
      bad_vocabulary(
          context, "ids from 0 to 4294967294", "another id for '" + token.substr(0, 60) + "'");
    }
    vocabulary.emplace_back(token, id.get<std::uint32_t>());
  }
  return vocabulary;
}

std::unique_ptr<Model> make_model(const Json& json, const JsonContext& context) {
  JsonReader reader(json, context, "model");
  std::string type;
  if (!reader.optional("type", type)) {
    // Files from before 2021 have no type.
    const Json* vocabulary = reader.find("vocab");
    if (vocabulary == nullptr) {
      throw reader.error("config.missing", "vocab", "a vocabulary", "nothing");
    }
    type = vocabulary->is_array()             ? "Unigram"
           : reader.find("merges") != nullptr ? "BPE"
                                              : "WordLevel";
  }
  if (type == "BPE") {
    return read_bpe(reader, context);
  }
  if (type == "Unigram") {
    return read_unigram(reader, context);
  }
  unsupported_component(context, "model '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
