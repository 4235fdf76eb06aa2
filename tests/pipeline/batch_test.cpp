// SPDX-License-Identifier: Apache-2.0
// Files of prompts, names of outputs, and the list of a batch.
#include "pipeline/batch.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

VideoRequest base() {
  VideoRequest request;
  request.prompt = "base";
  request.width = 32;
  request.height = 32;
  request.frames = 9;
  request.fps = 8;
  request.seed = 5;
  request.steps = 4;
  request.long_mode = "exact";
  return request;
}

std::vector<std::string> outputs(const std::vector<BatchItem>& items) {
  std::vector<std::string> names;
  for (const BatchItem& item : items) {
    names.push_back(item.output);
  }
  return names;
}

TEST(BatchTest, TextFilesHaveAPromptOnEachLine) {
  test::TempFolder folder;
  write_file(folder / "p.txt", "a cat\r\n\n{\"prompt\": \"not JSON here\"}\nlast");
  const auto requests = read_prompt_file(folder / "p.txt", base());
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[0].prompt, "a cat");
  EXPECT_EQ(requests[1].prompt, "{\"prompt\": \"not JSON here\"}");
  EXPECT_EQ(requests[2].prompt, "last");
  EXPECT_EQ(requests[2].seed, 5);
}

TEST(BatchTest, JsonLinesOverrideTheRequest) {
  test::TempFolder folder;
  write_file(folder / "p.jsonl",
             "{\"prompt\":\"a\",\"seconds\":2,\"fps\":4,\"seed\":9,\"negative\":\"blue\"}\n"
             "{\"prompt\":\"b\",\"width\":64,\"long\":\"fused\",\"window\":5,"
             "\"scenes\":[{\"seconds\":1.5,\"prompt\":\"c\"}]}\n");
  const auto requests = read_prompt_file(folder / "p.jsonl", base());
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].frames, 8);
  EXPECT_EQ(requests[0].seed, 9);
  EXPECT_EQ(requests[0].negative, "blue");
  EXPECT_EQ(requests[1].width, 64);
  EXPECT_EQ(requests[1].height, 32);
  EXPECT_EQ(requests[1].long_mode, "fused");
  EXPECT_EQ(requests[1].scenes.at(0).prompt, "c");
}

TEST(BatchTest, MistakesAreToldWithTheirLine) {
  test::TempFolder folder;
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"{\"prompt\":\"a\"}\n{\"promt\":\"b\"}", "line 2"},
           {"{\"prompt\":\"a\",\"speed\":3}", "speed"},
           {"{\"prompt\":\"a\",\"frames\":3,\"seconds\":1}", "both"},
           {"{\"prompt\":7}", "line 1"},
           {"{\"prompt\":", "line 1"},
           {"\n\n", "at least one prompt"}}) {
    write_file(folder / "p.jsonl", text);
    try {
      static_cast<void>(read_prompt_file(folder / "p.jsonl", base()));
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), 3) << text;
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }
}

TEST(BatchTest, NamesOfOutputs) {
  EXPECT_THAT(outputs(expand_batch({base()}, "a/b.mp4", 1)), ElementsAre("a/b.mp4"));
  EXPECT_THAT(outputs(expand_batch({base()}, "a/b.c.mp4", 2)),
              ElementsAre("a/b.c-0000.mp4", "a/b.c-0001.mp4"));
  EXPECT_THAT(outputs(expand_batch({base()}, "frames/", 2)),
              ElementsAre("frames-0000/", "frames-0001/"));
  EXPECT_THAT(outputs(expand_batch({base()}, "x-{seed}.mp4", 3)),
              ElementsAre("x-5.mp4", "x-6.mp4", "x-7.mp4"));
  VideoRequest other = base();
  other.prompt = "Two  Red / Cats!";
  EXPECT_THAT(outputs(expand_batch({base(), other}, "{index}-{prompt}.mp4", 1)),
              ElementsAre("0000-base.mp4", "0001-two-red-cats.mp4"));
  const auto items = expand_batch({base(), other}, "v.mp4", 2);
  EXPECT_EQ(items[1].request.seed, 6);
  EXPECT_EQ(items[2].request.prompt, other.prompt);
  EXPECT_EQ(items[2].request.seed, 5);
  for (const auto& [pattern, code] : {std::pair("{prompt}.mp4", "request.output_names"),
                                      {"{name}.mp4", "request.output_template"}}) {
    try {
      static_cast<void>(expand_batch({base()}, pattern, 2));
      FAIL() << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
    }
  }
}

TEST(BatchTest, TheListOnDiskIsTheList) {
  test::TempFolder folder;
  const std::string output = folder / "v-{index}.mp4";
  EXPECT_FALSE(Batch::exists(output));
  Batch batch = Batch::create(output, expand_batch({base()}, output, 3));
  batch.advance();
  EXPECT_TRUE(Batch::exists(output));
  const Batch again = Batch::open(output);
  EXPECT_EQ(again.items(), batch.items());
  EXPECT_EQ(again.num_done(), 1);
  again.remove();
  EXPECT_EQ(folder.num_files(), 0U);
}

}  // namespace
}  // namespace kinema::pipeline
