// SPDX-License-Identifier: Apache-2.0
// `kinema generate` from end to end with a tiny random model: exact frame counts, equal bytes, kill
// and resume, rerun from the file itself, and every mistake a user makes.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "core/tensor/noise.h"
#include "dit/vdit.h"
#include "media/video_reader.h"
#include "pipeline/journal.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_t5.h"
#include "vae/vid_vae.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::ProcessResult;
using testing::HasSubstr;

constexpr const char* kVaeConfig =
    R"({"_class_name":"VidVAE","in_channels":3,"latent_channels":4,"base":6,"mult":[1,2,2,2],"res_blocks":1,"groups":3,)"
    R"("norm_eps":1e-6,"norm_scope":"frame","conv3d_levels_enc":[true,true,true,true],"time_down":["pool","pool","",""],)"
    R"("time_up":["","","repeat","repeat"],"pad_time":"first","mid_attn":"frame","scale":[1.0,1.0,1.0,1.0],)"
    R"("shift":[0.0,0.0,0.0,0.0]})";

// One model folder for all tests of this file.
class GenerateTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new test::TempFolder();
    const std::string model = *shared_ / "model";
    fs::create_directories(model + "/vae");
    write_file(
        model + "/model_index.json",
        R"({"_class_name":"KinemaTextToVideo","transformer":["kinema","VDiT"],"vae":["kinema","VidVAE"],)"
        R"("text_encoder":["transformers","T5EncoderModel"],"tokenizer":["transformers","T5Tokenizer"]})");
    write_file(
        model + "/generation.json",
        R"({"width":32,"height":32,"frames":9,"fps":8,"steps":4,"guidance":3.0,"max_length":16})");
    test::TinyT5().save(model + "/text_encoder");
    fs::copy(KINEMA_SOURCE_DIR "/tests/golden/text/tokenizer_t5",
             model + "/tokenizer",
             fs::copy_options::recursive);
    dit::VDitConfig config;
    config.layout = dit::Layout::kFull;
    config.latent_channels = 4;
    config.predict_variance = false;
    config.width = 32;
    config.num_layers = 1;
    config.num_heads = 2;
    config.mlp_width = 64;
    config.caption_channels = test::TinyT5::kWidth;
    config.caption_tokens = 0;
    dit::VideoDit::create(config, /*seed=*/1)->save(model + "/transformer");
    write_file(model + "/vae/config.json", kVaeConfig);
    const JsonContext context{.place = "test", .subject = "vae"};
    vae::VidVae network(
        vae::VidVaeConfig::from_json(parse_json(kVaeConfig, context), "vae", null_logger()));
    TensorMap weights;
    for (const auto& item : network->named_parameters()) {
      const bool norm = item.key().find("norm") != std::string::npos;
      weights[item.key()] =
          norm && item.key().ends_with("weight")
              ? at::ones(item.value().sizes())
              : tensor::normal_noise_flat({.seed = 3, .name = item.key()}, item.value().sizes()) *
                    0.1;
    }
    tensor::save_tensors(model + "/vae/model.safetensors", weights);
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  static std::vector<std::string> command(std::vector<std::string> arguments) {
    std::vector<std::string> full = {KINEMA_BINARY_DIR "/apps/kinema"};
    full.insert(full.end(), arguments.begin(), arguments.end());
    return full;
  }
  static ProcessResult kinema(std::vector<std::string> arguments) {
    return test::run_process(command(std::move(arguments)));
  }
  std::vector<std::string> generate(const std::string& output,
                                    std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"generate",
                                          "a red circle moves right",
                                          "--model",
                                          *shared_ / "model",
                                          "-o",
                                          output,
                                          "--threads",
                                          "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::string bytes(const std::string& path) const { return read_file(path, 1 << 26, "test"); }

  static inline test::TempFolder* shared_ = nullptr;
  test::TempFolder folder_;
};

std::int64_t count_frames(const std::string& path) {
  auto reader = media::VideoReader::open(path, {});
  std::int64_t count = 0;
  while (reader.next()) {
    ++count;
  }
  return count;
}

TEST_F(GenerateTest, WritesExactlyTheFramesAskedFor) {
  for (const int frames : {1, 6, 9, 14}) {
    const std::string output = folder_ / ("n" + std::to_string(frames) + ".mp4");
    const ProcessResult result =
        kinema(generate(output, {"--frames", std::to_string(frames), "--steps", "1"}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(count_frames(output), frames);
  }
  const ProcessResult seconds =
      kinema(generate(folder_ / "s.mp4", {"--seconds", "1.5", "--steps", "1", "--json"}));
  EXPECT_EQ(parse_json(seconds.out, {.place = "test", .subject = "stdout"})["frames"], 12);
}

TEST_F(GenerateTest, SameRequestSameBytesAndAnotherSeedAnotherVideo) {
  ASSERT_EQ(kinema(generate(folder_ / "a.mp4")).exit_code, 0);
  ASSERT_EQ(kinema(generate(folder_ / "b.mp4")).exit_code, 0);
  ASSERT_EQ(kinema(generate(folder_ / "c.mp4", {"--seed", "1"})).exit_code, 0);
  EXPECT_EQ(bytes(folder_ / "a.mp4"), bytes(folder_ / "b.mp4"));
  EXPECT_NE(bytes(folder_ / "a.mp4"), bytes(folder_ / "c.mp4"));
  EXPECT_EQ(folder_.names().size(), 3U) << "no journal and no part file stays";
}

TEST_F(GenerateTest, TheFileKnowsHowToMakeItselfAgain) {
  ASSERT_EQ(kinema(generate(folder_ / "a.mp4", {"--seed", "5", "--negative", "blue"})).exit_code,
            0);
  const Json facts = parse_json(kinema({"inspect", folder_ / "a.mp4", "--json"}).out,
                                {.place = "test", .subject = "stdout"});
  EXPECT_EQ(facts["provenance"]["request"]["seed"], 5);
  ASSERT_EQ(
      kinema({"rerun", folder_ / "a.mp4", "-o", folder_ / "b.mp4", "--threads", "1"}).exit_code, 0);
  EXPECT_EQ(bytes(folder_ / "a.mp4"), bytes(folder_ / "b.mp4"));
  ASSERT_EQ(kinema(generate(folder_ / "n.mp4", {"--no-provenance"})).exit_code, 0);
  EXPECT_EQ(kinema({"rerun", folder_ / "n.mp4", "-o", folder_ / "x.mp4"}).exit_code, 3);
}

TEST_F(GenerateTest, KilledAtAnyMomentAndResumedGivesTheSameBytes) {
  // Stochastic sampling, so that the noise of every step must come back, too.
  const std::vector<std::string> more = {"--steps", "40", "--sampler", "ddpm"};
  ASSERT_EQ(kinema(generate(folder_ / "whole.mp4", more)).exit_code, 0);
  const std::string output = folder_ / "killed.mp4";
  int interrupted = 0;
  for (int attempt = 0; attempt < 6; ++attempt) {
    const auto arguments = pipeline::Journal::exists(output)
                               ? command({"resume", output, "--threads", "1"})
                               : command(generate(output, more));
    const pid_t child = ::fork();
    if (child == 0) {
      std::vector<char*> raw;
      for (const auto& argument : arguments) {
        raw.push_back(const_cast<char*>(argument.c_str()));
      }
      raw.push_back(nullptr);
      ::close(1);
      ::close(2);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    // The first time as soon as one step is on disk, later whenever it comes.
    const std::string state = pipeline::Journal::folder_of(output) + "/state.safetensors";
    for (int i = 0; attempt == 0 && i < 2000 && !fs::exists(state); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(attempt == 0 ? 0 : 250 + 100 * attempt));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      break;  // it was quicker than the signal
    }
    ++interrupted;
    if (fs::exists(output)) {
      break;  // killed between the last rename and the end of the program
    }
  }
  EXPECT_GT(interrupted, 0);
  if (!fs::exists(output) || pipeline::Journal::exists(output)) {
    const ProcessResult last = pipeline::Journal::exists(output)
                                   ? kinema({"resume", output, "--threads", "1"})
                                   : kinema(generate(output, more));
    ASSERT_EQ(last.exit_code, 0) << last.err;
  }
  EXPECT_EQ(bytes(folder_ / "whole.mp4"), bytes(output));
  EXPECT_FALSE(pipeline::Journal::exists(output));
}

TEST_F(GenerateTest, OtherContainers) {
  for (const char* name : {"a.gif", "a.webm", "a.mkv", "a.y4m"}) {
    const ProcessResult result = kinema(generate(folder_ / name, {"--steps", "1"}));
    ASSERT_EQ(result.exit_code, 0) << name << result.err;
    EXPECT_EQ(count_frames(folder_ / name), 9) << name;
  }
}

TEST_F(GenerateTest, DryRunTellsTheCostAndWritesNothing) {
  const ProcessResult result =
      kinema(generate(folder_ / "a.mp4", {"--dry-run", "--json", "--frames", "10"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out, {.place = "test", .subject = "stdout"});
  EXPECT_EQ(json["plan"]["latents"], Json::parse("[1,4,4,4,4]"));
  EXPECT_EQ(json["plan"]["tokens"], 16);
  EXPECT_EQ(json["plan"]["decoded_frames"], 13);
  EXPECT_EQ(folder_.names().size(), 0U);
}

TEST_F(GenerateTest, MistakesAreToldAndNothingIsLeft) {
  const std::string output = folder_ / "a.mp4";
  const auto expect = [&](std::vector<std::string> more, int exit_code, const std::string& text) {
    const ProcessResult result = kinema(generate(output, std::move(more)));
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_EQ(folder_.names().size(), 0U);
  };
  expect({"--size", "33x32"}, 2, "32");
  expect({"--size", "big"}, 2, "WIDTHxHEIGHT");
  expect({"--frames", "2", "--seconds", "1"}, 2, "both");
  expect({"--sampler", "magic"}, 2, "rflow");
  expect({"--steps", "20000"}, 2, "--steps");
  EXPECT_EQ(kinema({"generate", "x", "--model", folder_ / "none", "-o", output}).exit_code, 3);
  EXPECT_EQ(kinema({"generate", "x", "--model", folder_.path(), "-o", output}).exit_code, 3);
  EXPECT_EQ(kinema({"generate", "x", "--model", *shared_ / "model", "-o", folder_ / "no/a.mp4"})
                .exit_code,
            2);
  EXPECT_EQ(
      kinema({"generate", "x", "--model", *shared_ / "model", "-o", folder_ / "a.doc"}).exit_code,
      2);
  EXPECT_EQ(kinema({"resume", output}).exit_code, 3);
}

TEST_F(GenerateTest, AnUnfinishedRunIsNotOverwrittenSilently) {
  const std::string output = folder_ / "a.mp4";
  const pid_t child = ::fork();
  if (child == 0) {
    const auto arguments = command(generate(output, {"--steps", "3000"}));
    std::vector<char*> raw;
    for (const auto& argument : arguments) {
      raw.push_back(const_cast<char*>(argument.c_str()));
    }
    raw.push_back(nullptr);
    ::close(1);
    ::close(2);
    ::execv(raw[0], raw.data());
    ::_exit(127);
  }
  for (int i = 0; i < 200 && !pipeline::Journal::exists(output); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130) << "Ctrl-C is a clean stop";
  const ProcessResult refused = kinema(generate(output, {"--steps", "1"}));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("kinema resume"));
  EXPECT_EQ(kinema(generate(output, {"--steps", "1", "--restart"})).exit_code, 0);
  EXPECT_TRUE(fs::exists(output));
}

}  // namespace
}  // namespace kinema
