// SPDX-License-Identifier: Apache-2.0
// There and back: as many frames as went in, at their size, measured right, with flat memory.
#include "pipeline/vae_roundtrip.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "pipeline/pixels.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_clips.h"
#include "tests/vae/foreign_models.h"
#include "tests/vae/tiny_models.h"

namespace kinema::pipeline {
namespace {

struct Collected {
  std::vector<Tensor> output;
  std::vector<Tensor> originals;
  RoundtripReport report;
};

Collected run(const vae::Autoencoder& vae,
              const std::string& path,
              RoundtripOptions options = {},
              const ClipOptions& clip = {}) {
  const auto source = ClipSource::open(path, clip);
  Collected result;
  if (needs_length(vae.info())) {
    options.num_frames = count_frames(path, clip);
  }
  result.report =
      roundtrip(vae,
                *source,
                options,
                {.output = [&](const Tensor& frame) { result.output.push_back(frame); },
                 .compare = [&](const Tensor& original,
                                const Tensor&) { result.originals.push_back(original); }},
                null_progress());
  return result;
}

/// All frames of a file as pixels [1, 3, F, H, W].
Tensor pixels_of(const std::string& path) {
  const auto source = ClipSource::open(path);
  std::vector<Tensor> frames;
  while (const auto frame = source->next()) {
    frames.push_back(pixels_from_frame(*frame));
  }
  return at::cat(frames, 2);
}

TEST(RoundtripTest, AsManyFramesAndPixelsComeBack) {
  const test::TempFolder folder;
  const auto vae = vae::testing::tiny_vid_vae();
  for (const std::int64_t frames : {1, 2, 5, 17, 18}) {
    const std::string path = folder / ("c" + std::to_string(frames) + ".mkv");
    test::write_clip(path, frames, 37, 29);
    const Collected result = run(*vae, path);
    ASSERT_EQ(std::ssize(result.output), frames);
    ASSERT_EQ(std::ssize(result.originals), frames);
    for (std::int64_t k = 0; k < frames; ++k) {
      const auto at = static_cast<std::size_t>(k);
      EXPECT_EQ(result.output[at].sizes(), (std::vector<std::int64_t>{29, 37, 3}));
      EXPECT_EQ(result.originals[at].index({0, 0, 2}).item<int>(), 10 * k) << "in order";
      const PictureQuality quality = compare_pictures(result.originals[at], result.output[at]);
      EXPECT_EQ(result.report.psnr_db.values[at], quality.psnr_db);
      EXPECT_EQ(result.report.ssim.values[at], quality.ssim);
    }
    EXPECT_EQ(result.report.frames, frames);
    EXPECT_EQ(result.report.padded_frames, (4 - (frames - 1) % 4) % 4);
    EXPECT_EQ(result.report.padded_width, 40);
    EXPECT_EQ(result.report.padded_height, 32);
    EXPECT_EQ(result.report.latent_frames, 1 + (frames + 2) / 4);
  }
}

TEST(RoundtripTest, FramesEqualEncodingAndDecodingTheWholeClip) {
  const test::TempFolder folder;
  const std::string path = folder / "c.mkv";
  test::write_clip(path, 13, 24, 16);
  const auto vae = vae::testing::tiny_vid_vae();
  const Tensor expected =
      frames_from_pixels(vae->decode(vae->encode(pixels_of(path)).mode()), 16, 24);
  for (const auto mode : {ClipMode::kStream, ClipMode::kWhole}) {
    const Collected result = run(*vae, path, {.run = {.mode = mode}});
    const Tensor difference = at::stack(result.output).to(at::kInt) - expected.to(at::kInt);
    EXPECT_LE(difference.abs().max().item<int>(), 1) << "one step of rounding at most";
  }
}

TEST(RoundtripTest, ModelsOfFixedChunksGiveEveryCount) {
  const test::TempFolder folder;
  const auto cogvideox = vae::testing::tiny_cogvideox();
  const auto open_sora = vae::testing::tiny_open_sora();
  for (const std::int64_t frames : {1, 2, 10, 18}) {
    const std::string path = folder / ("c" + std::to_string(frames) + ".mkv");
    test::write_clip(path, frames, 16, 16);
    EXPECT_EQ(run(*cogvideox, path).report.frames, frames);
    EXPECT_EQ(run(*open_sora, path).report.frames, frames);
  }
}

TEST(RoundtripTest, SeamsEqualTheMeasureOnTheWholeClip) {
  const test::TempFolder folder;
  const std::string path = folder / "c.mkv";
  test::write_clip(path, 17, 16, 16);
  const auto vae = vae::testing::tiny_vid_vae();
  for (const std::int64_t segment : {5, 9}) {
    RoundtripOptions options{.run = {.mode = ClipMode::kPaper}, .against_exact = true};
    options.run.segments.frames = segment;
    const SeamReport seam = *run(*vae, path, options).report.seam;
    const vae::SeamError expected =
        vae::measure_seam_error(*vae, pixels_of(path), options.run.segments);
    EXPECT_NEAR(seam.max_abs_latent, expected.max_abs_latent, 1e-4);
    EXPECT_GT(seam.max_abs_latent, 1e-3) << "the rule is an approximation";
    ASSERT_EQ(seam.seam_psnr_db.size(), expected.seam_psnr_db.size());
    for (std::size_t i = 0; i < expected.seam_psnr_db.size(); ++i) {
      EXPECT_NEAR(seam.seam_psnr_db[i], expected.seam_psnr_db[i], 0.05) << i;
    }
    EXPECT_EQ(seam.frame_psnr_db.values.front(), kMaxPsnr) << "the first segment is exact";
    EXPECT_EQ(seam.exact_psnr_db.values.size(), 17U);
  }
}

TEST(RoundtripTest, MemoryIsThatOfAFewFrames) {
  const test::TempFolder folder;
  const auto vae = vae::testing::tiny_vid_vae();
  const auto peak = [&](std::int64_t frames) {
    const std::string path = folder / ("c" + std::to_string(frames) + ".mkv");
    test::write_clip(path, frames, 64, 64);
    const auto source = ClipSource::open(path);
    const vae::testing::CountingAllocator counter;
    EXPECT_EQ(roundtrip(*vae, *source, {}, {}, null_progress()).frames, frames);
    return static_cast<double>(counter.peak_bytes());
  };
  const double few = peak(17);
  EXPECT_GT(few, 1e5);
  EXPECT_LE(peak(61), 1.02 * few);
}

TEST(RoundtripTest, SideBySideIsEven) {
  const Tensor a = at::zeros({5, 7, 3}, at::kByte);
  const Tensor both = side_by_side(a, a + 9);
  EXPECT_EQ(both.sizes(), (std::vector<std::int64_t>{6, 14, 3}));
  EXPECT_EQ(both.index({5, 6, 0}).item<int>(), 0);
  EXPECT_EQ(both.index({5, 7, 0}).item<int>(), 9);
}

}  // namespace
}  // namespace kinema::pipeline
