// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pattern.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <unicode/regex.h>
#include <unicode/unistr.h>

#include "core/base/error.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

// The matcher calls back after 10,000 saved states each.
constexpr std::int64_t kCallbacksPerText = 100;
constexpr std::int64_t kUnitsPerCallback = 200;
constexpr std::int64_t kBaseStack = 4LL * 1024 * 1024;
constexpr std::int64_t kStackPerUnit = 160;
constexpr std::int64_t kMaxStack = 1LL << 30;

[[noreturn]] void limit_reached(std::string got) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.regex_limit",
               .place = "text.tokenizer",
               .subject = "regular expression of the tokenizer",
               .expected = "a search within the limits of time and stack",
               .got = std::move(got),
               .hint = "the expression backtracks too much for this text"});
}

// Walks UTF-8 beside UTF-16, forwards only: byte offset of a UTF-16 index.
class OffsetWalker {
 public:
  explicit OffsetWalker(std::string_view text) : text_(text) {}

  std::size_t bytes_at(std::int64_t unit) {
    while (units_ < unit && bytes_ < text_.size()) {
      const std::size_t length = utf8_length(text_[bytes_]);
      units_ += length == 4 ? 2 : 1;
      bytes_ += length;
    }
    return bytes_;
  }

 private:
  std::string_view text_;
  std::size_t bytes_ = 0;
  std::int64_t units_ = 0;
};

std::vector<MatchSpan> find_literal(std::string_view text, std::string_view wanted) {
  std::vector<MatchSpan> spans;
  std::size_t previous = 0;
  const auto add = [&](std::size_t begin, std::size_t end) {
    if (previous != begin) {
      spans.push_back({previous, begin, false});
    }
    spans.push_back({begin, end, true});
    previous = end;
  };
  if (wanted.empty()) {
    for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
      add(i, i);
    }
    add(text.size(), text.size());
    return spans;
  }
  for (std::size_t at = text.find(wanted); at != std::string_view::npos;
       at = text.find(wanted, at + wanted.size())) {
    add(at, at + wanted.size());
  }
  if (previous != text.size()) {
    spans.push_back({previous, text.size(), false});
  }
  return spans;
}

struct Budget {
  mutable std::int64_t callbacks = 0;
};

UBool U_CALLCONV count_callback(const void* context, std::int32_t) {
  return --static_cast<const Budget*>(context)->callbacks > 0;
}

std::vector<MatchSpan> fold_previous(const std::vector<MatchSpan>& spans, bool contiguous) {
  std::vector<MatchSpan> parts;
  bool previous_match = false;
  for (const auto& span : spans) {
    const bool joins = contiguous ? span.match == previous_match : span.match && !previous_match;
    if (joins && !parts.empty()) {
      parts.back().end = span.end;
    } else {
      parts.push_back({span.begin, span.end, false});
    }
    previous_match = span.match;
  }
  return parts;
}

std::vector<MatchSpan> fold_next(const std::vector<MatchSpan>& spans) {
  std::vector<MatchSpan> parts;
  bool previous_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->match && !previous_match && !parts.empty()) {
      parts.back().begin = span->begin;
    } else {
      parts.push_back({span->begin, span->end, false});
    }
    previous_match = span->match;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

struct Pattern::Regex {
  std::unique_ptr<icu::RegexPattern> pattern;
};

std::vector<MatchSpan> apply_behavior(std::vector<MatchSpan> spans, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(spans, [](const MatchSpan& span) { return span.match; });
      return spans;
    case SplitBehavior::kIsolated:
      return spans;
    case SplitBehavior::kContiguous:
      return fold_previous(spans, true);
    case SplitBehavior::kMergedWithPrevious:
      return fold_previous(spans, false);
    case SplitBehavior::kMergedWithNext:
      return fold_next(spans);
  }
  return spans;
}

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(std::string_view expression) {
  const std::string translated = translate_regex(expression);
  UErrorCode status = U_ZERO_ERROR;
  UParseError where{};
  std::unique_ptr<icu::RegexPattern> compiled(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(translated),
                                 UREGEX_MULTILINE | UREGEX_UNIX_LINES,
                                 where,
                                 status));
  if (U_FAILURE(status) || compiled == nullptr) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.regex",
                 .place = "text.tokenizer",
                 .subject = "regular expression '" + std::string(expression.substr(0, 200)) + "'",
                 .expected = "an expression that can be compiled",
                 .got = u_errorName(status)});
  }
  Pattern pattern;
  pattern.regex_ = std::make_shared<const Regex>(Regex{std::move(compiled)});
  return pattern;
}

Pattern Pattern::from_json(const Json& json, const JsonContext& context) {
  JsonReader reader(json, context, "pattern");
  std::string text;
  if (reader.optional("String", text)) {
    return literal(std::move(text));
  }
  reader.required("Regex", text);
  return regex(text);
}

std::vector<MatchSpan> Pattern::find(std::string_view text) const {
  if (text.empty()) {
    return {{0, 0, false}};
  }
  if (regex_ == nullptr) {
    return find_literal(text, literal_);
  }
  const icu::UnicodeString units = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::RegexMatcher> matcher(regex_->pattern->matcher(units, status));
  const Budget budget{kCallbacksPerText + units.length() / kUnitsPerCallback};
  if (U_SUCCESS(status)) {
    matcher->setMatchCallback(&count_callback, &budget, status);
    const auto stack = std::min(kMaxStack, kBaseStack + kStackPerUnit * units.length());
    matcher->setStackLimit(static_cast<std::int32_t>(std::min<std::int64_t>(stack, INT32_MAX)),
                           status);
  }

  std::vector<MatchSpan> spans;
  OffsetWalker walker(text);
  std::size_t previous = 0;
  std::int64_t from = 0;
  std::int64_t last_match_end = -1;
  while (U_SUCCESS(status) && from <= units.length() && matcher->find(from, status) != 0) {
    const std::int64_t begin = matcher->start64(status);
    const std::int64_t end = matcher->end64(status);
    if (begin == end && end == last_match_end) {
      // An empty match right behind a match does not count; look one character further.
      from +=
          from < units.length() ? U16_LENGTH(units.char32At(static_cast<std::int32_t>(from))) : 1;
      continue;
    }
    from = end;
    last_match_end = end;
    const std::size_t first = walker.bytes_at(begin);
    const std::size_t last = walker.bytes_at(end);
    if (previous != first) {
      spans.push_back({previous, first, false});
    }
    spans.push_back({first, last, true});
    previous = last;
  }
  if (U_FAILURE(status)) {
    limit_reached(u_errorName(status));
  }
  if (previous != text.size()) {
    spans.push_back({previous, text.size(), false});
  }
  return spans;
}

}  // namespace kinema::text
