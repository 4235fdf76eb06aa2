// SPDX-License-Identifier: Apache-2.0
// Search patterns of tokenizer.json: literal strings and regular expressions.
//
// The files carry expressions in the syntax of Oniguruma (Ruby). They are translated to ICU syntax
// with the same meaning: multi-line anchors, \n as the only line end, Unicode classes. What has no
// counterpart is refused.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace kinema::text {

/// A part of a text, bytes [begin, end), and whether the pattern matched there.
struct MatchSpan {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool match = false;
};

/// How a split treats what the pattern matched.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// The parts that remain of `spans` under `behavior`, in order; may hold empty ones.
[[nodiscard]] std::vector<MatchSpan> apply_behavior(std::vector<MatchSpan> spans,
                                                    SplitBehavior behavior);

/// ICU expression with the meaning of the Oniguruma expression `pattern`. Throws kBadCheckpoint
/// [tokenizer.regex].
[[nodiscard]] std::string translate_regex(std::string_view pattern);

class Pattern {
 public:
  /// An exact string; the empty one matches before and behind every character.
  static Pattern literal(std::string text);
  /// A regular expression. Throws kBadCheckpoint [tokenizer.regex].
  static Pattern regex(std::string_view expression);
  /// {"String": ...} or {"Regex": ...}. Throws kBadCheckpoint [config.type] or [tokenizer.regex].
  static Pattern from_json(const Json& json, const JsonContext& context);

  /// Cuts `text` (valid UTF-8) into consecutive spans that cover it. Throws kBadCheckpoint
  /// [tokenizer.regex_limit] when the expression needs too many steps or too much stack.
  [[nodiscard]] std::vector<MatchSpan> find(std::string_view text) const;

 private:
  struct Regex;
  std::string literal_;
  std::shared_ptr<const Regex> regex_;
};

}  // namespace kinema::text
