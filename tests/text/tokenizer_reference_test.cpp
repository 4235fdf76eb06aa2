// SPDX-License-Identifier: Apache-2.0
// 10,000 texts of mixed scripts, emoji, controls, marks and special strings on tokenizers of four
// families, and 250 random pipelines, against the tokenizers and sentencepiece libraries.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/memory_files.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {
namespace {

using nlohmann::json;
using testing::compose_texts;
using testing::hash_ids;
using testing::read_hashes;
using testing::reference_charsmap;
using testing::reference_file;
using testing::slurp;
using testing::with_charsmap;

void expect_hashes(const Tokenizer& tokenizer,
                   const std::vector<std::string>& texts,
                   const std::string& name) {
  const auto expected = read_hashes(name);
  ASSERT_EQ(expected.size(), texts.size());
  int wrong = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto ids = tokenizer.encode(texts[i]);
    if (hash_ids(ids) != expected[i] && ++wrong <= 5) {
      ADD_FAILURE() << name << " text " << i << ": " << json(texts[i]).dump(-1, ' ', true)
                    << "\n  got " << ::testing::PrintToString(ids);
    }
  }
  EXPECT_EQ(wrong, 0) << "of " << texts.size();
}

// The vocabulary and the added tokens of a tokenizer.json as the files of a slow tokenizer.
TokenizerFiles as_vocabulary_files(const std::string& name, const std::string& tokenizer_class) {
  const json data = json::parse(slurp(reference_file(name)));
  TokenizerFiles files;
  files.vocab_json = data.at("model").at("vocab").dump();
  std::string merges = "#version: 0.2\n";
  for (const auto& pair : data.at("model").at("merges")) {
    merges += pair.at(0).get<std::string>() + " " + pair.at(1).get<std::string>() + "\n";
  }
  files.merges_txt = merges;
  json config = {{"tokenizer_class", tokenizer_class}, {"added_tokens_decoder", json::object()}};
  for (const auto& token : data.at("added_tokens")) {
    json flags = token;
    flags.erase("id");
    config["added_tokens_decoder"][std::to_string(token.at("id").get<int>())] = flags;
  }
  files.tokenizer_config = config.dump();
  return files;
}

TEST(TokenizerReferenceTest, FourFamilies) {
  const auto texts = compose_texts();
  for (const std::string name : {"t5", "llama", "qwen2", "clip"}) {
    TokenizerFiles files;
    files.tokenizer_json =
        with_charsmap(slurp(reference_file(name + ".json")), reference_charsmap());
    expect_hashes(*load_from_memory(files), texts, name + ".ids");
  }
}

TEST(TokenizerReferenceTest, SentencePieceModels) {
  const auto texts = compose_texts();
  for (const std::string name : {"t5.model", "llama.model"}) {
    expect_hashes(*Tokenizer::load(reference_file(name).string()), texts, name + ".ids");
  }
}

TEST(TokenizerReferenceTest, VocabularyAndMerges) {
  const auto texts = compose_texts();
  expect_hashes(
      *load_from_memory(as_vocabulary_files("qwen2.json", "Qwen2Tokenizer")), texts, "qwen2.ids");
  expect_hashes(
      *load_from_memory(as_vocabulary_files("clip.json", "CLIPTokenizer")), texts, "clip.ids");
}

TEST(TokenizerReferenceTest, SentencePieceOptions) {
  const auto texts = compose_texts();
  const json expected = json::parse(slurp(reference_file("models.json")));
  EXPECT_EQ(expected.size(), 5U);
  for (const auto& [name, hashes] : expected.items()) {
    TokenizerFiles files;
    files.sentencepiece_model = slurp(reference_file(name + ".model"));
    files.tokenizer_config = R"({"add_bos_token": false, "add_eos_token": false})";
    const auto tokenizer = load_from_memory(files);
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      const auto ids = tokenizer->encode(texts[i]);
      const std::string decoded = tokenizer->decode(ids, true);
      EXPECT_EQ(hash_ids(ids, decoded), hashes[i].get<std::uint32_t>())
          << name << ": " << json(texts[i]).dump(-1, ' ', true) << "\n  got "
          << ::testing::PrintToString(ids);
    }
  }
}

TEST(TokenizerReferenceTest, RandomPipelines) {
  const auto texts = compose_texts();
  const std::string charsmap = reference_charsmap();
  const json data = json::parse(slurp(reference_file("variants.json")));
  EXPECT_GE(data.at("variants").size(), 250U);
  for (const auto& variant : data.at("variants")) {
    json pipeline = variant;
    pipeline["version"] = "1.0";
    pipeline["model"] = data.at("bases").at(variant.at("base").get<std::string>());
    pipeline["model"].update(variant.at("flags"));
    for (const char* key : {"base", "flags", "first", "hashes"}) {
      pipeline.erase(key);
    }
    TokenizerFiles files;
    files.tokenizer_json = with_charsmap(pipeline.dump(), charsmap);
    const auto tokenizer = load_from_memory(files);
    pipeline["model"] = variant.at("flags");
    const auto first = variant.at("first").get<std::size_t>();
    const auto& hashes = variant.at("hashes");
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      const auto ids = tokenizer->encode(texts.at(first + i));
      ASSERT_EQ(hash_ids(ids, tokenizer->decode(ids, true)), hashes[i].get<std::uint32_t>())
          << pipeline.dump() << "\n  text " << json(texts[first + i]).dump(-1, ' ', true)
          << "\n  got " << ::testing::PrintToString(ids);
    }
  }
}

}  // namespace
}  // namespace kinema::text
