// SPDX-License-Identifier: Apache-2.0
// A SentencePiece model file (protobuf, sentencepiece_model.proto): its vocabulary and its rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/charsmap.h"

namespace kinema::text {

enum class PieceType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,      ///< the one token for what is not in the vocabulary
  kControl = 3,      ///< <s>, </s>, <pad>: never the result of encoding a text
  kUserDefined = 4,  ///< always one token
  kUnused = 5,       ///< never used; BPE falls back to its parts
  kByte = 6,         ///< <0x00> .. <0xFF>
};

struct SentencePieceEntry {
  std::string text;
  float score = 0.0F;
  PieceType type = PieceType::kNormal;
};

/// NormalizerSpec.
struct SentencePieceRules {
  std::optional<Charsmap> map;
  bool add_dummy_prefix = true;          ///< a space in front of the text
  bool remove_extra_whitespaces = true;  ///< runs of spaces become one, none at the ends
  bool escape_whitespaces = true;        ///< space becomes U+2581
};

struct SentencePieceModel {
  std::vector<SentencePieceEntry> pieces;  ///< by id
  bool unigram = true;                     ///< otherwise BPE
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;  ///< the dummy space goes behind the text
  std::string unknown_surface = " \xE2\x81\x87 ";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string pad_piece = "<pad>";
  SentencePieceRules rules;
  std::optional<SentencePieceRules> decoding_rules;  ///< for the text that decoding gives

  /// Throws kBadCheckpoint [tokenizer.spm_format] for what is no model, [tokenizer.unsupported] for
  /// word and character models. `subject`: the file, for the message.
  static SentencePieceModel parse(std::string_view bytes, const std::string& subject);
};

}  // namespace kinema::text
