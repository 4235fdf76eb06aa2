// SPDX-License-Identifier: Apache-2.0
// Bad files beside the tokenizer itself, bad folders, and what encoding and decoding refuse.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/text/bad_files.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {
namespace {

using testing::expect_all_refused;
using testing::expect_error;
using testing::expect_refused;

TokenizerFiles small_pipeline() {
  TokenizerFiles files;
  files.tokenizer_json =
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
  return files;
}

TokenizerFiles small_vocabulary() {
  TokenizerFiles files;
  files.vocab_json = R"({"a": 0, "b": 1, "ab": 2, "<s>": 3})";
  files.merges_txt = "#version: 0.2\na b\n";
  return files;
}

TEST(TokenizerFilesErrorsTest, TokenizerConfig) {
  EXPECT_NO_THROW(static_cast<void>(load_from_memory(small_pipeline())));
  const std::string flags =
      R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": true)";
  expect_all_refused(
      small_pipeline(),
      &TokenizerFiles::tokenizer_config,
      {
          {"{", "json.syntax", "tokenizer_config.json: expected well-formed JSON"},
          {R"({"a": 1, "a": 2})", "json.duplicate_key", "'a' occurs twice"},
          {"[]", "config.type", "tokenizer_config.json: expected a JSON object"},
          {R"({"tokenizer_class": 1})", "config.type", "tokenizer_class"},
          {R"({"bos_token": 1})", "config.type", "bos_token: expected a token, got number"},
          {R"({"eos_token": {"content": 1}})", "config.type", "eos_token: expected a token"},
          {R"({"pad_token": {}})", "config.type", "pad_token: expected a token, got object"},
          {R"({"unk_token": []})", "config.type", "unk_token: expected a token, got array"},
          {R"({"add_bos_token": 1})", "config.type", "add_bos_token"},
          {R"({"add_eos_token": 1})", "config.type", "add_eos_token"},
          {R"({"extra_ids": "x"})", "config.type", "extra_ids"},
          {R"({"added_tokens_decoder": []})", "config.type", "added_tokens_decoder: expected an"},
          {R"({"added_tokens_decoder": {"x": {}}})", "tokenizer.added_token", "got 'x'"},
          {R"({"added_tokens_decoder": {"": {}}})", "tokenizer.added_token", "got ''"},
          {R"({"added_tokens_decoder": {"1x": {}}})", "tokenizer.added_token", "got '1x'"},
          {R"({"added_tokens_decoder": {"-1": {}}})", "tokenizer.added_token", "got '-1'"},
          {R"({"added_tokens_decoder": {"4294967296": {}}})",
           "tokenizer.added_token",
           "4294967296"},
          {R"({"added_tokens_decoder": {"99999999999999999999": {}}})",
           "tokenizer.added_token",
           "99999999999999999999"},
          {R"({"added_tokens_decoder": {"7": 1}})", "config.type", "added_tokens_decoder.7"},
          {R"({"added_tokens_decoder": {"7": {)" + flags + "}}}",
           "config.missing",
           "added_tokens_decoder.7.content"},
      });
}

TEST(TokenizerFilesErrorsTest, OtherFilesOfSpecialTokens) {
  expect_all_refused(small_pipeline(),
                     &TokenizerFiles::special_tokens_map,
                     {
                         {"}", "json.syntax", "special_tokens_map.json"},
                         {"3", "config.type", "special_tokens_map.json: expected a JSON object"},
                         {R"({"eos_token": 3})", "config.type", "eos_token"},
                     });
  expect_all_refused(small_pipeline(),
                     &TokenizerFiles::added_tokens,
                     {
                         {"}", "json.syntax", "added_tokens.json"},
                         {"[]", "tokenizer.vocabulary", "an object of token: id, got array"},
                         {R"({"a": -1})", "tokenizer.vocabulary", "another number for 'a'"},
                     });
}

TEST(TokenizerFilesErrorsTest, VocabularyAndMerges) {
  EXPECT_EQ(load_from_memory(small_vocabulary())->encode("ab"), (std::vector<TokenId>{2}));
  expect_all_refused(small_vocabulary(),
                     &TokenizerFiles::vocab_json,
                     {
                         {"{", "json.syntax", "vocab.json: expected well-formed JSON"},
                         {"3", "tokenizer.vocabulary", "vocab.json: expected an object"},
                         {R"({"a": "b"})", "tokenizer.vocabulary", "a string for 'a'"},
                         {R"({"a": 0, "a": 1})", "tokenizer.vocabulary", "'a' twice"},
                         {R"({"a": 0})", "tokenizer.merges", "'b' is not in the vocabulary"},
                     });
  expect_all_refused(small_vocabulary(),
                     &TokenizerFiles::merges_txt,
                     {
                         {"a", "tokenizer.merges", "merge 1: expected"},
                         {"a b\n\na b c\n", "tokenizer.merges", "merge 2: expected"},
                         {"a q", "tokenizer.merges", "'q' is not in the vocabulary"},
                     });
  TokenizerFiles files = small_vocabulary();
  files.merges_txt.reset();
  expect_refused(files, "tokenizer.merges", "merges.txt: expected a file beside vocab.json");
}

TEST(TokenizerFilesErrorsTest, FamilyOfAVocabulary) {
  const std::string token =
      R"({"content": "a", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false})";
  expect_all_refused(small_vocabulary(),
                     &TokenizerFiles::tokenizer_config,
                     {
                         {R"({"tokenizer_class": "BertTokenizer"})",
                          "tokenizer.unsupported",
                          "vocab.json of the class 'BertTokenizer'"},
                         {R"({"added_tokens_decoder": {"5": )" + token + "}}",
                          "tokenizer.added_token",
                          "'a': expected one id, as in the vocabulary: 0, got 5"},
                         {R"({"tokenizer_class": "CLIPTokenizer"})",
                          "tokenizer.special",
                          "'<|startoftext|>': expected an entry of the vocabulary"},
                         {R"({"tokenizer_class": "CLIPTokenizerFast", "bos_token": "<s>"})",
                          "tokenizer.special",
                          "'<|endoftext|>': expected an entry of the vocabulary"},
                     });
}

TEST(TokenizerFilesErrorsTest, Folders) {
  const test::TempFolder folder;
  const auto expect_missing = [](const std::string& path, const std::string& mention) {
    expect_error([&] { static_cast<void>(Tokenizer::load(path)); },
                 ErrorKind::kIo,
                 "io.open",
                 path,
                 mention);
  };
  expect_missing(folder.path(), "got none of them");
  expect_missing(folder.path() + "/absent.json", "");
  expect_missing(folder.write("notes.txt", "x"), "got another name");
  expect_missing(folder.write("merges.txt", "a b\n"), "no vocab.json beside it");

  const auto expect_bad = [&](const std::string& path, const std::string& file) {
    expect_error([&] { static_cast<void>(Tokenizer::load(path)); },
                 ErrorKind::kBadCheckpoint,
                 "json.syntax",
                 folder.path() + "/" + file,
                 "well-formed JSON");
  };
  folder.write("vocab.json", "{");
  expect_bad(folder.path(), "vocab.json");
  expect_bad(folder.path() + "/vocab.json", "vocab.json");
  folder.write("tokenizer.json", "{");
  expect_bad(folder.path(), "tokenizer.json");
  expect_bad(folder.path() + "/", "tokenizer.json");
  folder.write("other.json", "{");
  expect_bad(folder.path() + "/other.json", "other.json");
  folder.write("tokenizer_config.json", "{");
  expect_bad(folder.path(), "tokenizer_config.json");

  expect_error([] { static_cast<void>(load_from_memory({})); },
               ErrorKind::kIo,
               "io.open",
               "tokenizer: expected tokenizer.json",
               "got none of them");
}

TEST(TokenizerFilesErrorsTest, ModelFilesAreNamed) {
  const test::TempFolder folder;
  for (const std::string name : {"sentencepiece.bpe.model", "tokenizer.model", "spiece.model"}) {
    folder.write(name, "");
    for (const std::string& path : {folder.path(), folder.path() + "/" + name}) {
      expect_error([&] { static_cast<void>(Tokenizer::load(path)); },
                   ErrorKind::kBadCheckpoint,
                   "tokenizer.spm_format",
                   folder.path() + "/" + name,
                   "no pieces");
    }
  }
}

TEST(TokenizerUseErrorsTest, UnknownCharacters) {
  TokenizerFiles files = small_pipeline();
  EXPECT_TRUE(load_from_memory(files)->encode("q").empty());
  files.tokenizer_json =
      R"({"model": {"type": "BPE", "unk_token": "?", "vocab": {"a": 0}, "merges": []}})";
  expect_error([&] { static_cast<void>(load_from_memory(files)->encode("q")); },
               ErrorKind::kBadCheckpoint,
               "tokenizer.unknown",
               "unknown token '?'",
               "an entry of the vocabulary");
  files.tokenizer_json = R"({"model": {"type": "Unigram", "vocab": [["a", -1]]}})";
  expect_error([&] { static_cast<void>(load_from_memory(files)->encode("q")); },
               ErrorKind::kBadCheckpoint,
               "tokenizer.unknown",
               "unigram model",
               "expected unk_id");
}

TEST(TokenizerUseErrorsTest, RulesThatBlowTheTextUp) {
  const auto with = [](const std::string& part) {
    TokenizerFiles files;
    files.tokenizer_json =
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, )" + part + "}";
    return load_from_memory(files);
  };
  const std::string long_text(100'000, 'x');
  for (const std::string& part :
       {R"("normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ")" + long_text +
            "\"}",
        R"("normalizer": {"type": "Prepend", "prepend": ")" + long_text + "\"}"}) {
    const auto tokenizer = with(part);
    expect_error([&] { static_cast<void>(tokenizer->encode("a")); },
                 ErrorKind::kBadCheckpoint,
                 "tokenizer.expansion",
                 "normalised text: expected at most",
                 "blow the text up");
  }
  const auto slow = with(
      R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false})");
  expect_error([&] { static_cast<void>(slow->encode(std::string(40, 'a'))); },
               ErrorKind::kBadCheckpoint,
               "tokenizer.regex_limit",
               "regular expression of the tokenizer",
               "backtracks too much");
}

TEST(TokenizerUseErrorsTest, LengthsAndIds) {
  const auto expect_argument = [](const std::function<void()>& action,
                                  const std::string& code,
                                  const std::string& subject,
                                  const std::string& mention) {
    expect_error(action, ErrorKind::kInvalidArgument, code, subject, mention);
  };
  const auto clip = Tokenizer::load(testing::reference_file("clip.json").string());
  const auto model = Tokenizer::load(testing::reference_file("t5.model").string());
  for (const auto* tokenizer : {clip.get(), model.get()}) {
    for (const std::int64_t length : {std::int64_t{0}, std::int64_t{-5}}) {
      expect_argument([&] { static_cast<void>(tokenizer->encode_truncated("a", length)); },
                      "tokenizer.max_length",
                      "max_length: expected at least",
                      "got " + std::to_string(length));
    }
    for (const TokenId id : {TokenId{-1}, TokenId{1'000'000}}) {
      const std::vector<TokenId> ids = {id};
      expect_argument([&] { static_cast<void>(tokenizer->decode(ids, true)); },
                      "tokenizer.id",
                      "token id: expected the id of a token, 0 to ",
                      "got " + std::to_string(id));
    }
  }
  expect_argument([&] { static_cast<void>(clip->encode_truncated("a", 1)); },
                  "tokenizer.max_length",
                  "max_length: expected at least 2",
                  "got 1");
  const std::vector<std::string> texts = {"a", "b"};
  expect_argument(
      [&] { static_cast<void>(clip->encode_batch(texts, {.max_length = 1'500'000'000})); },
      "tokenizer.max_length",
      "max_length: expected a batch of at most",
      "2 texts of 1500000000");
  const std::string huge(256ULL * 1024 * 1024 + 1, 'a');
  for (const auto* tokenizer : {clip.get(), model.get()}) {
    expect_argument([&] { static_cast<void>(tokenizer->encode(huge)); },
                    "tokenizer.text_too_long",
                    "text: expected at most",
                    "MB");
  }
}

}  // namespace
}  // namespace kinema::text
