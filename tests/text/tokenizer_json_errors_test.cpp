// SPDX-License-Identifier: Apache-2.0
// Bad tokenizer.json files, one for every refusal of its reader and of each component.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/text/bad_files.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/tokenizer_json.h"

namespace kinema::text {
namespace {

using testing::BadFile;

constexpr std::string_view kModel =
    R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]})";

void expect_json_refused(const std::vector<BadFile>& cases) {
  testing::expect_all_refused({}, &TokenizerFiles::tokenizer_json, cases);
}

// Every case is the value of `key` in a file whose other parts are good.
void expect_part_refused(const std::string& key, std::vector<BadFile> cases) {
  for (auto& bad : cases) {
    bad.contents = "{" + std::string(kModel) + ", \"" + key + "\": " + bad.contents + "}";
  }
  expect_json_refused(cases);
}

void expect_model_refused(std::vector<BadFile> cases) {
  for (auto& bad : cases) {
    bad.contents = "{\"model\": " + bad.contents + "}";
  }
  expect_json_refused(cases);
}

// Every case is the value of "vocab" or "merges" in a model that has otherwise what it needs.
void expect_list_refused(const std::string& before, std::vector<BadFile> cases) {
  for (auto& bad : cases) {
    bad.contents = before + bad.contents + "}";
  }
  expect_model_refused(std::move(cases));
}

TEST(TokenizerJsonErrorsTest, TheBaseIsGood) {
  TokenizerFiles files;
  files.tokenizer_json = "{" + std::string(kModel) + "}";
  EXPECT_EQ(load_from_memory(files)->encode("ab"), (std::vector<TokenId>{2}));
}

TEST(TokenizerJsonErrorsTest, Document) {
  expect_json_refused({
      {"", "json.syntax", "unexpected end of input"},
      {"{\"model\": [1", "json.syntax", "byte 13"},
      {std::string("{}\0", 3), "json.syntax", "a NUL (byte 3)"},
      {"{} {}", "json.syntax", "byte 4"},
      {R"({"model": 1e999})", "json.syntax", "1e999"},
      {"{\"a\": \"\xFF\"}", "json.syntax", "byte 8"},
      {std::string(65, '['), "json.depth", "nesting deeper than 64"},
      {R"({"version": "1.0", "version": "1.0"})", "json.duplicate_key", "'version' occurs twice"},
      {"[]", "config.type", "expected a JSON object, got array []"},
      {R"({"version": 1})", "config.type", "version: expected a string"},
      {R"({"version": "2.0"})", "tokenizer.unsupported", "version '2.0'"},
      {"{}", "config.missing", "model: expected a model, got nothing"},
      {R"({"model": null})", "config.missing", "model"},
  });
}

TEST(TokenizerJsonErrorsTest, TooLarge) {
  const JsonContext context{
      .place = "text.tokenizer", .subject = "folder/tokenizer.json", .max_bytes = 4};
  testing::expect_error([&] { static_cast<void>(parse_tokenizer_json("[1,2]", context)); },
                        ErrorKind::kBadCheckpoint,
                        "json.too_large",
                        "folder/tokenizer.json",
                        "5 bytes");
}

TEST(TokenizerJsonErrorsTest, AddedTokens) {
  expect_part_refused(
      "added_tokens",
      {
          {"{}", "config.type", "added_tokens: expected a list, got object"},
          {"[1]", "config.type", "added_tokens: expected a JSON object, got number 1"},
          {"[{}]", "config.missing", "added_tokens.content"},
          {R"([{"content": "x"}])", "config.missing", "added_tokens.single_word"},
          {R"([{"content": "x", "single_word": false}])", "config.missing", "lstrip"},
          {R"([{"content": "x", "single_word": false, "lstrip": false}])",
           "config.missing",
           "rstrip"},
          {R"([{"content": "x", "single_word": false, "lstrip": false, "rstrip": false}])",
           "config.missing",
           "normalized"},
          {R"([{"content": "x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": 1}])",
           "config.type",
           "normalized: expected true or false"},
          {R"([{"content": "x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true}])",
           "config.missing",
           "special"},
      });
}

TEST(TokenizerJsonErrorsTest, Model) {
  expect_model_refused({
      {"3", "config.type", "model: expected a JSON object, got number 3"},
      {R"({"type": 1})", "config.type", "model.type: expected a string"},
      {R"({"type": "WordPiece"})", "tokenizer.unsupported", "model 'WordPiece'"},
      {"{}", "tokenizer.unsupported", "model '(none)'"},
      {R"({"type": "BPE", "dropout": 0.5})", "tokenizer.unsupported", "BPE dropout 0.5"},
      {R"({"type": "BPE", "dropout": "x"})", "config.type", "model.dropout"},
      {R"({"type": "BPE", "unk_token": 1})", "config.type", "model.unk_token"},
      {R"({"type": "BPE", "continuing_subword_prefix": 1})", "config.type", "subword_prefix"},
      {R"({"type": "BPE", "end_of_word_suffix": 1})", "config.type", "end_of_word_suffix"},
      {R"({"type": "BPE", "fuse_unk": 1})", "config.type", "model.fuse_unk"},
      {R"({"type": "BPE", "byte_fallback": 1})", "config.type", "model.byte_fallback"},
      {R"({"type": "BPE", "ignore_merges": 1})", "config.type", "model.ignore_merges"},
      {R"({"type": "BPE", "merges": []})", "tokenizer.vocabulary", "an object of token: id"},
      {R"({"type": "BPE", "vocab": []})", "tokenizer.vocabulary", "an object of token: id"},
      {R"({"type": "BPE", "vocab": "x"})", "tokenizer.vocabulary", "an object of token: id"},
      {R"({"type": "BPE", "vocab": {}})", "tokenizer.merges", "merges: expected a list"},
      {R"({"type": "BPE", "vocab": {}, "merges": {}})", "tokenizer.merges", "merges"},
      {R"({"type": "BPE", "vocab": {}, "merges": "a b"})", "tokenizer.merges", "merges"},
      {R"({"type": "Unigram"})", "tokenizer.vocabulary", "a list of [piece, score]"},
      {R"({"type": "Unigram", "vocab": {}})", "tokenizer.vocabulary", "a list of [piece, score]"},
      {R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})",
       "tokenizer.unknown_id",
       "unk_id: expected less than 1"},
      {R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": -1})",
       "tokenizer.unknown_id",
       "unk_id: expected"},
      {R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": "a"})",
       "config.type",
       "model.unk_id: expected an integer"},
      {R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 18446744073709551615})",
       "config.range",
       "model.unk_id"},
      {R"({"type": "Unigram", "vocab": [["a", 0]], "byte_fallback": 1})",
       "config.type",
       "model.byte_fallback"},
  });
}

TEST(TokenizerJsonErrorsTest, EntriesOfTheVocabulary) {
  expect_list_refused(R"({"type": "BPE", "merges": [], "vocab": )",
                      {
                          {R"({"a": -1})", "tokenizer.vocabulary", "another number for 'a'"},
                          {R"({"a": 1.5})", "tokenizer.vocabulary", "another number for 'a'"},
                          {R"({"a": 4294967295})", "tokenizer.vocabulary", "for 'a'"},
                          {R"({"a": "b"})", "tokenizer.vocabulary", "a string for 'a'"},
                          {R"({"a": null})", "tokenizer.vocabulary", "null for 'a'"},
                          {R"({"a": true})", "tokenizer.vocabulary", "a boolean for 'a'"},
                          {R"({"a": {}})", "tokenizer.vocabulary", "got an object"},
                          {R"({"a": []})", "tokenizer.vocabulary", "got a list"},
                          {R"({"a": 0, "b": 1, "a": 2})", "tokenizer.vocabulary", "'a' twice"},
                      });
}

TEST(TokenizerJsonErrorsTest, PiecesOfTheVocabulary) {
  expect_list_refused(R"({"type": "Unigram", "vocab": )",
                      {
                          {"[1]", "tokenizer.vocabulary", "[piece, score] for every piece"},
                          {R"(["a"])", "tokenizer.vocabulary", "got a string"},
                          {"[null]", "tokenizer.vocabulary", "got null"},
                          {"[{}]", "tokenizer.vocabulary", "got an object"},
                          {"[[]]", "tokenizer.vocabulary", "0 values"},
                          {R"([["a"]])", "tokenizer.vocabulary", "1 values"},
                          {R"([["a", "b"]])", "tokenizer.vocabulary", "got a string"},
                          {R"([["a", null]])", "tokenizer.vocabulary", "got null"},
                          {R"([["a", true]])", "tokenizer.vocabulary", "got a boolean"},
                          {R"([["a", -1.5, 2]])", "tokenizer.vocabulary", "another number"},
                          {R"([[1, "a"]])", "tokenizer.vocabulary", "another number"},
                          {R"([[["a", 1]]])", "tokenizer.vocabulary", "got a list"},
                      });
}

TEST(TokenizerJsonErrorsTest, Merges) {
  expect_list_refused(
      R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "##b": 3}, "merges": )",
      {
          {"[1]", "tokenizer.merges", "another number"},
          {"[null]", "tokenizer.merges", "got null"},
          {"[{}]", "tokenizer.merges", "got an object"},
          {R"(["ab"])", "tokenizer.merges", "merge 1: expected"},
          {R"(["a b", "a b c"])", "tokenizer.merges", "merge 2: expected"},
          {R"([["a"]])", "tokenizer.merges", "1 values"},
          {R"([["a", "b", "ab"]])", "tokenizer.merges", "got a string"},
          {R"([["a", 1]])", "tokenizer.merges", "another number"},
          {R"([[["a", "b"]]])", "tokenizer.merges", "got a list"},
          {R"(["a b", ["a", "b"]])", "tokenizer.merges", "got a list"},
          {R"([["a", "b"], "a b"])", "tokenizer.merges", "got a string"},
          {R"(["q b"])", "tokenizer.merges", "'q' is not in the vocabulary"},
          {R"(["a q"])", "tokenizer.merges", "'q' is not in the vocabulary"},
          {R"(["b a"])", "tokenizer.merges", "'ba' is not in the vocabulary"},
          {R"(["a b"], "continuing_subword_prefix": "##")", "tokenizer.merges", "merge 1"},
      });
}

TEST(TokenizerJsonErrorsTest, Normalizer) {
  expect_part_refused(
      "normalizer",
      {
          {"3", "config.type", "normalizer: expected a JSON object"},
          {"{}", "config.missing", "normalizer.type"},
          {R"({"type": 1})", "config.type", "normalizer.type"},
          {R"({"type": "BertNormalizer"})", "tokenizer.unsupported", "normalizer 'BertNormalizer'"},
          {R"({"type": "Sequence"})", "config.type", "normalizers: expected a list, got nothing"},
          {R"({"type": "Sequence", "normalizers": {}})", "config.type", "got object"},
          {R"({"type": "Sequence", "normalizers": [3]})", "config.type", "a JSON object"},
          {R"({"type": "Strip"})", "config.missing", "strip_left"},
          {R"({"type": "Strip", "strip_left": true})", "config.missing", "strip_right"},
          {R"({"type": "Replace"})", "config.missing", "normalizer.content"},
          {R"({"type": "Replace", "content": ""})", "config.missing", "normalizer.pattern"},
          {R"({"type": "Replace", "content": "", "pattern": 3})", "config.type", "pattern"},
          {R"({"type": "Replace", "content": "", "pattern": {}})",
           "config.missing",
           "pattern.Regex"},
          {R"({"type": "Replace", "content": "", "pattern": {"String": 1}})",
           "config.type",
           "pattern.String"},
          {R"({"type": "Replace", "content": "", "pattern": {"Regex": "("}})",
           "tokenizer.regex",
           "regular expression '('"},
          {R"({"type": "Prepend"})", "config.missing", "normalizer.prepend"},
          {R"({"type": "Precompiled"})", "config.missing", "precompiled_charsmap"},
          {R"({"type": "Precompiled", "precompiled_charsmap": "abc"})",
           "tokenizer.charsmap",
           "expected base64"},
          {R"({"type": "Precompiled", "precompiled_charsmap": "ab!="})",
           "tokenizer.charsmap",
           "expected base64"},
          {R"({"type": "Precompiled", "precompiled_charsmap": ""})",
           "tokenizer.charsmap",
           "0 bytes"},
      });
}

TEST(TokenizerJsonErrorsTest, PreTokenizer) {
  expect_part_refused(
      "pre_tokenizer",
      {
          {"3", "config.type", "pre_tokenizer: expected a JSON object"},
          {"{}", "config.missing", "pre_tokenizer.type"},
          {R"({"type": "BertPreTokenizer"})",
           "tokenizer.unsupported",
           "pre_tokenizer 'BertPreTokenizer'"},
          {R"({"type": "Sequence"})", "config.type", "pretokenizers: expected a list, got nothing"},
          {R"({"type": "Sequence", "pretokenizers": 3})", "config.type", "got number"},
          {R"({"type": "Split"})", "config.missing", "pre_tokenizer.pattern"},
          {R"({"type": "Split", "pattern": {"String": "a"}})", "config.missing", "invert"},
          {R"({"type": "Split", "pattern": {"String": "a"}, "invert": true})",
           "config.missing",
           "behavior"},
          {R"({"type": "Split", "pattern": {"String": "a"}, "invert": true, "behavior": "Cut"})",
           "tokenizer.behavior",
           "got Cut"},
          {R"({"type": "Split", "pattern": {"Regex": "["}, "invert": true, "behavior": "Removed"})",
           "tokenizer.regex",
           "a character class without an end"},
          {R"({"type": "Punctuation", "behavior": "Cut"})", "tokenizer.behavior", "got Cut"},
          {R"({"type": "Punctuation", "behavior": 3})", "config.type", "behavior"},
          {R"({"type": "ByteLevel"})", "config.missing", "add_prefix_space"},
          {R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": 3})",
           "config.type",
           "use_regex"},
          {R"({"type": "Metaspace"})", "config.missing", "replacement"},
          {R"({"type": "Metaspace", "replacement": "ab"})", "tokenizer.metaspace", "one character"},
          {R"({"type": "Metaspace", "replacement": ""})", "tokenizer.metaspace", "one character"},
          {R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "maybe"})",
           "tokenizer.metaspace",
           "got maybe"},
          {R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false, "prepend_scheme": "first"})",
           "tokenizer.metaspace",
           "never, as add_prefix_space is false"},
          {R"({"type": "Metaspace", "replacement": "_", "split": 3})", "config.type", "split"},
          {R"({"type": "Digits"})", "config.missing", "individual_digits"},
          {R"({"type": "CharDelimiterSplit"})", "config.missing", "delimiter"},
          {R"({"type": "CharDelimiterSplit", "delimiter": "ab"})",
           "tokenizer.metaspace",
           "one character"},
      });
}

TEST(TokenizerJsonErrorsTest, PostProcessor) {
  expect_part_refused(
      "post_processor",
      {
          {"3", "config.type", "post_processor: expected a JSON object"},
          {"{}", "config.missing", "post_processor.type"},
          {R"({"type": "Other"})", "tokenizer.unsupported", "post_processor 'Other'"},
          {R"({"type": "BertProcessing"})",
           "config.type",
           "sep: expected [token, id], got nothing"},
          {R"({"type": "BertProcessing", "sep": ["s"]})", "config.type", "sep"},
          {R"({"type": "BertProcessing", "sep": ["s", "x"]})",
           "config.type",
           "sep: expected a token id"},
          {R"({"type": "BertProcessing", "sep": ["s", -1]})", "config.type", "a token id"},
          {R"({"type": "RobertaProcessing", "sep": ["s", 1]})", "config.type", "cls"},
          {R"({"type": "RobertaProcessing", "sep": ["s", 1], "cls": ["c", 4294967296]})",
           "config.type",
           "cls: expected a token id"},
          {R"({"type": "Sequence"})", "config.type", "processors: expected a list, got nothing"},
          {R"({"type": "Sequence", "processors": {}})", "config.type", "got object"},
      });
}

std::string template_with(const std::string& special,
                          const std::string& single,
                          const std::string& pair = "[]") {
  return R"({"type": "TemplateProcessing", "special_tokens": )" + special + R"(, "single": )" +
         single + R"(, "pair": )" + pair + "}";
}

TEST(TokenizerJsonErrorsTest, Template) {
  const std::string text = R"([{"Sequence": {"id": "A"}}])";
  std::string many = "0";
  std::string long_template = "{}";
  for (int i = 0; i < 1024; ++i) {
    many += ",0";
    long_template += ",{}";
  }
  const std::string all =
      R"([{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}])";
  const auto sequence = [](const std::string& first, const std::string& second) {
    return R"({"type": "Sequence", "processors": [)" + first + ", " + second + "]}";
  };
  expect_part_refused(
      "post_processor",
      {
          {R"({"type": "TemplateProcessing"})",
           "config.type",
           "special_tokens: expected an object"},
          {template_with("[]", text),
           "config.type",
           "special_tokens: expected an object, got array"},
          {template_with(R"({"s": 3})", text), "config.type", "special_tokens: expected a JSON"},
          {template_with(R"({"s": {}})", text), "config.type", "ids: expected a list"},
          {template_with(R"({"s": {"ids": 3}})", text), "config.type", "got number"},
          {template_with(R"({"s": {"ids": [)" + many + "]}}", text), "config.type", "ids"},
          {template_with(R"({"s": {"ids": ["x"]}})", text),
           "config.type",
           "ids: expected a token id"},
          {template_with("{}", "3"), "config.type", "single: expected a list, got number"},
          {template_with("{}", "null"), "config.type", "single: expected a list, got nothing"},
          {template_with("{}", "[" + long_template + "]"),
           "config.type",
           "single: expected a list"},
          {template_with("{}", text, "null"), "config.type", "pair: expected a list, got nothing"},
          {template_with("{}", "[3]"), "config.type", "single: expected a JSON object"},
          {template_with("{}", "[{}]"), "tokenizer.template", "neither or both"},
          {template_with("{}", R"([{"Sequence": {"id": "A"}, "SpecialToken": {"id": "s"}}])"),
           "tokenizer.template",
           "neither or both"},
          {template_with("{}", R"([{"Sequence": 3}])"), "config.type", "a JSON object"},
          {template_with("{}", R"([{"Sequence": {}}])"), "config.missing", "single.id"},
          {template_with("{}", R"([{"Sequence": {"id": "C"}}])"), "tokenizer.template", "A or B"},
          {template_with("{}", R"([{"Sequence": {"id": "B"}}])"),
           "tokenizer.template",
           "the text A only"},
          {template_with("{}", R"([{"SpecialToken": {"id": "s"}}])"),
           "tokenizer.template",
           "one of special_tokens, got s"},
          {sequence(template_with("{}", "[]"), template_with("{}", text)),
           "tokenizer.template",
           "of which there is none"},
          {sequence(template_with("{}", all), template_with("{}", text)),
           "tokenizer.template",
           "more than two parts"},
      });
}

TEST(TokenizerJsonErrorsTest, Decoder) {
  expect_part_refused(
      "decoder",
      {
          {"3", "config.type", "decoder: expected a JSON object"},
          {"{}", "config.missing", "decoder.type"},
          {R"({"type": "CTC"})", "tokenizer.unsupported", "decoder 'CTC'"},
          {R"({"type": "Sequence"})", "config.type", "decoders: expected a list, got nothing"},
          {R"({"type": "Sequence", "decoders": 3})", "config.type", "got number"},
          {R"({"type": "Strip"})", "config.missing", "decoder.content"},
          {R"({"type": "Strip", "content": " "})", "config.missing", "decoder.start"},
          {R"({"type": "Strip", "content": " ", "start": 1})", "config.missing", "decoder.stop"},
          {R"({"type": "Strip", "content": "ab", "start": 1, "stop": 1})",
           "tokenizer.decoder",
           "one character, got 'ab'"},
          {R"({"type": "Strip", "content": "", "start": 1, "stop": 1})",
           "tokenizer.decoder",
           "one character"},
          {R"({"type": "Replace"})", "config.missing", "decoder.content"},
          {R"({"type": "Replace", "content": ""})", "config.missing", "decoder.pattern"},
          {R"({"type": "Replace", "content": "", "pattern": {"Regex": "a**"}})",
           "tokenizer.regex",
           "'a**'"},
          {R"({"type": "BPEDecoder"})", "config.missing", "decoder.suffix"},
          {R"({"type": "Metaspace"})", "config.missing", "decoder.replacement"},
      });
}

}  // namespace
}  // namespace kinema::text
