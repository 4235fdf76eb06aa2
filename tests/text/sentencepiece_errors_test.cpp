// SPDX-License-Identifier: Apache-2.0
// Bad SentencePiece models: the walker over protobuf fields, the pieces, and the character map.
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/text/bad_files.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/charsmap.h"

namespace kinema::text {
namespace {

using testing::BadFile;

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes += static_cast<char>((value & 0x7F) | 0x80);
  }
  return bytes + static_cast<char>(value);
}

std::string number(unsigned field, std::uint64_t value) {
  return varint(field << 3) + varint(value);
}

std::string bytes(unsigned field, const std::string& contents) {
  return varint(field << 3 | 2) + varint(contents.size()) + contents;
}

std::string little_endian(std::uint32_t value) {
  std::string result;
  for (int i = 0; i < 4; ++i) {
    result += static_cast<char>(value >> (8 * i));
  }
  return result;
}

std::string real(unsigned field, float value) {
  return varint(field << 3 | 5) + little_endian(std::bit_cast<std::uint32_t>(value));
}

// One piece of the vocabulary; types as in PieceType.
std::string piece(const std::string& text, unsigned type = 1, float score = -1.0F) {
  return bytes(1, bytes(1, text) + real(2, score) + number(3, type));
}

const std::string kUnknown = piece("<unk>", 2);
const std::string kGood = kUnknown + piece("a");

std::string all_bytes(int count) {
  std::string model;
  for (int byte = 0; byte < count; ++byte) {
    const char* digits = "0123456789ABCDEF";
    model += piece(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", 6);
  }
  return model;
}

void expect_model_refused(const std::vector<BadFile>& cases) {
  testing::expect_all_refused({}, &TokenizerFiles::sentencepiece_model, cases);
}

TEST(SentencePieceErrorsTest, TheBaseIsGood) {
  TokenizerFiles files;
  files.sentencepiece_model = kGood;
  files.tokenizer_config = R"({"add_bos_token": false, "add_eos_token": false})";
  EXPECT_EQ(load_from_memory(files)->encode("a"), (std::vector<TokenId>{0, 1}));
  files.sentencepiece_model = bytes(2, number(35, 1)) + kGood + all_bytes(256);
  EXPECT_EQ(load_from_memory(files)->encode("a").size(), 4U);
}

TEST(SentencePieceErrorsTest, Fields) {
  expect_model_refused({
      {"\x80", "tokenizer.spm_format", "a number that is cut off"},
      {"\x08", "tokenizer.spm_format", "a number that is cut off"},
      {std::string(11, '\xFF'), "tokenizer.spm_format", "more than ten bytes"},
      {std::string(2, '\0'), "tokenizer.spm_format", "a field number out of range"},
      {varint(1ULL << 35), "tokenizer.spm_format", "a field number out of range"},
      {"\x0B", "tokenizer.spm_format", "an unknown kind of field"},
      {"\x0E", "tokenizer.spm_format", "an unknown kind of field"},
      {"\x0A\x05"
       "a",
       "tokenizer.spm_format",
       "a field of 5 bytes where 1 are left"},
      {"\x0A" + varint(~0ULL), "tokenizer.spm_format", "a field of 18446744073709551615 bytes"},
      {"\x09"
       "abc",
       "tokenizer.spm_format",
       "a field of 8 bytes where 3 are left"},
      {"\x0D"
       "abc",
       "tokenizer.spm_format",
       "a field of 4 bytes where 3 are left"},
      {kGood + bytes(1, "\x80"), "tokenizer.spm_format", "a number that is cut off"},
      {kGood + bytes(2, "\x80"), "tokenizer.spm_format", "a number that is cut off"},
      {kGood + bytes(3, "\x0B"), "tokenizer.spm_format", "an unknown kind of field"},
      {kGood + bytes(5, "\x0B"), "tokenizer.spm_format", "an unknown kind of field"},
  });
}

TEST(SentencePieceErrorsTest, Pieces) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string bytes_on = bytes(2, number(35, 1));
  expect_model_refused({
      {"", "tokenizer.spm_format", "no pieces"},
      {number(7, 1), "tokenizer.spm_format", "no pieces"},
      {kGood + bytes(1, ""), "tokenizer.spm_format", "a piece of 0 bytes"},
      {kGood + piece(std::string(8000, 'x')), "tokenizer.spm_format", "a piece of 8000 bytes"},
      {kGood + piece("\xFF"), "tokenizer.spm_format", "not UTF-8 or holds NUL"},
      {kGood + piece(std::string("a\0b", 3)), "tokenizer.spm_format", "not UTF-8 or holds NUL"},
      {kGood + piece("b", 1, nan), "tokenizer.spm_format", "a score that is not a number"},
      {kGood + piece("b", 1, -infinity), "tokenizer.spm_format", "a score that is not a number"},
      {kGood + piece("a"), "tokenizer.spm_format", "the piece 'a' twice"},
      {kGood + piece("a", 4), "tokenizer.spm_format", "the piece 'a' twice"},
      {kGood + piece("<s>", 3) + piece("<s>", 3), "tokenizer.spm_format", "the piece '<s>' twice"},
      {piece("a"), "tokenizer.spm_format", "0 unknown pieces"},
      {kGood + piece("<unk2>", 2), "tokenizer.spm_format", "2 unknown pieces"},
      {kGood + all_bytes(256), "tokenizer.spm_format", "the byte piece '<0x00>'"},
      {bytes_on + kGood + piece("<0x0>", 6), "tokenizer.spm_format", "the byte piece '<0x0>'"},
      {bytes_on + kGood + all_bytes(255),
       "tokenizer.spm_format",
       "byte fallback with 255 byte pieces"},
      {bytes(2, number(3, 3)) + kGood, "tokenizer.unsupported", "model type 3"},
      {bytes(2, number(3, 4)) + kGood, "tokenizer.unsupported", "model type 4"},
      {bytes(2, number(3, 0)) + kGood, "tokenizer.unsupported", "model type 0"},
      {kGood + bytes(3, bytes(2, "abc")), "tokenizer.charsmap", "3 bytes"},
      {kGood + bytes(5, bytes(2, "abc")), "tokenizer.charsmap", "3 bytes"},
  });
}

TEST(SentencePieceErrorsTest, ExtraIds) {
  TokenizerFiles files;
  files.sentencepiece_model = kGood;
  testing::expect_all_refused(files,
                              &TokenizerFiles::tokenizer_config,
                              {
                                  {R"({"extra_ids": -1})", "tokenizer.extra_ids", "got -1"},
                                  {R"({"extra_ids": 1000001})", "tokenizer.extra_ids", "1000001"},
                              });
  files.tokenizer_config = R"({"extra_ids": 3})";
  EXPECT_EQ(load_from_memory(files)->vocab_size(), 5);
}

// A trie under construction: units that no label fits, and blocks of 256 units for the children of
// a node.
class Trie {
 public:
  explicit Trie(std::size_t blocks) : units_(256 * blocks, 0x80000000U) {
    units_[0] = 0;
    point(0, 1);
  }

  // Unit of the child with `label` in `block`.
  static std::uint32_t child(std::uint32_t block, unsigned char label) {
    return block * 256 ^ label;
  }

  void add(std::uint32_t node) { units_[node] = node & 0xFFU; }
  void value(std::uint32_t node, std::uint32_t block, std::uint32_t value) {
    units_[node] |= 1U << 8;
    units_[block * 256] = 0x80000000U | value;
  }
  // The children of `node` lie in `block`.
  void point(std::uint32_t node, std::uint32_t block) {
    units_[node] = (units_[node] & 0x1FFU) | ((node ^ (block * 256)) << 10);
  }

  std::string blob(const std::string& replacements) const {
    std::string trie;
    for (const std::uint32_t unit : units_) {
      trie += little_endian(unit);
    }
    return little_endian(static_cast<std::uint32_t>(trie.size())) + trie + replacements;
  }

 private:
  std::vector<std::uint32_t> units_;
};

// "a" and its 1 + `more` longer forms "aa", "aaa" have entries.
Trie chain(std::uint32_t more) {
  Trie trie(more + 3);
  for (std::uint32_t block = 1; block <= more + 1; ++block) {
    const std::uint32_t node = Trie::child(block, 'a');
    trie.add(node);
    trie.point(node, block + 1);
    trie.value(node, block + 1, 0);
  }
  return trie;
}

TEST(CharsmapTest, HandMadeMapsWork) {
  const auto map = Charsmap::parse(chain(2).blob(std::string("xyz\0", 4)));
  EXPECT_EQ(map.find("aab"), "xyz");
  EXPECT_EQ(map.find("b"), std::nullopt);
  EXPECT_EQ(map.find_longest("aaaaa").length, 3U);
  EXPECT_EQ(map.find_longest("aaaaa").replacement, "xyz");
  EXPECT_EQ(map.find_longest("b").length, 0U);
  EXPECT_NO_THROW(static_cast<void>(Charsmap::parse(chain(31).blob("x"))));
}

TEST(CharsmapTest, EveryRefusal) {
  const std::uint32_t node = Trie::child(1, 'a');
  Trie outside(2);
  outside.point(0, 7);
  Trie child_outside(2);
  child_outside.add(node);
  child_outside.point(node, 2);
  Trie value_outside = chain(0);
  value_outside.value(node, 2, 3);
  Trie value_inside_character = chain(0);
  value_inside_character.value(node, 2, 1);
  Trie cycle(2);
  cycle.add(node);
  cycle.point(node, 1);
  Trie itself(2);
  itself.point(0, 0);  // the root is its own child with the label 0
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "0 bytes"},
      {"abc", "3 bytes"},
      {little_endian(0), "a trie of 0 bytes in a map of 4"},
      {little_endian(3) + "abc", "a trie of 3 bytes"},
      {little_endian(100) + std::string(8, 'x'), "a trie of 100 bytes in a map of 12"},
      {little_endian(4) + std::string(4, '\0'), "a trie that points outside itself"},
      {chain(1).blob("\xFF"), "replacements that are not UTF-8"},
      {outside.blob("x"), "a trie that points outside itself"},
      {child_outside.blob("x"), "a trie that points outside itself"},
      {value_outside.blob("x"), "a replacement outside the list of replacements"},
      {value_inside_character.blob("\xC3\xA9"), "a replacement outside the list of replacements"},
      {cycle.blob("x"), "a trie with a cycle"},
      {itself.blob("x"), "a trie with a cycle"},
      {chain(32).blob("x"), "more than 32 entries that begin with each other"},
  };
  for (const auto& bad : cases) {
    const auto& [blob, reason] = bad;
    SCOPED_TRACE(reason);
    testing::expect_error([&bad] { static_cast<void>(Charsmap::parse(bad.first)); },
                          ErrorKind::kBadCheckpoint,
                          "tokenizer.charsmap",
                          "precompiled_charsmap",
                          reason);
    // In both kinds of file, the message names the file as well.
    TokenizerFiles files;
    files.tokenizer_json =
        R"({"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": {"type": "Precompiled", "precompiled_charsmap": ")" +
        testing::encode_base64(blob) + "\"}}";
    testing::expect_refused(files, "tokenizer.charsmap", reason);
    if (blob.empty()) {
      continue;  // a model without a map
    }
    files = {};
    files.sentencepiece_model = kGood + bytes(3, bytes(2, blob));
    testing::expect_refused(files, "tokenizer.charsmap", reason);
  }
}

}  // namespace
}  // namespace kinema::text
