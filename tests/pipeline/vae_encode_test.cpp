// SPDX-License-Identifier: Apache-2.0
// Caches of latents: names, captions, clips, going on, and sources that cannot be encoded.
#include "pipeline/vae_encode.h"

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "pipeline/pixels.h"
#include "pipeline/vae_decode.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_clips.h"
#include "tests/vae/tiny_models.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class VaeEncodeTest : public testing::Test {
 protected:
  VaeEncodeTest() : vae_(vae::testing::tiny_vid_vae()) {
    settings_.dtype = io::DType::kF32;
    settings_.autoencoder_hash = "abc";
  }

  EncodeSummary encode(const std::vector<EncodeJob>& jobs) {
    return encode_files(*vae_, jobs, settings_, null_progress(), null_logger());
  }
  EncodeSummary encode(const EncodeInputs& inputs) {
    return encode(collect_jobs(inputs, folder_ / "cache"));
  }
  std::string code_of(const EncodeInputs& inputs, const std::string& output) const {
    try {
      static_cast<void>(collect_jobs(inputs, output));
    } catch (const Error& error) {
      return error.code();
    }
    return "";
  }
  Tensor clip_pixels(const std::string& path, std::int64_t first, std::int64_t count) const {
    const auto source = ClipSource::open(path);
    std::vector<Tensor> frames;
    while (const auto frame = source->next()) {
      frames.push_back(pixels_from_frame(*frame, 8));
    }
    return at::cat(frames, 2).narrow(2, first, count);
  }

  test::TempFolder folder_;
  std::unique_ptr<vae::Autoencoder> vae_;
  EncodeSettings settings_;
};

TEST_F(VaeEncodeTest, AFileHoldsThePosteriorAndItsFacts) {
  const std::string clip = folder_ / "a.mkv";
  test::write_clip(clip, 6, 20, 16, {24000, 1001});
  ASSERT_EQ(encode({.paths = {clip}}).encoded, 1);
  const LatentFile file = LatentFile::open(folder_ / "cache/a.mkv.safetensors");
  const vae::Posterior expected = vae_->encode(clip_pixels(clip, 0, 6), {.pad_frames = true});
  EXPECT_LE(vae::testing::max_difference(file.read(0, 0, 3).mean_BCTHW, expected.mean_BCTHW), 1e-4);
  EXPECT_LE(vae::testing::max_difference(file.read(0, 0, 3).logvar_BCTHW, expected.logvar_BCTHW),
            1e-4);
  const LatentFacts& facts = file.facts();
  EXPECT_EQ(facts.frames, 6);
  EXPECT_EQ(facts.width, 20);
  EXPECT_EQ(facts.fps, (media::Rational{24000, 1001}));
  EXPECT_EQ(facts.source, SourceStamp::of(clip));
  EXPECT_EQ(facts.settings["autoencoder"], "abc");
  EXPECT_EQ(facts.autoencoder["family"], "vidvae");
}

TEST_F(VaeEncodeTest, CutsIntoClipsAndDropsTheRest) {
  const std::string clip = folder_ / "a.mkv";
  test::write_clip(clip, 13, 16, 16);
  test::write_clip(folder_ / "short.mkv", 3, 16, 16);
  settings_.clip_frames = 5;
  const EncodeSummary summary = encode({.paths = {clip, folder_ / "short.mkv"}});
  EXPECT_EQ(summary.encoded, 1);
  EXPECT_EQ(summary.clips, 2);
  EXPECT_EQ(summary.frames, 10);
  EXPECT_EQ(summary.dropped_frames, 3);
  EXPECT_THAT(summary.too_short, ElementsAre(folder_ / "short.mkv"));
  const LatentFile file = LatentFile::open(folder_ / "cache/a.mkv.safetensors");
  ASSERT_EQ(file.clips(), 2);
  EXPECT_EQ(file.facts().frames, 5);
  EXPECT_EQ(file.facts().dropped_frames, 3);
  const Tensor second = vae_->encode(clip_pixels(clip, 5, 5)).mode();
  EXPECT_LE(vae::testing::max_difference(file.read(1, 0, 2).mean_BCTHW, second), 1e-4);
}

TEST_F(VaeEncodeTest, DecodesToWhatWasEncoded) {
  const std::string clip = folder_ / "a.mkv";
  test::write_clip(clip, 6, 20, 16);
  encode({.paths = {clip}});
  const LatentFile file = LatentFile::open(folder_ / "cache/a.mkv.safetensors");
  const auto decode = [&](const DecodeRequest& request) {
    std::vector<Tensor> frames;
    decode_latents(
        *vae_, file, request, [&](const Tensor& f) { frames.push_back(f); }, null_progress());
    return at::stack(frames);
  };
  const auto worst = [](const Tensor& a, const Tensor& b) {
    return (a.to(at::kInt) - b.to(at::kInt)).abs().max().item<int>();
  };
  const Tensor mean = decode({});
  EXPECT_EQ(mean.sizes(), (std::vector<std::int64_t>{6, 16, 20, 3}));
  const Tensor expected = frames_from_pixels(
      vae_->decode(vae_->encode(clip_pixels(clip, 0, 6), {.pad_frames = true}).mode(),
                   {.num_frames = 6}),
      16,
      20);
  EXPECT_LE(worst(mean, expected), 1);
  EXPECT_LE(worst(decode({.run = {.mode = ClipMode::kWhole}}), expected), 1);
  const Tensor sample = decode({.sample = true, .seed = 4});
  EXPECT_TRUE(at::equal(sample, decode({.sample = true, .seed = 4})));
  EXPECT_FALSE(at::equal(sample, decode({.sample = true, .seed = 5})));
  EXPECT_FALSE(at::equal(sample, mean));
  EXPECT_LE(worst(sample, decode({.run = {.mode = ClipMode::kWhole}, .sample = true, .seed = 4})),
            1)
      << "noise does not depend on how the clip is run";
}

TEST_F(VaeEncodeTest, LatentsOfAnotherModelAreRefused) {
  test::write_clip(folder_ / "a.mkv", 1, 16, 16);
  encode({.paths = {folder_ / "a.mkv"}});
  const LatentFile file = LatentFile::open(folder_ / "cache/a.mkv.safetensors");
  vae::VidVaeConfig config = vae::testing::tiny_config();
  config.latent_channels = 8;
  config.scale.assign(8, 1.0);
  config.shift.assign(8, 0.0);
  EXPECT_THROW(check_fit(*vae::testing::tiny_vid_vae(config), file, {}), Error);
  EXPECT_THROW(check_fit(*vae_, file, {.clip = 1}), Error);
}

TEST_F(VaeEncodeTest, FoldersAndListsGiveNames) {
  fs::create_directories(folder_ / "in/deep/.hidden");
  for (const char* name : {"in/b.mkv", "in/deep/a.mkv", "in/deep/.hidden/x.mkv"}) {
    test::write_clip(folder_ / name, 1, 16, 16);
  }
  write_file(folder_ / "in/notes.txt", "no video");
  const auto jobs = collect_jobs({.paths = {folder_ / "in"}}, "out");
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(jobs[0].output, "out/b.mkv.safetensors");
  EXPECT_EQ(jobs[1].output, "out/deep/a.mkv.safetensors");

  write_file(folder_ / "list.txt", "in/b.mkv\r\n\n../elsewhere/c.mkv\n");
  const auto listed = collect_jobs({.list = folder_ / "list.txt"}, "out");
  ASSERT_EQ(listed.size(), 2U);
  EXPECT_EQ(listed[0].source, folder_ / "in/b.mkv");
  EXPECT_EQ(listed[0].output, "out/in/b.mkv.safetensors");
  EXPECT_EQ(listed[1].output, "out/c.mkv.safetensors");
}

TEST_F(VaeEncodeTest, ManifestsCarryCaptions) {
  test::write_clip(folder_ / "a.mkv", 1, 16, 16);
  write_file(folder_ / "m.jsonl", "{\"path\":\"a.mkv\",\"caption\":\"a ramp\",\"id\":7}\n");
  const EncodeInputs inputs{.list = folder_ / "m.jsonl"};
  const auto jobs = collect_jobs(inputs, folder_ / "cache");
  const EncodeFolder cache(folder_ / "cache");
  ASSERT_EQ(encode(jobs).encoded, 1);
  const LatentFacts facts = LatentFile::open(jobs[0].output).facts();
  EXPECT_EQ(facts.caption, "a ramp");
  EXPECT_EQ(facts.extra["id"], 7);
  const std::string index = read_file(cache.write_index(jobs), 1 << 20, "test");
  const Json line =
      parse_json(index.substr(0, index.size() - 1), {.place = "test", .subject = "index"});
  EXPECT_EQ(line["path"], "a.mkv.safetensors");
  EXPECT_EQ(line["caption"], "a ramp");
  EXPECT_EQ(line["extra"]["id"], 7);
  EXPECT_EQ(line["latent_shape"], Json::parse("[4,1,2,2]"));
  write_file(folder_ / "m.jsonl", "{\"path\":\"a.mkv\",\"caption\":\"another\",\"id\":7}\n");
  EXPECT_EQ(encode(inputs).encoded, 1) << "a new caption is written";
  EXPECT_EQ(encode(inputs).already_done, 1);
}

TEST_F(VaeEncodeTest, MistakesInInputsAreToldBeforeWork) {
  test::write_clip(folder_ / "a.mkv", 1, 16, 16);
  fs::create_directories(folder_ / "in/sub");
  test::write_clip(folder_ / "in/a.mkv", 1, 16, 16);
  fs::create_directories(folder_ / "empty");
  write_file(folder_ / "bad.jsonl", "{\"path\":\"a.mkv\"}\n{\"file\":\"b.mkv\"}\n");
  const std::string a = folder_ / "a.mkv";
  EXPECT_EQ(code_of({.paths = {a, folder_ / "in/a.mkv"}}, "out"), "encode.same_name");
  EXPECT_EQ(code_of({.paths = {a, folder_ / "in"}}, "out.safetensors"), "encode.one_file");
  EXPECT_EQ(code_of({.paths = {folder_ / "none.mkv"}}, "out"), "io.open");
  EXPECT_EQ(code_of({.paths = {folder_ / "empty"}}, "out"), "encode.no_input");
  EXPECT_EQ(code_of({.list = folder_ / "bad.jsonl"}, "out"), "config.missing");
  EXPECT_EQ(code_of({.paths = {a}}, "out.safetensors"), "");
}

TEST_F(VaeEncodeTest, ASecondRunDoesOnlyWhatIsMissing) {
  for (const char* name : {"a.mkv", "b.mkv"}) {
    test::write_clip(folder_ / name, 5, 16, 16);
  }
  const EncodeInputs inputs{.paths = {folder_ / "a.mkv", folder_ / "b.mkv"}};
  EXPECT_EQ(encode(inputs).encoded, 2);
  const std::string b = folder_ / "cache/b.mkv.safetensors";
  const std::string bytes = read_file(b, 1 << 26, "test");
  fs::remove(b);
  const EncodeSummary again = encode(inputs);
  EXPECT_EQ(again.encoded, 1);
  EXPECT_EQ(again.already_done, 1);
  EXPECT_EQ(read_file(b, 1 << 26, "test"), bytes);
  test::write_clip(folder_ / "a.mkv", 9, 16, 16);
  EXPECT_EQ(encode(inputs).encoded, 1) << "the source changed";
  settings_.overwrite = true;
  EXPECT_EQ(encode(inputs).encoded, 2);
  settings_.overwrite = false;
  settings_.run.mode = ClipMode::kPaper;
  try {
    static_cast<void>(encode(inputs));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "encode.other_settings");
    EXPECT_THAT(error.what(), HasSubstr("dm_paper"));
  }
}

TEST_F(VaeEncodeTest, OneBadSourceDoesNotStopTheOthers) {
  write_file(folder_ / "bad.mkv", std::string(500, 'x'));
  test::write_clip(folder_ / "good.mkv", 5, 16, 16);
  const EncodeSummary summary = encode({.paths = {folder_ / "bad.mkv", folder_ / "good.mkv"}});
  EXPECT_EQ(summary.encoded, 1);
  ASSERT_EQ(summary.failures.size(), 1U);
  EXPECT_EQ(summary.failures[0].source, folder_ / "bad.mkv");
  EXPECT_EQ(summary.failures[0].error.exit_code(), 3);
  EXPECT_FALSE(fs::exists(folder_ / "cache/bad.mkv.safetensors"));
}

TEST_F(VaeEncodeTest, OtherFilesAreNotOverwritten) {
  test::write_clip(folder_ / "a.mkv", 1, 16, 16);
  fs::create_directories(folder_ / "cache");
  write_file(folder_ / "cache/a.mkv.safetensors", "somebody's notes");
  try {
    static_cast<void>(encode({.paths = {folder_ / "a.mkv"}}));
    FAIL() << "overwritten";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "encode.foreign_file");
    EXPECT_EQ(error.exit_code(), 2);
  }
}

TEST_F(VaeEncodeTest, OneRunAtATimeInAFolder) {
  fs::create_directories(folder_ / "cache/deep");
  write_file(folder_ / "cache/deep/.a.mkv.999999.part.safetensors", "left by a killed run");
  write_file(folder_ / "cache/.keep.safetensors", "not a part file");
  const EncodeFolder first(folder_ / "cache");
  EXPECT_FALSE(fs::exists(folder_ / "cache/deep/.a.mkv.999999.part.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "cache/.keep.safetensors"));
  try {
    const EncodeFolder second(folder_ / "cache");
    FAIL() << "two at once";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "encode.busy");
  }
}

}  // namespace
}  // namespace kinema::pipeline
