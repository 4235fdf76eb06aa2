// SPDX-License-Identifier: Apache-2.0
// The post-processors of tokenizer.json, which put special tokens around the text:
// TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (which adds none), Sequence.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/json.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

class PostProcessor {
 public:
  /// The text so far, in parts: a template hands on one part for each of its entries.
  using Parts = std::vector<std::vector<TokenId>>;

  virtual ~PostProcessor() = default;
  /// How many tokens it adds to one text.
  [[nodiscard]] virtual std::size_t added() const = 0;
  virtual void apply(Parts& parts) const = 0;
};

/// Null for JSON null. Throws kBadCheckpoint [tokenizer.unsupported] for an unknown type,
/// [tokenizer.template] for a template that cannot be followed.
[[nodiscard]] std::unique_ptr<PostProcessor> make_post_processor(const Json& json,
                                                                 const JsonContext& context);

}  // namespace kinema::text
