// SPDX-License-Identifier: Apache-2.0
// `kinema generate`: many videos in one call, long videos, given frames, previews, costs, and what
// goes wrong on the way.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/json.h"
#include "core/io/image.h"
#include "core/tensor/from_view.h"
#include "pipeline/batch.h"
#include "pipeline/journal.h"
#include "tests/pipeline/generate_fixture.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::ProcessResult;
using testing::HasSubstr;

class GenerateManyTest : public test::GenerateFixture {
 protected:
  static void SetUpTestSuite() { shared_ = new test::SharedModel(dit::Layout::kStdit3); }
  static void TearDownTestSuite() { delete shared_; }

  static std::vector<std::string> generate(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate", "--model", shared_->path(), "--threads", "1"};
    if (std::find(more.begin(), more.end(), "--steps") == more.end()) {
      arguments.insert(arguments.end(), {"--steps", "2"});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  /// Videos of one call, one for each line of a file of prompts; line i becomes video(i).
  Json make(const std::vector<OrderedJson>& lines, std::vector<std::string> more) {
    std::string text;
    for (OrderedJson line : lines) {
      line["prompt"] = "a red circle";
      text += line.dump() + "\n";
    }
    write_file(folder_ / "lines.jsonl", text);
    more.insert(more.end(),
                {"--prompts", folder_ / "lines.jsonl", "-o", folder_ / "{index}.mkv", "--json"});
    return json_of(kinema(generate(more)))["videos"];
  }
  std::string video(int index) const { return folder_ / ("000" + std::to_string(index) + ".mkv"); }
  static Json json_of(const ProcessResult& result) {
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out, {.place = "test", .subject = "stdout"});
  }

  static inline test::SharedModel* shared_ = nullptr;
};

TEST_F(GenerateManyTest, FourVideosOfOneCallAreFourCalls) {
  const Json result = json_of(kinema(generate(
      {"a red circle", "--videos", "4", "--seed", "3", "-o", folder_ / "v.mp4", "--json"})));
  ASSERT_EQ(result["videos"].size(), 4U);
  for (const int i : {0, 3}) {
    const std::string one = folder_ / ("one" + std::to_string(i) + ".mp4");
    ASSERT_EQ(
        kinema(generate({"a red circle", "--seed", std::to_string(3 + i), "-o", one})).exit_code,
        0);
    EXPECT_EQ(bytes(folder_ / ("v-000" + std::to_string(i) + ".mp4")), bytes(one));
  }
  EXPECT_EQ(folder_.num_files(), 6U) << "no journal stays";
}

TEST_F(GenerateManyTest, AFileOfPromptsIsKilledAndContinued) {
  write_file(
      folder_ / "p.jsonl",
      "{\"prompt\":\"a red circle\",\"frames\":5}\n{\"prompt\":\"a blue square\",\"steps\":3}\n");
  const std::vector<std::string> call = {"--prompts", folder_ / "p.jsonl", "--videos", "2"};
  const auto with = [&](const std::string& output) {
    std::vector<std::string> arguments = generate(call);
    arguments.insert(arguments.end(), {"-o", output});
    return arguments;
  };
  fs::create_directory(folder_ / "a");
  fs::create_directory(folder_ / "b");
  const ProcessResult whole = kinema(with(folder_ / "a/{prompt}-{seed}.mp4"));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::string output = folder_ / "b/{prompt}-{seed}.mp4";
  const pid_t child = start(with(output));
  const std::string first = folder_ / "b/a-red-circle-0.mp4";
  for (int i = 0; i < 4000 && !fs::exists(first); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_TRUE(pipeline::Batch::exists(output));
  EXPECT_THAT(kinema(with(output)).err, HasSubstr("kinema resume"));
  const ProcessResult rest = kinema({"resume", output, "--threads", "1"});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  for (const char* name :
       {"a-red-circle-0", "a-red-circle-1", "a-blue-square-0", "a-blue-square-1"}) {
    EXPECT_EQ(bytes(folder_ / ("a/" + std::string(name) + ".mp4")),
              bytes(folder_ / ("b/" + std::string(name) + ".mp4")));
  }
  EXPECT_EQ(count_frames(first), 5);
  EXPECT_FALSE(pipeline::Batch::exists(output));
}

TEST_F(GenerateManyTest, LongVideosHaveTheFramesAskedFor) {
  // What fits one window is made as by exact, so the last four are one video.
  std::vector<OrderedJson> lines;
  for (const auto& [window, frames] : {std::pair(5, 19), {9, 9}}) {
    for (const char* mode : {"exact", "fused", "freenoise", "fifo"}) {
      lines.push_back({{"long", mode}, {"window", window}, {"frames", frames}});
    }
  }
  const Json videos = make(lines, {"--no-provenance", "--steps", "6"});
  ASSERT_EQ(videos.size(), 8U);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(count_frames(video(i)), i < 4 ? 19 : 9);
    EXPECT_EQ(videos[i]["request"]["long"], lines[i]["long"]);
    EXPECT_EQ(bytes(video(i)) == bytes(video(i < 4 ? 0 : 4)), i == 0 || i >= 4) << i;
  }
  const ProcessResult steps = kinema(generate({"a",
                                               "--long",
                                               "fifo",
                                               "--window",
                                               "9",
                                               "--steps",
                                               "4",
                                               "--frames",
                                               "19",
                                               "-o",
                                               folder_ / "x.mkv"}));
  EXPECT_EQ(steps.exit_code, 2);
  EXPECT_THAT(steps.err, HasSubstr("3 or 6"));
}

TEST_F(GenerateManyTest, ScenesChangeTheEnd) {
  const OrderedJson plain = {{"long", "fused"}, {"window", 5}, {"frames", 33}};
  OrderedJson scenes = plain;
  scenes["scenes"] = {{{"seconds", 2.5}, {"prompt", "a blue square"}}};
  make({plain, scenes}, {});
  auto first = media::VideoReader::open(video(0));
  auto second = media::VideoReader::open(video(1));
  EXPECT_EQ(first.read_at_index(0)->rgb_HWC, second.read_at_index(0)->rgb_HWC);
  EXPECT_NE(first.read_at_index(32)->rgb_HWC, second.read_at_index(32)->rgb_HWC);
  EXPECT_EQ(kinema(generate({"a", "--scene", "0.5:b", "--long", "exact", "-o", folder_ / "x.mkv"}))
                .exit_code,
            2);
}

TEST_F(GenerateManyTest, ClipsAreContinuedPrecededAndConnected) {
  const std::string clip = folder_ / "clip.mkv";
  ASSERT_EQ(kinema(generate({"a red circle", "--frames", "9", "-o", clip})).exit_code, 0);
  io::Image picture{.width = 48, .height = 32, .pixels = {}};
  picture.pixels.assign(48 * 32 * 3, 200);
  io::write_png(folder_ / "picture.png", picture);
  make({{{"frames", 21}, {"image", folder_ / "picture.png"}},
        {{"frames", 21}, {"video", clip}},
        {{"frames", 21}, {"end_video", clip}},
        {{"frames", 21}, {"video", clip}, {"end_video", clip}, {"given_frames", 5}},
        {{"frames", 21}, {"video", clip}, {"long", "fused"}, {"window", 9}}},
       {});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(count_frames(video(i)), 21);
  }
  const ProcessResult again =
      kinema({"rerun", video(3), "-o", folder_ / "again.mkv", "--threads", "1"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(bytes(video(3)), bytes(folder_ / "again.mkv"));
  const auto fails = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"it rains", "-o", folder_ / "x.mkv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = kinema(generate(arguments));
    EXPECT_FALSE(fs::exists(folder_ / "x.mkv"));
    EXPECT_FALSE(pipeline::Journal::exists(folder_ / "x.mkv"));
    return result.exit_code;
  };
  EXPECT_EQ(fails({"--video", clip, "--frames", "9"}), 2) << "nothing left to make";
  EXPECT_EQ(fails({"--end-video", clip, "--frames", "20"}), 2);
  write_file(folder_ / "bad.png", "not a picture");
  EXPECT_EQ(fails({"--image", folder_ / "bad.png"}), 3);
}

TEST_F(GenerateManyTest, PreviewsChangeNothingAndTellTheirCost) {
  ASSERT_EQ(kinema(generate({"a red circle", "--steps", "6", "-o", folder_ / "a.mp4"})).exit_code,
            0);
  for (const char* name : {"now.png", "now.gif"}) {
    const Json result = json_of(kinema(generate({"a red circle",
                                                 "--steps",
                                                 "6",
                                                 "-o",
                                                 folder_ / "b.mp4",
                                                 "--preview",
                                                 folder_ / name,
                                                 "--preview-every",
                                                 "2",
                                                 "--json"})));
    EXPECT_EQ(result["preview"]["written"], 2) << "not after the last step";
    EXPECT_GT(result["preview"]["seconds"].get<double>(), 0);
    EXPECT_EQ(bytes(folder_ / "a.mp4"), bytes(folder_ / "b.mp4"));
  }
  EXPECT_EQ(io::read_image(folder_ / "now.png").width, 32);
  EXPECT_EQ(count_frames(folder_ / "now.gif"), 3);
  EXPECT_EQ(
      kinema(generate({"a", "-o", folder_ / "c.mp4", "--preview", folder_ / "now.bmp"})).exit_code,
      2);
}

TEST_F(GenerateManyTest, DryRunTellsMemoryArithmeticAndTimeOfEachStage) {
  const Json result =
      json_of(kinema(generate({"a red circle", "-o", folder_ / "a.mp4", "--dry-run", "--json"})));
  const Json& stages = result["plan"]["stages"];
  ASSERT_EQ(stages.size(), 3U);
  for (const Json& stage : stages) {
    EXPECT_GT(stage["gflop"].get<double>(), 0) << stage;
    EXPECT_GT(stage["peak_bytes"].get<double>(), 1e6) << stage;
    EXPECT_GT(stage["seconds"].get<double>(), 0) << stage;
  }
  const Json longer = json_of(kinema(generate(
      {"a red circle", "-o", folder_ / "a.mp4", "--dry-run", "--json", "--frames", "17"})));
  EXPECT_GT(longer["plan"]["stages"][1]["gflop"].get<double>(),
            1.5 * stages[1]["gflop"].get<double>());
}

TEST_F(GenerateManyTest, WhatCannotFitIsToldBeforeItBegins) {
  const std::vector<std::string> huge = {
      "a", "-o", folder_ / "a.mp4", "--size", "16384x16384", "--frames", "100001"};
  const ProcessResult result = kinema(generate(huge));
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_THAT(result.err, HasSubstr("--force"));
  EXPECT_EQ(folder_.num_files(), 0U);
}

TEST_F(GenerateManyTest, DamagedModelsAreToldInOneMessage) {
  const auto fails = [&](const std::function<void(const std::string&)>& damage,
                         const std::string& message) {
    const std::string model = folder_ / "model";
    fs::remove_all(model);
    fs::copy(shared_->path(), model, fs::copy_options::recursive);
    damage(model);
    const ProcessResult result =
        kinema({"generate", "a", "--model", model, "-o", folder_ / "a.mp4", "--threads", "1"});
    EXPECT_EQ(result.exit_code, 3) << message << result.err;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.err.find("error:"), result.err.rfind("error:")) << "one message";
    EXPECT_EQ(folder_.num_files(), 1U) << "only the model";
  };
  const auto without = [](const std::string& path, const std::string& name) {
    TensorMap tensors;
    for (const auto& [key, value] : tensor::load_tensors(path)) {
      if (key != name) {
        tensors.emplace(key, value.clone());
      }
    }
    tensor::save_tensors(path, tensors);
  };
  fails(
      [&](const auto& model) {
        without(model + "/transformer/model.safetensors", "t_block.1.weight");
      },
      "t_block.1.weight");
  fails(
      [&](const auto& model) {
        without(model + "/vae/model.safetensors", "decoder.conv_in.conv.bias");
      },
      "conv_in");
  fails(
      [&](const auto& model) {
        without(model + "/text_encoder/model.safetensors", "encoder.final_layer_norm.weight");
      },
      "final_layer_norm");
  fails([](const auto& model) { fs::remove_all(model + "/vae"); }, "'vae'");
  fails([](const auto& model) { fs::resize_file(model + "/transformer/model.safetensors", 1000); },
        "model.safetensors");
}

TEST_F(GenerateManyTest, NotANumberIsToldAndNothingIsWritten) {
  const std::string model = folder_ / "model";
  fs::copy(shared_->path(), model, fs::copy_options::recursive);
  const std::string path = model + "/text_encoder/model.safetensors";
  TensorMap tensors;
  for (const auto& [key, value] : tensor::load_tensors(path)) {
    tensors.emplace(key, value.clone());
  }
  tensors.at("encoder.final_layer_norm.weight").fill_(std::nanf(""));
  tensor::save_tensors(path, tensors);
  const ProcessResult result =
      kinema({"generate", "a", "--model", model, "-o", folder_ / "a.mp4", "--threads", "1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("text features"));
  EXPECT_FALSE(fs::exists(folder_ / "a.mp4"));
}

TEST_F(GenerateManyTest, AFullDiskAndAClosedPipe) {
  const std::vector<std::string> call = generate({"a", "-o", "-"});
  const ProcessResult full = test::run_process(command(call), "/dev/full");
  EXPECT_EQ(full.exit_code, 4) << full.err;
  EXPECT_THAT(full.err, HasSubstr("disk_full"));
  std::vector<std::string> piped = {"/bin/bash", "-c", "set -o pipefail; \"$@\" | true", "_"};
  for (const std::string& argument : command(call)) {
    piped.push_back(argument);
  }
  const ProcessResult closed = test::run_process(piped);
  EXPECT_EQ(closed.exit_code, 2) << closed.err;
  EXPECT_THAT(closed.err, HasSubstr("output.closed"));
}

}  // namespace
}  // namespace kinema
