// SPDX-License-Identifier: Apache-2.0
// Behaviour of the facade that the reference tables do not cover: folders, batches, special ids,
// bytes that are no text, long words and large vocabularies.
#include "text/tokenizer/tokenizer.h"

#include <ctime>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/temp_folder.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/memory_files.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

using nlohmann::json;
using testing::reference_file;
using testing::slurp;

std::unique_ptr<Tokenizer> load_reference(const std::string& name) {
  TokenizerFiles files;
  files.tokenizer_json =
      testing::with_charsmap(slurp(reference_file(name + ".json")), testing::reference_charsmap());
  return load_from_memory(files);
}

TEST(TokenizerTest, FolderPrefersTokenizerJson) {
  const test::TempFolder folder;
  folder.write("spiece.model", slurp(reference_file("t5.model")));
  EXPECT_THAT(Tokenizer::load(folder.path())->description(),
              ::testing::StartsWith("sentencepiece, unigram"));
  folder.write("tokenizer.json", slurp(reference_file("clip.json")));
  EXPECT_THAT(Tokenizer::load(folder.path())->description(),
              ::testing::StartsWith("tokenizer.json, BPE, byte level"));
}

TEST(TokenizerTest, SpecialIdsComeFromTheConfiguration) {
  TokenizerFiles files;
  files.tokenizer_json = slurp(reference_file("qwen2.json"));
  auto tokenizer = load_from_memory(files);
  EXPECT_EQ(tokenizer->pad_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), std::nullopt);
  files.special_tokens_map =
      R"({"pad_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"})";
  tokenizer = load_from_memory(files);
  EXPECT_EQ(tokenizer->pad_id(), tokenizer->token_to_id("<|im_start|>"));
  EXPECT_EQ(tokenizer->eos_id(), tokenizer->token_to_id("<|im_end|>"));
  files.tokenizer_config = R"({"pad_token": "<|endoftext|>", "eos_token": null})";
  tokenizer = load_from_memory(files);
  EXPECT_EQ(tokenizer->pad_id(), tokenizer->token_to_id("<|endoftext|>"));
  EXPECT_EQ(tokenizer->eos_id(), tokenizer->token_to_id("<|im_end|>"));
  files.tokenizer_config = R"({"pad_token": "no such token"})";
  EXPECT_EQ(load_from_memory(files)->pad_id(), 0);
}

TEST(TokenizerTest, EosWithoutConfigurationIsWhatFollowsEveryText) {
  EXPECT_EQ(load_reference("t5")->eos_id(), 1);
  EXPECT_EQ(load_reference("llama")->eos_id(), std::nullopt);
  const auto clip = load_reference("clip");
  EXPECT_EQ(clip->eos_id(), clip->token_to_id("<|endoftext|>"));
}

TEST(TokenizerTest, BatchesArePaddedOnTheRight) {
  const auto tokenizer = load_reference("t5");
  const std::vector<std::string> texts = {"a red circle moves", "", "the sea"};
  const auto fixed = tokenizer->encode_batch(texts, {.max_length = 12});
  EXPECT_EQ(fixed.batch, 3);
  EXPECT_EQ(fixed.length, 12);
  const auto longest =
      tokenizer->encode_batch(texts, {.max_length = 12, .padding = Padding::kLongest});
  std::int64_t most = 0;
  for (std::size_t row = 0; row < texts.size(); ++row) {
    const auto ids = tokenizer->encode_truncated(texts[row], 12);
    most = std::max(most, static_cast<std::int64_t>(ids.size()));
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_EQ(fixed.input_ids[12 * row + i], i < ids.size() ? ids[i] : 0);
      EXPECT_EQ(fixed.attention_mask[12 * row + i], i < ids.size() ? 1 : 0);
    }
  }
  EXPECT_EQ(longest.length, most);
  EXPECT_EQ(longest.input_ids.size(), static_cast<std::size_t>(3 * most));
  const auto none = tokenizer->encode_batch({}, {.max_length = 5});
  EXPECT_EQ(none.batch, 0);
  EXPECT_TRUE(none.input_ids.empty());
}

TEST(TokenizerTest, TruncationKeepsSpecialTokens) {
  for (const std::string name : {"t5", "llama", "qwen2", "clip"}) {
    const auto tokenizer = load_reference(name);
    const std::string text = "a red circle moves to the right over green grass and the stormy sea";
    const auto all = tokenizer->encode(text);
    const auto cut = tokenizer->encode_truncated(text, 7);
    EXPECT_EQ(cut.size(), 7U) << name;
    EXPECT_EQ(cut.front(), all.front()) << name;
    if (name == "t5" || name == "clip") {
      EXPECT_EQ(cut.back(), all.back()) << name;
    }
    EXPECT_EQ(tokenizer->encode_truncated(text, 1000), all) << name;
  }
}

TEST(TokenizerTest, InvalidBytesAreReplacementCharacters) {
  for (const std::string name : {"t5", "llama", "qwen2", "clip"}) {
    const auto tokenizer = load_reference(name);
    EXPECT_EQ(tokenizer->encode("a\xFF"
                                "b\xE2\x82"),
              tokenizer->encode("a\uFFFDb\uFFFD"))
        << name;
    EXPECT_EQ(tokenizer->encode("\xF0\x9F\x98"), tokenizer->encode("\uFFFD")) << name;
    EXPECT_EQ(tokenizer->encode("\xED\xA0\x80"), tokenizer->encode("\uFFFD\uFFFD\uFFFD")) << name;
  }
  const auto model = Tokenizer::load(reference_file("llama.model").string());
  EXPECT_EQ(model->encode("\xC3"), model->encode("\uFFFD"));
}

TEST(TokenizerTest, DecodingSpecialTokens) {
  const auto model = Tokenizer::load(reference_file("t5.model").string());
  std::vector<TokenId> ids = model->encode("red circle");
  EXPECT_EQ(model->decode(ids, true), "red circle");
  EXPECT_EQ(model->decode(ids, false), "red circle</s>");
  ids.insert(ids.begin(), *model->token_to_id("<extra_id_3>"));
  EXPECT_EQ(model->decode(ids, true), "red circle");
  EXPECT_EQ(model->decode(ids, false), "<extra_id_3> red circle</s>");
  const auto clip = load_reference("clip");
  EXPECT_EQ(clip->decode(clip->encode("red"), true), "red</w>");
}

TEST(TokenizerTest, OldFilesWithoutTypeOfTheModel) {
  TokenizerFiles files;
  files.tokenizer_json = R"({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
  EXPECT_EQ(load_from_memory(files)->encode("aab"), (std::vector<TokenId>{0, 2}));
  files.tokenizer_json = R"({"model": {"vocab": [["a", -1], ["b", -2.5], ["ab", -3.0]]}})";
  EXPECT_EQ(load_from_memory(files)->encode("aab"), (std::vector<TokenId>{0, 2}));
}

TEST(TokenizerTest, IdsWithWideGaps) {
  TokenizerFiles files;
  files.tokenizer_json =
      R"({"model": {"type": "BPE", "vocab": {"a": 7, "b": 4000000000}, "merges": []}})";
  const auto tokenizer = load_from_memory(files);
  EXPECT_EQ(tokenizer->encode("ab"), (std::vector<TokenId>{7, 4000000000}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("ab"), true), "a b");
  EXPECT_EQ(tokenizer->vocab_size(), 4000000001);
}

// A word of a million characters takes time in proportion.
TEST(TokenizerTest, LongWords) {
  std::string letters;
  testing::SplitMix random(3);
  while (letters.size() < 1'000'000) {
    letters += static_cast<char>('a' + random.below(26));
  }
  const std::vector<std::string> words = {std::string(1'000'000, 'a'),
                                          letters,
                                          std::string(1'000'000, ' '),
                                          std::string(1'000'000, '\n'),
                                          std::string(1'000'000, '!')};
  for (const std::string name : {"t5", "llama", "qwen2", "clip"}) {
    const auto tokenizer = load_reference(name);
    for (const auto& word : words) {
      const std::clock_t start = std::clock();
      const auto ids = tokenizer->encode(word);
      EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 20.0) << name;
      EXPECT_LE(ids.size(), 1'000'002U);
    }
  }
  for (const std::string name : {"t5.model", "llama.model"}) {
    const auto tokenizer = Tokenizer::load(reference_file(name).string());
    for (const auto& word : words) {
      EXPECT_LE(tokenizer->encode(word).size(), 1'000'002U) << name;
    }
  }
}

// 256,000 entries, as in UMT5 and Gemma, load in well under a second of processor time.
TEST(TokenizerTest, LargeVocabularies) {
  testing::SplitMix random(4);
  std::vector<std::string> pieces;
  for (int i = 0; i < 256'000; ++i) {
    std::string piece = random.below(2) == 0 ? "\xE2\x96\x81" : "";
    for (std::size_t k = 0, n = 1 + random.below(8); k < n; ++k) {
      append_utf8(piece,
                  random.below(5) == 0 ? 0x4E00 + static_cast<char32_t>(random.below(3000))
                                       : U'a' + static_cast<char32_t>(random.below(26)));
    }
    pieces.push_back(piece + std::to_string(i));
  }
  std::string unigram = R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0])";
  std::string bpe = R"({"model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0)";
  std::string merges = R"("merges": [)";
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    unigram += ", [\"" + pieces[i] + "\", -" + std::to_string(i % 17) + ".123456]";
    bpe += ", \"" + pieces[i] + "\": " + std::to_string(2 * i + 1) + ", \"a" + pieces[i] +
           "\": " + std::to_string(2 * i + 2);
    merges += (i == 0 ? "\"a " : ", \"a ") + pieces[i] + "\"";
  }
  for (const std::string& text : {unigram + "]}}", bpe + "}, " + merges + "]}}"}) {
    TokenizerFiles files;
    files.tokenizer_json = text;
    const std::clock_t start = std::clock();
    const auto tokenizer = load_from_memory(files);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    RecordProperty("seconds", std::to_string(seconds));
    EXPECT_LT(seconds, 10.0);
    EXPECT_GE(tokenizer->vocab_size(), 256'001);
    EXPECT_TRUE(tokenizer->token_to_id(pieces[1234]).has_value());
  }
}

}  // namespace
}  // namespace kinema::text
