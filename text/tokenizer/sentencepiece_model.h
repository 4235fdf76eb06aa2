// SPDX-License-Identifier: Apache-2.0
// Checks a SentencePiece model file (protobuf) before the sentencepiece library sees it: the
// library trusts some of what it reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kinema::text {

struct CheckedModel {
  std::string bytes;        ///< the model without its self-test samples
  bool unigram = true;      ///< otherwise BPE
  std::int64_t pieces = 0;  ///< number of vocabulary entries
};

/// Throws kBadCheckpoint [tokenizer.spm_format] for what is no model or could harm the library,
/// [tokenizer.unsupported] for word and character models. `subject`: the file, for the message.
[[nodiscard]] CheckedModel check_sentencepiece_model(std::string_view bytes,
                                                     const std::string& subject);

}  // namespace kinema::text
