// SPDX-License-Identifier: Apache-2.0
// Reads the "model" of a tokenizer.json.
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/tokenizer_json.h"

namespace kinema::text {
namespace {

[[noreturn]] void missing_list(const JsonContext& context,
                               std::string code,
                               std::string name,
                               std::string expected) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = std::move(code),
               .place = context.place,
               .subject = context.subject + ": " + name,
               .expected = std::move(expected),
               .got = "nothing or something else"});
}

std::unique_ptr<Model> read_bpe(JsonReader& reader, ModelLists lists, const JsonContext& context) {
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
  if (!lists.entries) {
    missing_list(context, "tokenizer.vocabulary", "vocab", "an object of token: id");
  }
  if (!lists.merges) {
    missing_list(context, "tokenizer.merges", "merges", "a list");
  }
  config.vocabulary = std::move(*lists.entries);
  config.merges = std::move(*lists.merges);
  return make_bpe_model(std::move(config));
}

std::unique_ptr<Model> read_unigram(JsonReader& reader,
                                    ModelLists lists,
                                    const JsonContext& context) {
  UnigramConfig config;
  std::int64_t unknown = 0;
  if (reader.optional("unk_id", unknown)) {
    config.unknown_id = static_cast<std::size_t>(unknown);
  }
  reader.optional("byte_fallback", config.byte_fallback);
  if (!lists.pieces) {
    missing_list(context, "tokenizer.vocabulary", "vocab", "a list of [piece, score]");
  }
  config.pieces = std::move(*lists.pieces);
  return make_unigram_model(std::move(config));
}

}  // namespace

std::unique_ptr<Model> make_model(const Json& json, ModelLists lists, const JsonContext& context) {
  JsonReader reader(json, context, "model");
  std::string type;
  if (!reader.optional("type", type)) {
    // Files from before 2021 have no type.
    type = lists.pieces ? "Unigram" : lists.merges ? "BPE" : "(none)";
  }
  if (type == "BPE") {
    return read_bpe(reader, std::move(lists), context);
  }
  if (type == "Unigram") {
    return read_unigram(reader, std::move(lists), context);
  }
  unsupported_component(context, "model '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
