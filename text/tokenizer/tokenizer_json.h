// SPDX-License-Identifier: Apache-2.0
// Reads a tokenizer.json in one pass: the vocabulary and the merges, which may have 500,000
// entries, go straight into lists, everything else into a small JSON document.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "text/tokenizer/model.h"

namespace kinema::text {

/// What was found under the keys "vocab" and "merges" of a model; absent if of no known form.
struct ModelLists {
  std::optional<Vocabulary> entries;                                  ///< {"token": id, ...}
  std::optional<std::vector<std::pair<std::string, double>>> pieces;  ///< [["piece", score], ...]
  std::optional<std::vector<std::pair<std::string, std::string>>> merges;
};

struct TokenizerJson {
  Json document;  ///< the file; the lists are null in it
  ModelLists lists;
};

/// As strict as parse_json, with the same errors, and [tokenizer.vocabulary], [tokenizer.merges]
/// for malformed lists.
[[nodiscard]] TokenizerJson parse_tokenizer_json(std::string_view text, const JsonContext& context);

/// The entries of a vocab.json, {"token": id, ...}.
[[nodiscard]] Vocabulary parse_vocabulary_json(std::string_view text, const JsonContext& context);

}  // namespace kinema::text
