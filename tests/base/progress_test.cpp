// SPDX-License-Identifier: Apache-2.0
#include "core/base/progress.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/json.h"

namespace kinema {
namespace {

using testing::HasSubstr;
using testing::Not;

bool g_stop = false;
bool stop() {
  return g_stop;
}

// What an observer of `style` prints for a stage of three steps.
std::string printed(ProgressStyle style) {
  char* data = nullptr;
  std::size_t size = 0;
  std::FILE* stream = ::open_memstream(&data, &size);
  {
    const auto progress = make_progress(style, stream);
    progress->on_stage("decode", 3, "frame");
    for (int i = 1; i <= 3; ++i) {
      progress->on_step(i, {{"psnr", 31.25}});
    }
    progress->on_stage_end();
  }
  std::fclose(stream);
  std::string text(data, size);
  std::free(data);
  return text;
}

TEST(ProgressTest, BarRedrawsOneLine) {
  const std::string text = printed(ProgressStyle::kBar);
  EXPECT_THAT(text, HasSubstr("\r\033[Kdecode ["));
  EXPECT_THAT(text, HasSubstr("3/3 frames"));
  EXPECT_THAT(text, HasSubstr("psnr 31.25"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1)
      << "only the end of the stage ends the line";
}

TEST(ProgressTest, PlainLinesHaveNoControlCharactersAndAreFew) {
  const std::string text = printed(ProgressStyle::kLines);
  EXPECT_THAT(text, Not(HasSubstr("\033")));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_THAT(text, HasSubstr("decode: 3/3 frames"));
}

TEST(ProgressTest, JsonLinesParse) {
  const std::string text = printed(ProgressStyle::kJson);
  std::size_t start = 0;
  std::vector<std::string> events;
  while (start < text.size()) {
    const std::size_t end = text.find('\n', start);
    const Json line =
        parse_json(text.substr(start, end - start), {.place = "test", .subject = "line"});
    events.push_back(line["event"]);
    EXPECT_EQ(line["stage"], "decode");
    EXPECT_EQ(line["total"], 3);
    start = end + 1;
  }
  EXPECT_EQ(events.front(), "stage");
  EXPECT_EQ(events.back(), "end");
}

TEST(ProgressTest, QuietPrintsNothing) {
  EXPECT_EQ(printed(ProgressStyle::kQuiet), "");
}

TEST(ProgressTest, CancelThrowsAtTheNextCheck) {
  const auto progress = make_progress(ProgressStyle::kQuiet, stderr, stop);
  g_stop = false;
  EXPECT_NO_THROW(check_cancelled(*progress, "test"));
  g_stop = true;
  try {
    check_cancelled(*progress, "test");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
    EXPECT_EQ(error.exit_code(), 130);
  }
  EXPECT_NO_THROW(check_cancelled(null_progress(), "test"));
}

TEST(FormatDurationTest, ReadsLikeAClock) {
  EXPECT_EQ(format_duration(0.34), "0.3 s");
  EXPECT_EQ(format_duration(42), "42 s");
  EXPECT_EQ(format_duration(245), "4:05");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(1e300), "?");
}

}  // namespace
}  // namespace kinema
