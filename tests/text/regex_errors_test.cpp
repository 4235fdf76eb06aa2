// SPDX-License-Identifier: Apache-2.0
// Regular expressions that are refused, one for every reason, and searches that reach a limit.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/text/bad_files.h"
#include "text/tokenizer/pattern.h"

namespace kinema::text {
namespace {

std::string repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) {
    result += text;
  }
  return result;
}

TEST(RegexErrorsTest, EveryReason) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {std::string(16 * 1024 + 1, 'a'), "16385 bytes"},
      {repeated("[a]", 129), "more than 128 character classes"},
      {repeated("\\d", 129), "more than 128 character classes"},
      {repeated("\\b", 129), "more than 128 character classes"},
      {"[" + repeated("[:alpha:]", 128) + "]", "more than 128 character classes"},
      {repeated("(a)", 201), "more than 200 groups"},
      {repeated("[", 102), "character classes nested too deeply"},
      {"a{1001}", "a repetition of more than 1000"},
      {"a{1,99999999999999999999}", "a repetition of more than 1000"},
      {"a{3,2}", "n > m"},
      {"a{2}+", "a repetition of a repetition"},
      {"a(?#never closed", "a comment without an end"},
      {"(?y)a", "the group (?y"},
      {"(?", "a group without an end"},
      {"(?im", "a group without an end"},
      {"a\\", "a backslash at the end"},
      {"\\pL", "\\p without {name}"},
      {"\\p{L", "\\p without {name}"},
      {"\\p", "\\p without {name}"},
      {"\\p{L;M}", "the property name 'L;M'"},
      {"\\xZ", "a hexadecimal escape that is no character"},
      {"\\u", "a hexadecimal escape that is no character"},
      {"\\uD800", "a hexadecimal escape that is no character"},
      {"\\x{110000}", "a hexadecimal escape that is no character"},
      {"\\x{41", "\\x{ without }"},
      {"\\x80", "a raw byte above 7F"},
      {"\\y", "the escape \\y"},
      {"[", "a character class without an end"},
      {"[]", "a character class without an end"},
      {"[a-", "a character class without an end"},
      {"[\\", "a backslash at the end"},
      {"[&&a]", "an empty operand"},
      {"[a&&]", "an empty operand"},
      {"[z-a]", "a range that runs backwards"},
      {"[\\q]", "the escape \\q"},
      // What the translation lets pass and the compiler refuses.
      {"(", "U_REGEX_MISMATCHED_PAREN"},
      {"a)", "U_REGEX_MISMATCHED_PAREN"},
      {"*a", "U_REGEX_RULE_SYNTAX"},
      {"\\p{NoSuchProperty}", "U_"},
      {"(?<=a+)b", "U_REGEX_LOOK_BEHIND_LIMIT"},
      {"(a)\\2", "U_REGEX_INVALID_BACK_REF"},
      {"\\k<name>", "U_REGEX_INVALID_CAPTURE_GROUP_NAME"},
  };
  for (const auto& bad : cases) {
    const std::string& expression = bad.first;
    SCOPED_TRACE(expression.substr(0, 100));
    testing::expect_error([&] { static_cast<void>(Pattern::regex(expression)); },
                          ErrorKind::kBadCheckpoint,
                          "tokenizer.regex",
                          "regular expression '" + expression.substr(0, 200) + "'",
                          bad.second);
  }
}

TEST(RegexErrorsTest, LimitsOfTheSearch) {
  const Pattern nested = Pattern::regex("(a+)+b");
  EXPECT_EQ(nested.find("aaab").size(), 1U);
  testing::expect_error([&] { static_cast<void>(nested.find(std::string(40, 'a'))); },
                        ErrorKind::kBadCheckpoint,
                        "tokenizer.regex_limit",
                        "regular expression of the tokenizer",
                        "U_REGEX_STOPPED_BY_CALLER");
}

}  // namespace
}  // namespace kinema::text
