// SPDX-License-Identifier: Apache-2.0
// The decoders of tokenizer.json, which turn tokens back into text: ByteLevel, Metaspace,
// ByteFallback, Fuse, Replace, Strip, BPEDecoder, Sequence.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace kinema::text {

class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  /// Rewrites the tokens; their concatenation is the text.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

/// Null for JSON null. Throws kBadCheckpoint [tokenizer.unsupported] for an unknown type.
[[nodiscard]] std::unique_ptr<TokenDecoder> make_decoder(const Json& json,
                                                         const JsonContext& context);

}  // namespace kinema::text
