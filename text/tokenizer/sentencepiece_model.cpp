// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_model.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxPiece = 4096;  // BPE recurses once per character of an unused piece
constexpr std::size_t kMaxUserDefinedChain = 64;  // entries that begin with each other
constexpr std::int64_t kUserDefined = 4;

enum class Wire : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  std::uint32_t number = 0;
  Wire wire = Wire::kVarint;
  std::uint64_t value = 0;  // of a varint
  std::string_view bytes;   // of a length-delimited field
  std::string_view whole;   // tag and contents
};

class Walker {
 public:
  Walker(std::string_view bytes, const std::string& subject) : bytes_(bytes), subject_(subject) {}

  [[noreturn]] void fail(std::string got) const {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.spm_format",
                 .place = "text.tokenizer",
                 .subject = subject_,
                 .expected = "a SentencePiece model",
                 .got = std::move(got),
                 .hint = "the file is damaged or not what its name says"});
  }

  std::optional<Field> next() {
    if (at_ == bytes_.size()) {
      return std::nullopt;
    }
    const std::size_t start = at_;
    const std::uint64_t tag = varint();
    Field field;
    if (tag > UINT32_MAX || (tag >> 3) == 0) {
      fail("a field number out of range");
    }
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<Wire>(tag & 7U);
    switch (field.wire) {
      case Wire::kVarint:
        field.value = varint();
        break;
      case Wire::kFixed64:
        skip(8);
        break;
      case Wire::kFixed32:
        skip(4);
        break;
      case Wire::kBytes: {
        const std::uint64_t length = varint();
        if (length > bytes_.size() - at_) {
          fail("a field of " + std::to_string(length) + " bytes where " +
               std::to_string(bytes_.size() - at_) + " are left");
        }
        field.bytes = bytes_.substr(at_, static_cast<std::size_t>(length));
        at_ += static_cast<std::size_t>(length);
        break;
      }
      default:
        fail("an unknown kind of field");
    }
    field.whole = bytes_.substr(start, at_ - start);
    return field;
  }

 private:
  void skip(std::size_t count) {
    if (count > bytes_.size() - at_) {
      fail("a field that is cut off");
    }
    at_ += count;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) {
        fail("a number that is cut off");
      }
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    fail("a number of more than ten bytes");
  }

  std::string_view bytes_;
  const std::string& subject_;
  std::size_t at_ = 0;
};

// NormalizerSpec: 2 = precompiled_charsmap.
void check_normalizer(std::string_view bytes, const std::string& subject) {
  Walker walker(bytes, subject);
  while (const auto field = walker.next()) {
    if (field->number == 2 && field->wire == Wire::kBytes && !field->bytes.empty()) {
      static_cast<void>(Charsmap::parse(field->bytes));
    }
  }
}

// TrainerSpec: 3 = model_type (1 unigram, 2 BPE, 3 word, 4 char).
void read_trainer(std::string_view bytes, const std::string& subject, std::uint64_t& type) {
  Walker walker(bytes, subject);
  while (const auto field = walker.next()) {
    if (field->number == 3 && field->wire == Wire::kVarint) {
      type = field->value;
    }
  }
}

// SentencePiece: 1 = piece, 3 = type.
void check_piece(std::string_view bytes,
                 const std::string& subject,
                 std::vector<std::string_view>& user_defined) {
  Walker walker(bytes, subject);
  std::string_view piece;
  bool user = false;
  while (const auto field = walker.next()) {
    if (field->number == 1 && field->wire == Wire::kBytes) {
      piece = field->bytes;
    }
    user = user || (field->number == 3 && field->wire == Wire::kVarint &&
                    static_cast<std::int64_t>(field->value) == kUserDefined);
  }
  if (piece.size() > kMaxPiece) {
    walker.fail("a piece of " + std::to_string(piece.size()) + " bytes");
  }
  if (!is_valid_utf8(piece) || piece.find('\0') != std::string_view::npos) {
    walker.fail("a piece that is not UTF-8 or holds NUL");
  }
  if (user) {
    user_defined.push_back(piece);
  }
}

std::size_t longest_chain(std::vector<std::string_view> pieces) {
  std::sort(pieces.begin(), pieces.end());
  std::vector<std::string_view> chain;
  std::size_t longest = 0;
  for (const auto piece : pieces) {
    while (!chain.empty() && !piece.starts_with(chain.back())) {
      chain.pop_back();
    }
    chain.push_back(piece);
    longest = std::max(longest, chain.size());
  }
  return longest;
}

}  // namespace

CheckedModel check_sentencepiece_model(std::string_view bytes, const std::string& subject) {
  CheckedModel model;
  model.bytes.reserve(bytes.size());
  std::vector<std::string_view> user_defined;
  std::uint64_t type = 1;
  Walker walker(bytes, subject);
  while (const auto field = walker.next()) {
    const bool message = field->wire == Wire::kBytes;
    if (message && field->number == 1) {
      check_piece(field->bytes, subject, user_defined);
      ++model.pieces;
    } else if (message && field->number == 2) {
      read_trainer(field->bytes, subject, type);
    } else if (message && (field->number == 3 || field->number == 5)) {
      check_normalizer(field->bytes, subject);
    } else {
      continue;  // self-test samples and unknown fields
    }
    model.bytes.append(field->whole);
  }
  if (model.pieces == 0) {
    walker.fail("no pieces");
  }
  if (longest_chain(std::move(user_defined)) > kMaxUserDefinedChain) {
    walker.fail("more than 64 user-defined symbols that begin with each other");
  }
  if (type != 1 && type != 2) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.unsupported",
                 .place = "text.tokenizer",
                 .subject = subject,
                 .expected = "a unigram or BPE model",
                 .got = "model type " + std::to_string(type)});
  }
  model.unigram = type == 1;
  return model;
}

}  // namespace kinema::text
