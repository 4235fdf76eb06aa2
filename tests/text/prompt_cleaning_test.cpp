// SPDX-License-Identifier: Apache-2.0
// Cleaning of prompts: the golden strings, a table of further ones made with Python's re, html and
// Beautiful Soup, and what must hold for any text.
#include "text/tokenizer/prompt_cleaning.h"

#include <array>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/text/golden_files.h"
#include "tests/text/reference_strings.h"
#include "text/tokenizer/html_text.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

TEST(PromptCleaningTest, Golden) {
  const auto file = testing::golden_folder("cleaning") / "cleaning.jsonl";
  if (!std::filesystem::exists(file)) {
    GTEST_SKIP() << "no golden set beside the repository";
  }
  int compared = 0;
  for (const auto& line : testing::read_jsonl(file)) {
    const auto text = line.at("text").get<std::string>();
    const bool repaired = line.contains("twice_without_ftfy");
    EXPECT_EQ(text_preprocessing(text),
              line.at(repaired ? "twice_without_ftfy" : "twice").get<std::string>())
        << line;
    EXPECT_EQ(plain_preprocessing(text), line.at("plain").get<std::string>()) << line;
    if (!repaired) {
      EXPECT_EQ(clean_caption(text), line.at("once").get<std::string>()) << line;
    }
    ++compared;
  }
  EXPECT_GE(compared, 80);
}

TEST(PromptCleaningTest, CasesOfTheReference) {
  const auto file = testing::reference_file("../cleaning.jsonl");
  ASSERT_TRUE(std::filesystem::exists(file));
  int compared = 0;
  for (const auto& line : testing::read_jsonl(file)) {
    const auto text = line.at(0).get<std::string>();
    EXPECT_EQ(clean_caption(text), line.at(1).get<std::string>()) << line;
    EXPECT_EQ(text_preprocessing(text), line.at(2).get<std::string>()) << line;
    EXPECT_EQ(html_text(text), line.at(3).get<std::string>()) << line;
    EXPECT_EQ(html_unescape(text), line.at(4).get<std::string>()) << line;
    ++compared;
  }
  EXPECT_GE(compared, 400);
}

TEST(PromptCleaningTest, PlainLowersAndTrims) {
  EXPECT_EQ(plain_preprocessing(" \x1C\u2003A Red CIRCLE \u0130 \u039F\u03A3 \n"),
            "a red circle i\u0307 \u03BF\u03C2");
  EXPECT_EQ(plain_preprocessing("<b>Kept</b> +%20"), "<b>kept</b> +%20");
  EXPECT_EQ(plain_preprocessing(""), "");
}

TEST(PromptCleaningTest, InvalidBytesBecomeReplacementCharacters) {
  EXPECT_EQ(clean_caption("a \xFF b \xC3"), "a \uFFFD b \uFFFD");
  EXPECT_EQ(plain_preprocessing("\xE2\x82 X"), "\uFFFD x");
}

TEST(PromptCleaningTest, LongPromptsAreRefused) {
  const std::string longest(100'000, 'a');
  EXPECT_EQ(clean_caption(longest), longest);
  try {
    static_cast<void>(clean_caption(longest + "a"));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(error.code(), "text.prompt_too_long");
    EXPECT_THAT(error.what(), ::testing::HasSubstr("100.0 kB"));
  }
}

// Shapes that make backtracking searches slow.
TEST(PromptCleaningTest, HostileShapesEnd) {
  for (const std::string part : {"a.",
                                 "www:",
                                 "<",
                                 "<!--",
                                 "<a ",
                                 "&#",
                                 "a-b.com@",
                                 "1",
                                 "1a",
                                 " . ",
                                 ". ",
                                 "'",
                                 "x.png",
                                 "1.",
                                 "<![cdata["}) {
    std::string text;
    while (text.size() < 20000) {
      text += part;
    }
    const std::string cleaned = text_preprocessing(text);
    EXPECT_TRUE(is_valid_utf8(cleaned)) << part;
  }
}

TEST(PromptCleaningTest, ResultsAreTrimmedLowerCaseWithoutRuns) {
  const auto texts = testing::compose_texts();
  for (std::size_t i = 0; i < 2000; ++i) {
    const std::string cleaned = text_preprocessing(texts[i]);
    EXPECT_TRUE(is_valid_utf8(cleaned));
    EXPECT_EQ(cleaned.find("  "), std::string::npos) << cleaned;
    EXPECT_FALSE(cleaned.starts_with(' ') || cleaned.ends_with(' ')) << cleaned;
  }
}

TEST(HtmlTextTest, HiddenAndMalformed) {
  EXPECT_EQ(html_text("a<script>x<b>y</b></script>z"), "az");
  EXPECT_EQ(html_text("<template>a<b>b</b></template>c"), "c");
  EXPECT_EQ(html_text("<ruby>\u6F22<rt>kan</rt></ruby>"), "\u6F22");
  EXPECT_EQ(html_text("a <!-- b --> c <![cdata[d]]>"), "a  c d");
  EXPECT_EQ(html_text("5 < 6 & 7 > 3"), "5 < 6 & 7 > 3");
  EXPECT_EQ(html_text("<script>never closed"), "");
  EXPECT_EQ(html_text("<a b=\"c> open"), "<a b=\"c> open");
}

TEST(HtmlUnescapeTest, NamesAndNumbers) {
  EXPECT_EQ(html_unescape("&lt;&LT;&eacute;&#233;&#xE9;&#128;"), "<<\u00E9\u00E9\u00E9\u20AC");
  EXPECT_EQ(html_unescape("&notin; &notit; &not"), "\u2209 \u00ACit; \u00AC");
  EXPECT_EQ(html_unescape("&#0;&#xD800;&#99999999999;&#1;"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(html_unescape("&unknown; & &; &#; &#x;"), "&unknown; & &; &#; &#x;");
}

}  // namespace
}  // namespace kinema::text
