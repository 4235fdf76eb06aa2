// SPDX-License-Identifier: Apache-2.0
// The normalizers of tokenizer.json: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents,
// Strip, Replace, Prepend, Precompiled, Nmt, ByteLevel.
#pragma once

#include <memory>

#include "core/base/json.h"
#include "text/tokenizer/piece.h"

namespace kinema::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Rewrites the piece in place.
  virtual void apply(Piece& piece) const = 0;
};

/// Null for JSON null. Throws kBadCheckpoint [tokenizer.unsupported] for an unknown type.
[[nodiscard]] std::unique_ptr<Normalizer> make_normalizer(const Json& json,
                                                          const JsonContext& context);

/// Rewrites every byte as its character of the byte alphabet.
void map_bytes(Piece& piece);

/// Throws kBadCheckpoint [tokenizer.unsupported]: `what` ("normalizer 'BertNormalizer'") is not
/// known.
[[noreturn]] void unsupported_component(const JsonContext& context, const std::string& what);

}  // namespace kinema::text
