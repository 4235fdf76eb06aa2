// SPDX-License-Identifier: Apache-2.0
// `kinema vae` as a user runs it, with a small random model: counts, formats, kill and go on, plans
// and every mistake.
#include <csignal>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/io/image.h"
#include "core/io/safetensors.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_clips.h"
#include "tests/support/tiny_vae.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::ProcessResult;
using testing::HasSubstr;

const std::string kProgram = KINEMA_BINARY_DIR "/apps/kinema";

Json json_of(const std::string& text) {
  return parse_json(text, {.place = "test", .subject = "stdout"});
}

class VaeCommandTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new test::TempFolder();
    test::save_tiny_vae(*shared_ / "model/vae");
    // Interpolates in time with a look ahead: no stream.
    std::string ahead = test::kTinyVaeConfig;
    for (std::size_t at = 0; (at = ahead.find("repeat", at)) != std::string::npos;) {
      ahead.replace(at, 6, "linear");
    }
    test::save_tiny_vae(*shared_ / "ahead", 3, ahead);
    test::write_clip(*shared_ / "six.mkv", 6, 40, 24);
    const auto rgb = test::clip_frame(2, 19, 13);
    io::write_png(*shared_ / "p.png", {.width = 19, .height = 13, .channels = 3, .pixels = rgb});
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  static std::vector<std::string> command(const std::string& name,
                                          const std::vector<std::string>& arguments) {
    std::vector<std::string> full = {kProgram, "vae", name};
    full.insert(full.end(), arguments.begin(), arguments.end());
    for (const char* common : {"--vae", "", "--threads", "1"}) {
      full.emplace_back(*common == '\0' ? *shared_ / "model/vae" : std::string(common));
    }
    return full;
  }
  static ProcessResult vae(const std::string& name, const std::vector<std::string>& arguments) {
    return test::run_process(command(name, arguments));
  }
  static std::string bytes(const std::string& path) { return read_file(path, 1 << 26, "test"); }
  std::string six() const { return *shared_ / "six.mkv"; }

  static inline test::TempFolder* shared_ = nullptr;
  test::TempFolder folder_;
};

TEST_F(VaeCommandTest, RoundtripKeepsCountSizeAndRate) {
  for (const int frames : {1, 6, 17}) {
    const std::string clip = folder_ / "c.mkv";
    test::write_clip(clip, frames, 40, 24, {12, 1});
    const ProcessResult result =
        vae("roundtrip",
            {clip, "-o", folder_ / "back.mp4", "--compare", folder_ / "both.mp4", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const test::ClipContent back = test::read_clip(folder_ / "back.mp4");
    EXPECT_EQ(back.frames, frames);
    EXPECT_EQ(back.width, 40);
    EXPECT_EQ(back.height, 24);
    EXPECT_NEAR(back.fps, 12, 1e-6);
    const test::ClipContent both = test::read_clip(folder_ / "both.mp4");
    EXPECT_EQ(both.frames, frames);
    EXPECT_EQ(both.width, 80);
    const Json json = json_of(result.out);
    EXPECT_EQ(json["format"], "kinema-roundtrip-1");
    EXPECT_EQ(json["frames"], frames);
    EXPECT_EQ(json["padded_frames"], (4 - (frames - 1) % 4) % 4);
    EXPECT_EQ(json["psnr_db"]["frames"].size(), static_cast<std::size_t>(frames));
    EXPECT_LE(json["ssim"]["min"], json["ssim"]["mean"]);
  }
}

TEST_F(VaeCommandTest, CompareShowsTheOriginalOnTheLeft) {
  const ProcessResult result = vae("roundtrip", {six(), "--compare", folder_ / "both.mkv"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const test::ClipContent both = test::read_clip(folder_ / "both.mkv");
  EXPECT_EQ(both.blue, test::read_clip(six()).blue);
  EXPECT_EQ(folder_.names().size(), 1U);
}

TEST_F(VaeCommandTest, AnImageComesBackAsAnImage) {
  const ProcessResult result = vae(
      "roundtrip", {*shared_ / "p.png", "-o", folder_ / "q.png", "--report", folder_ / "r.json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("filled   to 24 x 16, cut again"));
  const io::Image back = io::read_image(folder_ / "q.png");
  EXPECT_EQ(back.width, 19);
  EXPECT_EQ(back.height, 13);
  const Json report = json_of(bytes(folder_ / "r.json"));
  EXPECT_TRUE(report["source"]["image"].get<bool>());
  EXPECT_EQ(report["padded_size"], Json::parse("[24,16]"));
  const ProcessResult video = vae("roundtrip", {six(), "-o", folder_ / "v.png"});
  EXPECT_EQ(video.exit_code, 2);
  EXPECT_THAT(video.err, HasSubstr("output.one_picture"));
}

TEST_F(VaeCommandTest, FormatsSizesAndRates) {
  for (const char* name : {"a.gif", "a.y4m"}) {
    const ProcessResult result = vae("roundtrip", {six(), "-o", folder_ / name});
    ASSERT_EQ(result.exit_code, 0) << name << result.err;
    EXPECT_EQ(test::read_clip(folder_ / name).frames, 6) << name;
  }
  ASSERT_EQ(vae("roundtrip", {six(), "-o", folder_ / "frames/"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "frames/frame_000005.png"));
  EXPECT_FALSE(fs::exists(folder_ / "frames/frame_000006.png"));
  ASSERT_EQ(vae("roundtrip",
                {six(), "-o", folder_ / "s.mp4", "--size", "16x16", "--fps", "4", "--frames", "2"})
                .exit_code,
            0);
  // MP4 wants even sides; a video of odd ones is not refused for that.
  const ProcessResult odd =
      vae("roundtrip", {six(), "-o", folder_ / "odd.mp4", "--size", "15x13", "--frames", "1"});
  ASSERT_EQ(odd.exit_code, 0) << odd.err;
  EXPECT_THAT(odd.err, HasSubstr("15 x 13 is written as 16 x 14"));
  EXPECT_EQ(test::read_clip(folder_ / "odd.mp4").width, 16);
  const test::ClipContent small = test::read_clip(folder_ / "s.mp4");
  EXPECT_EQ(small.frames, 2);
  EXPECT_EQ(small.width, 16);
  EXPECT_NEAR(small.fps, 4, 1e-6);
}

TEST_F(VaeCommandTest, TilesAndOtherModesWork) {
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--tile", "16"},
        {"--tile", "24x16", "--tile-overlap", "0.5", "--compact-state"},
        {"--mode", "whole"},
        {"--mode", "dm_paper", "--segment", "5", "--merge", "mean"},
        {"--dtype", "bf16"}}) {
    std::vector<std::string> arguments = {six(), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = vae("roundtrip", arguments);
    ASSERT_EQ(result.exit_code, 0) << more.front() << result.err;
    EXPECT_EQ(json_of(result.out)["frames"], 6);
  }
}

TEST_F(VaeCommandTest, SeamsAreMeasured) {
  const ProcessResult result = vae("seam", {six(), "--report", folder_ / "s.json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("seams    1 of them"));
  const Json seam = json_of(bytes(folder_ / "s.json"))["seam"];
  EXPECT_EQ(seam["seams"], Json::parse("[4]"));
  EXPECT_GT(seam["max_abs_latent"], 0.0);
  const ProcessResult same =
      vae("roundtrip", {six(), "--mode", "dm_paper", "--against-exact", "--json"});
  EXPECT_EQ(json_of(same.out)["seam"]["max_abs_latent"], seam["max_abs_latent"]);
}

TEST_F(VaeCommandTest, StandardOutputIsTheVideo) {
  const ProcessResult result =
      test::run_process(command("roundtrip", {six(), "-o", "-"}), folder_ / "out.y4m");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(test::read_clip(folder_ / "out.y4m").frames, 6);
}

TEST_F(VaeCommandTest, EncodesAndDecodes) {
  const std::string file = folder_ / "six.safetensors";
  const ProcessResult encoded = vae("encode", {six(), "-o", file, "--json"});
  ASSERT_EQ(encoded.exit_code, 0) << encoded.err;
  EXPECT_EQ(json_of(encoded.out)["frames"], 6);
  EXPECT_EQ(io::SafetensorsFile::open(file).tensors().at("mean_BCTHW").shape,
            (io::Shape{1, 4, 3, 3, 5}));
  const ProcessResult decoded = vae("decode", {file, "-o", folder_ / "back.mkv", "--json"});
  ASSERT_EQ(decoded.exit_code, 0) << decoded.err;
  const test::ClipContent back = test::read_clip(folder_ / "back.mkv");
  EXPECT_EQ(back.frames, 6);
  EXPECT_EQ(back.width, 40);
  EXPECT_NEAR(back.fps, 8, 1e-6);
  ASSERT_EQ(vae("decode", {file, "-o", folder_ / "a.mkv", "--sample", "--seed", "3"}).exit_code, 0);
  ASSERT_EQ(vae("decode", {file, "-o", folder_ / "b.mkv", "--sample", "--seed", "3"}).exit_code, 0);
  EXPECT_EQ(bytes(folder_ / "a.mkv"), bytes(folder_ / "b.mkv"));
  EXPECT_NE(bytes(folder_ / "a.mkv"), bytes(folder_ / "back.mkv"));
  ASSERT_EQ(vae("decode", {file, "-o", folder_ / "f/"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "f/frame_000005.png"));
}

TEST_F(VaeCommandTest, KilledAndRunAgainGivesTheSameBytes) {
  fs::create_directories(folder_ / "in");
  std::vector<std::string> names;
  for (int i = 0; i < 9; ++i) {
    names.push_back("c" + std::to_string(i) + ".mkv");
    test::write_clip(folder_ / ("in/" + names.back()), 9 + i % 5, 64, 64);
  }
  const auto arguments = [&](const std::string& output) {
    return std::vector<std::string>{folder_ / "in", "-o", output, "--clip-frames", "5"};
  };
  ASSERT_EQ(vae("encode", arguments(folder_ / "whole")).exit_code, 0);
  const std::string cut = folder_ / "cut";
  int killed = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto words = command("encode", arguments(cut));
    const pid_t child = ::fork();
    if (child == 0) {
      std::vector<char*> raw;
      for (const auto& word : words) {
        raw.push_back(const_cast<char*>(word.c_str()));
      }
      raw.push_back(nullptr);
      ::close(1);
      ::close(2);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    // One more file than before, then whatever is in hand.
    const std::string next =
        cut + "/" + names[static_cast<std::size_t>(2 * attempt + 1)] + ".safetensors";
    for (int i = 0; i < 4000 && !fs::exists(next); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
    for (const auto& name : names) {
      if (fs::exists(cut + "/" + name + ".safetensors")) {
        EXPECT_EQ(bytes(cut + "/" + name + ".safetensors"),
                  bytes(folder_ / ("whole/" + name + ".safetensors")))
            << "whole under its final name";
      }
    }
  }
  EXPECT_GT(killed, 0);
  const ProcessResult last = vae("encode", [&] {
    auto words = arguments(cut);
    words.emplace_back("--json");
    return words;
  }());
  ASSERT_EQ(last.exit_code, 0) << last.err;
  const Json summary = json_of(last.out);
  EXPECT_GT(summary["already_done"], 0);
  EXPECT_EQ(summary["already_done"].get<int>() + summary["encoded"].get<int>(), 9);
  for (const auto& name : names) {
    EXPECT_EQ(bytes(cut + "/" + name + ".safetensors"),
              bytes(folder_ / ("whole/" + name + ".safetensors")));
  }
  EXPECT_EQ(bytes(cut + "/latents.jsonl"), bytes(folder_ / "whole/latents.jsonl"));
  EXPECT_EQ(std::distance(fs::directory_iterator(cut), {}), 10) << "no part file stays";
}

TEST_F(VaeCommandTest, BadSourcesAreListedAndTheOthersDone) {
  write_file(folder_ / "bad.mkv", std::string(300, 'x'));
  write_file(folder_ / "list.txt", "bad.mkv\n" + six() + "\nnone.mkv\n");
  const ProcessResult result =
      vae("encode", {"--manifest", folder_ / "list.txt", "-o", folder_ / "cache", "--json"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(json_of(result.out)["error"]["code"], "encode.failed");
  EXPECT_THAT(result.err, HasSubstr("bad.mkv"));
  EXPECT_THAT(result.err, HasSubstr("none.mkv"));
  EXPECT_TRUE(fs::exists(folder_ / "cache/six.mkv.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "cache/bad.mkv.safetensors"));
}

TEST_F(VaeCommandTest, ADryRunTellsAndWritesNothing) {
  const std::string out = folder_ / "a.mp4";
  const ProcessResult roundtrip = vae("roundtrip", {six(), "-o", out, "--dry-run", "--json"});
  ASSERT_EQ(roundtrip.exit_code, 0) << roundtrip.err;
  const Json plan = json_of(roundtrip.out);
  EXPECT_GT(plan["memory"]["peak_bytes"], 1'000'000);
  EXPECT_GT(plan["memory"]["available_bytes"], 0);
  EXPECT_EQ(plan["expected_frames"], 6);
  const ProcessResult encode =
      vae("encode", {six(), "-o", folder_ / "cache", "--dry-run", "--json"});
  ASSERT_EQ(encode.exit_code, 0) << encode.err;
  EXPECT_EQ(json_of(encode.out)["sources"], 1);
  EXPECT_EQ(folder_.names().size(), 0U);
}

TEST_F(VaeCommandTest, WhatCannotFitIsRefusedBeforeWork) {
  // A whole clip of 16384 x 16384 pixels needs more memory than any machine has.
  const std::vector<std::string> huge = {
      six(), "--size", "16384x16384", "--mode", "whole", "--dtype", "fp32"};
  const ProcessResult result = vae("roundtrip", huge);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_THAT(result.err, HasSubstr("memory.plan"));
  EXPECT_THAT(result.err, HasSubstr("--mode stream"));
}

TEST_F(VaeCommandTest, MistakesHaveTheirExitCodes) {
  const std::string out = folder_ / "o.mp4";
  write_file(folder_ / "text.mp4", "not a video, whatever its name says, and rather long");
  const auto expect = [&](const std::string& name,
                          const std::vector<std::string>& arguments,
                          int exit_code,
                          const std::string& text) {
    const ProcessResult result = vae(name, arguments);
    EXPECT_EQ(result.exit_code, exit_code) << text << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_FALSE(fs::exists(out));
  };
  expect("roundtrip", {folder_ / "none.mp4", "-o", out}, 3, "none.mp4");
  expect("roundtrip", {folder_ / "text.mp4", "-o", out}, 3, "text.mp4");
  expect("roundtrip", {folder_.path(), "-o", out}, 2, "a file");
  expect("roundtrip", {six(), "-o", folder_ / "no/o.mp4"}, 2, "no folder");
  expect("roundtrip", {six(), "-o", folder_ / "o.doc"}, 2, "o.doc");
  expect("roundtrip", {six(), "-o", "-", "--json"}, 2, "both");
  expect("roundtrip", {six(), "--mode", "magic"}, 2, "stream, whole or dm_paper");
  expect("roundtrip", {six(), "--against-exact"}, 2, "dm_paper");
  expect("roundtrip", {six(), "--mode", "dm_paper", "--segment", "6"}, 2, "vae.segments");
  expect("roundtrip", {six(), "--tile", "13"}, 2, "vae.tiling");
  expect("roundtrip", {six(), "--tile", "wide"}, 2, "--tile");
  expect("roundtrip", {six(), "--size", "16"}, 2, "WIDTHxHEIGHT");
  expect("encode", {"-o", folder_ / "cache"}, 2, "neither");
  expect("encode", {six(), "-o", folder_ / "cache", "--store", "fp8"}, 2, "bf16 or fp32");
  expect("encode", {six(), "-o", six() + "/cache"}, 2, "output.unwritable");
  expect("decode", {six(), "-o", out}, 3, "safetensors.");
  expect("decode", {*shared_ / "model/vae/model.safetensors", "-o", out}, 3, "latents.format");
  expect("decode", {folder_ / "none.safetensors", "-o", out}, 3, "none.safetensors");
}

TEST_F(VaeCommandTest, ModelsAreFoundOrMissed) {
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {kProgram, "vae", "roundtrip", six(), "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return test::run_process(words);
  };
  EXPECT_EQ(run({"--model", *shared_ / "model"}).exit_code, 0);
  EXPECT_EQ(run({"--vae", *shared_ / "model"}).exit_code, 0) << "the model folder will do";
  EXPECT_EQ(run({}).exit_code, 2);
  EXPECT_EQ(run({"--vae", "a", "--model", "b"}).exit_code, 2);
  EXPECT_EQ(run({"--vae", folder_ / "none"}).exit_code, 3);
  const ProcessResult wrong = run({"--vae", folder_.path()});
  EXPECT_EQ(wrong.exit_code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("config.json"));
  const ProcessResult itself = run({"--model", *shared_ / "model/vae"});
  EXPECT_EQ(itself.exit_code, 3);
  EXPECT_THAT(itself.err, HasSubstr("--vae"));
  const ProcessResult ahead = run({"--vae", *shared_ / "ahead"});
  EXPECT_EQ(ahead.exit_code, 2);
  EXPECT_THAT(ahead.err, HasSubstr("--mode whole"));
  EXPECT_EQ(run({"--vae", *shared_ / "ahead", "--mode", "whole"}).exit_code, 0);
}

TEST_F(VaeCommandTest, AFullDiskAndAClosedPipeAreTold) {
  const auto shell = [&](const std::string& tail) {
    std::string text;
    for (const auto& word : command("roundtrip", {six(), "-o", "-"})) {
      text += "'" + word + "' ";
    }
    return test::run_process({"/bin/bash", "-c", text + tail});
  };
  const ProcessResult full = shell("> /dev/full");
  EXPECT_EQ(full.exit_code, 4) << full.err;
  EXPECT_THAT(full.err, HasSubstr("disk_full"));
  const ProcessResult closed = shell("| true; exit ${PIPESTATUS[0]}");
  EXPECT_EQ(closed.exit_code, 2) << closed.err;
  EXPECT_THAT(closed.err, HasSubstr("output.closed"));
}

TEST_F(VaeCommandTest, WorksFromAConfigFile) {
  write_file(folder_ / "k.toml",
             "threads = 1\n[vae]\nvae = \"" + (*shared_ / "model/vae") +
                 "\"\n[vae.roundtrip]\nframes = 3\n[vae.encode]\nstore = \"fp32\"\n");
  const ProcessResult result = test::run_process(
      {kProgram, "vae", "roundtrip", six(), "--json", "--config", folder_ / "k.toml"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json_of(result.out)["frames"], 3);
}

}  // namespace
}  // namespace kinema
