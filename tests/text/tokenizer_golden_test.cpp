// SPDX-License-Identifier: Apache-2.0
// The tokenizers of the golden set, each 2,000 strings, against the ids of the reference libraries.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/golden_files.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {
namespace {

using testing::golden_folder;
using testing::read_jsonl;

struct GoldenCase {
  std::string name;
  std::string folder;
  std::string file;   ///< inside the folder; empty for the folder itself
  std::string field;  ///< ids to expect; "ids" where a line does not have it
  bool decodes = false;
  bool skips_special_strings = false;  ///< the file does not know the added tokens
};

std::ostream& operator<<(std::ostream& out, const GoldenCase& c) {
  return out << c.name;
}

class TokenizerGoldenTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(TokenizerGoldenTest, EveryString) {
  const GoldenCase& c = GetParam();
  const auto folder = golden_folder(c.folder);
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "no golden set beside the repository";
  }
  const auto tokenizer = Tokenizer::load((c.file.empty() ? folder : folder / c.file).string());
  int wrong = 0;
  int compared = 0;
  for (const auto& line : read_jsonl(folder / "ids.jsonl")) {
    const auto text = line.at("text").get<std::string>();
    if (c.skips_special_strings &&
        (text.find("<|") != std::string::npos || text.find("tool_call>") != std::string::npos)) {
      continue;
    }
    ++compared;
    const auto expected =
        line.at(line.contains(c.field) ? c.field : "ids").get<std::vector<TokenId>>();
    const auto ids = tokenizer->encode(text);
    if (ids != expected && ++wrong <= 10) {
      ADD_FAILURE() << line.dump() << "\n  got " << ::testing::PrintToString(ids);
    }
    if (c.decodes && line.contains("decoded")) {
      EXPECT_EQ(tokenizer->decode(expected, true), line.at("decoded").get<std::string>())
          << line.dump();
    } else if (c.decodes) {
      EXPECT_EQ(tokenizer->decode(expected, true), text) << line.dump();
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(compared, 1500);
}

INSTANTIATE_TEST_SUITE_P(
    All,
    TokenizerGoldenTest,
    ::testing::Values(
        GoldenCase{"T5", "tokenizer_t5", "", "ids"},
        GoldenCase{"T5Model", "tokenizer_t5", "spiece.model", "spm"},
        GoldenCase{"T5WhitespaceSplit", "tokenizer_t5", "whitespace_split/tokenizer.json", "ws"},
        GoldenCase{"Llama", "tokenizer_llama", "", "ids", true},
        GoldenCase{"LlamaModel", "tokenizer_llama", "tokenizer.model", "spm"},
        GoldenCase{"Qwen2", "tokenizer_qwen2", "", "ids", true},
        GoldenCase{"Qwen2Vocabulary", "tokenizer_qwen2", "vocab.json", "ids", false, true},
        GoldenCase{"Clip", "tokenizer_clip", "", "ids"},
        GoldenCase{"ClipVocabulary", "tokenizer_clip", "merges.txt", "ids"}),
    [](const auto& info) { return info.param.name; });

class TruncationGoldenTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(TruncationGoldenTest, IdsAndMask) {
  const GoldenCase& c = GetParam();
  const auto folder = golden_folder(c.folder);
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "no golden set beside the repository";
  }
  const auto tokenizer = Tokenizer::load((c.file.empty() ? folder : folder / c.file).string());
  int compared = 0;
  for (const auto& line : read_jsonl(folder / "truncation.jsonl")) {
    const std::vector<std::string> texts = {line.at("text").get<std::string>()};
    const auto batch =
        tokenizer->encode_batch(texts, {.max_length = line.at("max_length").get<std::int64_t>()});
    EXPECT_EQ(batch.input_ids, line.at("input_ids").get<std::vector<TokenId>>()) << line.dump();
    EXPECT_EQ(batch.attention_mask, line.at("attention_mask").get<std::vector<std::int64_t>>())
        << line.dump();
    ++compared;
  }
  EXPECT_GE(compared, 10);
}

INSTANTIATE_TEST_SUITE_P(
    All,
    TruncationGoldenTest,
    ::testing::Values(GoldenCase{"T5", "tokenizer_t5", "", ""},
                      GoldenCase{"Clip", "tokenizer_clip", "", ""},
                      GoldenCase{"ClipVocabulary", "tokenizer_clip", "vocab.json", ""}),
    [](const auto& info) { return info.param.name; });

TEST(TokenizerGoldenFoldersTest, SpecialIds) {
  if (!std::filesystem::exists(golden_folder("tokenizer_t5"))) {
    GTEST_SKIP() << "no golden set beside the repository";
  }
  const auto t5 = Tokenizer::load(golden_folder("tokenizer_t5").string());
  const auto model = Tokenizer::load(golden_folder("tokenizer_t5/spiece.model").string());
  for (const auto* tokenizer : {t5.get(), model.get()}) {
    EXPECT_EQ(tokenizer->pad_id(), 0);
    EXPECT_EQ(tokenizer->eos_id(), 1);
    EXPECT_EQ(tokenizer->vocab_size(), 700);
    EXPECT_EQ(tokenizer->token_to_id("<extra_id_0>"), 699);
    EXPECT_EQ(tokenizer->token_to_id("<extra_id_99>"), 600);
    EXPECT_EQ(tokenizer->token_to_id("no such token"), std::nullopt);
  }
  EXPECT_EQ(t5->description(), "tokenizer.json, unigram, 700 tokens");
  EXPECT_EQ(model->description(), "sentencepiece, unigram, 700 tokens");
  const auto clip = Tokenizer::load(golden_folder("tokenizer_clip").string());
  EXPECT_EQ(clip->pad_id(), 915);
  EXPECT_EQ(clip->eos_id(), 915);
  EXPECT_EQ(clip->description(), "tokenizer.json, BPE, byte level, 916 tokens");
  const auto qwen = Tokenizer::load(golden_folder("tokenizer_qwen2").string());
  EXPECT_EQ(qwen->pad_id(), 1000);
  EXPECT_EQ(qwen->eos_id(), 1002);
  EXPECT_EQ(qwen->vocab_size(), 1011);
}

}  // namespace
}  // namespace kinema::text
