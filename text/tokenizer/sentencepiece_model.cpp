// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <unordered_set>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/protobuf.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxPiece = 8000;  // the limit of the reference

SentencePieceRules read_rules(std::string_view bytes, const std::string& subject) {
  SentencePieceRules rules;
  ProtobufWalker walker(bytes, subject);
  while (const auto field = walker.next()) {
    const auto flag = [&](bool& value) {
      if (const auto number = field->integer()) {
        value = *number != 0;
      }
    };
    switch (field->number) {
      case 2:
        if (const auto text = field->text()) {
          rules.map = text->empty() ? std::nullopt : std::optional(Charsmap::parse(*text));
        }
        break;
      case 3:
        flag(rules.add_dummy_prefix);
        break;
      case 4:
        flag(rules.remove_extra_whitespaces);
        break;
      case 5:
        flag(rules.escape_whitespaces);
        break;
      default:
        break;
    }
  }
  return rules;
}

void read_trainer(std::string_view bytes, const std::string& subject, SentencePieceModel& model) {
  std::uint64_t type = 1;
  ProtobufWalker walker(bytes, subject);
  while (const auto field = walker.next()) {
    const auto string = [&](std::string& value) {
      if (const auto text = field->text()) {
        value = valid_utf8(*text);
      }
    };
    switch (field->number) {
      case 3:
        type = field->integer().value_or(type);
        break;
      case 24:
        model.whitespace_as_suffix = field->integer().value_or(0) != 0;
        break;
      case 35:
        model.byte_fallback = field->integer().value_or(0) != 0;
        break;
      case 44:
        string(model.unknown_surface);
        break;
      case 46:
        string(model.bos_piece);
        break;
      case 47:
        string(model.eos_piece);
        break;
      case 48:
        string(model.pad_piece);
        break;
      default:
        break;
    }
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
}

SentencePieceEntry read_piece(std::string_view bytes, const std::string& subject) {
  SentencePieceEntry piece;
  ProtobufWalker walker(bytes, subject);
  while (const auto field = walker.next()) {
    if (field->number == 1) {
      piece.text = field->text().value_or(piece.text);
    } else if (field->number == 2) {
      piece.score = field->real().value_or(piece.score);
    } else if (field->number == 3 && field->integer().value_or(0) >= 1 &&
               field->integer().value_or(0) <= 6) {
      piece.type = static_cast<PieceType>(*field->integer());
    }
  }
  if (piece.text.empty() || piece.text.size() >= kMaxPiece) {
    walker.fail("a piece of " + std::to_string(piece.text.size()) + " bytes");
  }
  if (!is_valid_utf8(piece.text) || piece.text.find('\0') != std::string::npos) {
    walker.fail("a piece that is not UTF-8 or holds NUL");
  }
  if (!std::isfinite(piece.score)) {
    walker.fail("a score that is not a number");
  }
  return piece;
}

bool is_byte_token(const std::string& text) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (text == byte_token(static_cast<unsigned char>(byte))) {
      return true;
    }
  }
  return false;
}

void check_pieces(const SentencePieceModel& model, const ProtobufWalker& walker) {
  std::unordered_set<std::string_view> matched;
  std::unordered_set<std::string_view> reserved;
  std::size_t unknown = 0;
  std::size_t bytes = 0;
  for (const auto& piece : model.pieces) {
    const bool is_reserved = piece.type == PieceType::kUnknown ||
                             piece.type == PieceType::kControl || piece.type == PieceType::kByte;
    if (!(is_reserved ? reserved : matched).insert(piece.text).second) {
      walker.fail("the piece '" + piece.text.substr(0, 60) + "' twice");
    }
    unknown += piece.type == PieceType::kUnknown ? 1 : 0;
    if (piece.type == PieceType::kByte) {
      ++bytes;
      if (!model.byte_fallback || !is_byte_token(piece.text)) {
        walker.fail("the byte piece '" + piece.text.substr(0, 60) + "'");
      }
    }
  }
  if (unknown != 1 && !(unknown == 0 && model.byte_fallback)) {
    walker.fail(std::to_string(unknown) + " unknown pieces");
  }
  if (model.byte_fallback && bytes != 256) {
    walker.fail("byte fallback with " + std::to_string(bytes) + " byte pieces");
  }
}

}  // namespace

SentencePieceModel SentencePieceModel::parse(std::string_view bytes, const std::string& subject) {
  SentencePieceModel model;
  ProtobufWalker walker(bytes, subject);
  while (const auto field = walker.next()) {
    const auto message = field->text();
    if (!message) {
      continue;
    }
    switch (field->number) {
      case 1:
        model.pieces.push_back(read_piece(*message, subject));
        break;
      case 2:
        read_trainer(*message, subject, model);
        break;
      case 3:
        model.rules = read_rules(*message, subject);
        break;
      case 5: {
        auto rules = read_rules(*message, subject);
        model.decoding_rules = rules.map ? std::optional(std::move(rules)) : std::nullopt;
        break;
      }
      default:
        break;  // self-test samples
    }
  }
  if (model.pieces.empty()) {
    walker.fail("no pieces");
  }
  check_pieces(model, walker);
  return model;
}

}  // namespace kinema::text
