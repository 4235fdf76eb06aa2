// SPDX-License-Identifier: Apache-2.0
// Kinds of tokenizers and prompt cleaning. Their cases are folders of files that a user would
// download, with JSONL files of strings and answers.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "tests/golden_runner/golden_case.h"
#include "text/tokenizer/prompt_cleaning.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::golden {
namespace {

constexpr std::size_t kShownFailures = 3;

/// One JSON object a line. Lines end at byte 0x0A only; the strings hold other line separators.
std::vector<Json> read_lines(const Case& golden, const char* file_name) {
  const std::string text = read_file(golden.file(file_name), std::size_t{1} << 28, "golden");
  std::vector<Json> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) {
      lines.push_back(parse_json(std::string_view(text).substr(begin, end - begin),
                                 {.place = "golden", .subject = golden.name + "/" + file_name}));
    }
    begin = end + 1;
  }
  return lines;
}

/// Counts lines that differ and shows the first of them.
class Counter {
 public:
  Counter(Report& report, std::string what) : report_(report), what_(std::move(what)) {}
  ~Counter() {
    report_.count(total_);
    if (wrong_ > 0) {
      report_.fail(what_ + ": " + std::to_string(wrong_) + " of " + std::to_string(total_) +
                   " differ" + shown_);
    }
  }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  void check(const Json& text, const Json& expected, const Json& got) {
    ++total_;
    if (expected == got) {
      return;
    }
    ++wrong_;
    if (wrong_ <= kShownFailures) {
      shown_ += "\n    text " + text.dump() + "\n      expected " + expected.dump() +
                "\n      got      " + got.dump();
    }
  }

 private:
  Report& report_;
  std::string what_;
  std::string shown_;
  std::size_t total_ = 0;
  std::size_t wrong_ = 0;
};

void check_ids(const Case& golden, const text::Tokenizer& tokenizer, Report& report) {
  Counter ids(report, "ids.jsonl");
  Counter decoded(report, "ids.jsonl decoded");
  for (const Json& line : read_lines(golden, "ids.jsonl")) {
    const Json& text = line.at("text");
    ids.check(text, line.at("ids"), tokenizer.encode(text.get<std::string>()));
    if (line.contains("decoded")) {
      const auto expected_ids = line.at("ids").get<std::vector<text::TokenId>>();
      decoded.check(
          text, line.at("decoded"), tokenizer.decode(expected_ids, /*skip_special=*/true));
    }
  }
}

void check_truncation(const Case& golden, const text::Tokenizer& tokenizer, Report& report) {
  Counter counter(report, "truncation.jsonl");
  for (const Json& line : read_lines(golden, "truncation.jsonl")) {
    const std::vector<std::string> texts = {line.at("text").get<std::string>()};
    const text::TokenBatch batch =
        tokenizer.encode_batch(texts, {.max_length = line.at("max_length").get<std::int64_t>()});
    counter.check(line.at("text"),
                  Json{{"ids", line.at("input_ids")}, {"mask", line.at("attention_mask")}},
                  Json{{"ids", batch.input_ids}, {"mask", batch.attention_mask}});
  }
}

/// ids.jsonl: text, ids, decoded where it differs from the text; truncation.jsonl where there is
/// one.
void run_tokenizer(const Case& golden, Report& report) {
  const auto tokenizer = text::Tokenizer::load(golden.folder);
  check_ids(golden, *tokenizer, report);
  if (golden.has_file("truncation.jsonl")) {
    check_truncation(golden, *tokenizer, report);
  }
}

/// cleaning.jsonl: text, once, twice, plain; twice_without_ftfy where ftfy changes the result (its
/// rule is left out here, and "once" of such a line holds its effect).
void run_cleaning(const Case& golden, Report& report) {
  Counter once(report, "once");
  Counter twice(report, "twice");
  Counter plain(report, "plain");
  for (const Json& line : read_lines(golden, "cleaning.jsonl")) {
    const Json& text = line.at("text");
    const std::string prompt = text.get<std::string>();
    const bool has_ftfy = line.contains("twice_without_ftfy");
    twice.check(
        text, line.at(has_ftfy ? "twice_without_ftfy" : "twice"), text::text_preprocessing(prompt));
    plain.check(text, line.at("plain"), text::plain_preprocessing(prompt));
    if (!has_ftfy) {
      once.check(text, line.at("once"), text::clean_caption(prompt));
    }
  }
}

}  // namespace

std::vector<Kind> tokenizer_kinds() {
  return {{"text.tokenizer", run_tokenizer}, {"text.cleaning", run_cleaning}};
}

}  // namespace kinema::golden
