// SPDX-License-Identifier: Apache-2.0
// `kinema generate` from end to end with a tiny random model: exact frame counts, equal bytes, kill
// and resume, rerun from the file itself, and every mistake a user makes.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/json.h"
#include "pipeline/journal.h"
#include "tests/pipeline/generate_fixture.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::ProcessResult;
using testing::HasSubstr;

// One model folder for all tests of this file.
class GenerateTest : public test::GenerateFixture {
 protected:
  static void SetUpTestSuite() { shared_ = new test::SharedModel(dit::Layout::kFull); }
  static void TearDownTestSuite() { delete shared_; }

  static std::vector<std::string> generate(const std::string& output,
                                           std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"generate",
                                          "a red circle moves right",
                                          "--model",
                                          shared_->path(),
                                          "-o",
                                          output,
                                          "--threads",
                                          "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  static inline test::SharedModel* shared_ = nullptr;
};

TEST_F(GenerateTest, WritesExactlyTheFramesAskedFor) {
  for (const int frames : {1, 6, 14}) {
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
  const ProcessResult whole = kinema(generate(folder_ / "whole.mp4", more));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::string output = folder_ / "killed.mp4";
  const char* wanted = std::getenv("KINEMA_KILLS");
  const int kills = wanted == nullptr ? 2 : std::atoi(wanted);
  // Any moment of a run; where the output was complete before the signal, a new run is begun.
  std::minstd_rand random(17);
  std::uniform_real_distribution<double> moment(0.0, 1.05 * whole.seconds);
  int interrupted = 0;
  int complete = 0;
  for (int attempt = 0; interrupted < kills && attempt < 4 * kills; ++attempt) {
    const pid_t child = start(pipeline::Journal::exists(output)
                                  ? std::vector<std::string>{"resume", output, "--threads", "1"}
                                  : generate(output, more));
    std::this_thread::sleep_for(std::chrono::duration<double>(moment(random)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    interrupted += WIFSIGNALED(status) ? 1 : 0;
    if (fs::exists(output)) {
      EXPECT_EQ(bytes(folder_ / "whole.mp4"), bytes(output)) << "after kill " << interrupted;
      ++complete;
      if (!pipeline::Journal::exists(output)) {
        fs::remove(output);
      }
    }
  }
  EXPECT_GT(interrupted, 0);
  RecordProperty("kills", interrupted);
  RecordProperty("complete_in_between", complete);
  const ProcessResult last = pipeline::Journal::exists(output)
                                 ? kinema({"resume", output, "--threads", "1"})
                                 : kinema(generate(output, more));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(bytes(folder_ / "whole.mp4"), bytes(output));
  EXPECT_FALSE(pipeline::Journal::exists(output));
}

TEST_F(GenerateTest, OtherContainers) {
  for (const char* name : {"a.gif", "a.webm"}) {
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
  EXPECT_EQ(
      kinema({"generate", "x", "--model", shared_->path(), "-o", folder_ / "no/a.mp4"}).exit_code,
      2);
  EXPECT_EQ(
      kinema({"generate", "x", "--model", shared_->path(), "-o", folder_ / "a.doc"}).exit_code, 2);
  EXPECT_EQ(kinema({"resume", output}).exit_code, 3);
}

TEST_F(GenerateTest, AnUnfinishedRunIsNotOverwrittenSilently) {
  const std::string output = folder_ / "a.mp4";
  const pid_t child = start(generate(output, {"--steps", "3000"}));
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
