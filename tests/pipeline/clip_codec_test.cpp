// SPDX-License-Identifier: Apache-2.0
// Clips through autoencoders piece by piece: every count of frames, every kind of model.
#include "pipeline/clip_codec.h"

#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "pipeline/pixels.h"
#include "tests/vae/foreign_models.h"
#include "tests/vae/tiny_models.h"

namespace kinema::pipeline {
namespace {

using vae::Autoencoder;
using vae::Posterior;
using vae::testing::max_difference;
using vae::testing::random_video;

constexpr double kClose = 1e-4;

struct Encoded {
  Tensor mean;
  Tensor logvar;
  std::int64_t padding = 0;
};

Encoded encode(const Autoencoder& vae, const CodecRun& run, const Tensor& video) {
  const at::NoGradGuard no_grad;
  ClipEncoder encoder(vae, run, video.size(2));
  std::vector<Tensor> means;
  std::vector<Tensor> logvars;
  const auto keep = [&](const std::optional<Posterior>& part) {
    if (part.has_value()) {
      means.push_back(part->mean_BCTHW);
      logvars.push_back(part->logvar_BCTHW);
    }
  };
  for (std::int64_t f = 0; f < video.size(2); ++f) {
    keep(encoder.push(video.narrow(2, f, 1)));
  }
  keep(encoder.finish());
  return {at::cat(means, 2), at::cat(logvars, 2), encoder.padding()};
}

Tensor decode(const Autoencoder& vae, const CodecRun& run, const Tensor& z, std::int64_t frames) {
  const at::NoGradGuard no_grad;
  ClipDecoder decoder(vae, run, z.size(2), frames);
  std::vector<Tensor> parts;
  for (std::int64_t t = 0; t < z.size(2); ++t) {
    if (const auto part = decoder.push(z.narrow(2, t, 1))) {
      parts.push_back(*part);
    }
  }
  if (const auto part = decoder.finish()) {
    parts.push_back(*part);
  }
  return at::cat(parts, 2);
}

TEST(ClipCodecTest, EveryCountStreamsToWhatOneShotGives) {
  const auto vae = vae::testing::tiny_vid_vae();
  for (const std::int64_t frames : {1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 18}) {
    const Tensor video = random_video(frames, 16, 24);
    const Encoded streamed = encode(*vae, {}, video);
    const Posterior whole = vae->encode(video, {.frames_per_step = 0, .pad_frames = true});
    EXPECT_EQ(streamed.padding, (4 - (frames - 1) % 4) % 4) << frames;
    EXPECT_LE(max_difference(streamed.mean, whole.mean_BCTHW), kClose) << frames;
    EXPECT_LE(max_difference(streamed.logvar, whole.logvar_BCTHW), kClose) << frames;
    EXPECT_LE(max_difference(encode(*vae, {.mode = ClipMode::kWhole}, video).mean, whole.mode()),
              kClose);
    const Tensor back = decode(*vae, {}, streamed.mean, frames);
    ASSERT_EQ(back.size(2), frames);
    const Tensor reference =
        vae->decode(whole.mode(), {.latents_per_step = 0, .num_frames = frames});
    EXPECT_LE(max_difference(back, reference), kClose) << frames;
    const Tensor at_once = decode(*vae, {.mode = ClipMode::kWhole}, streamed.mean, frames);
    EXPECT_LE(max_difference(at_once, reference), kClose) << frames;
  }
}

TEST(ClipCodecTest, PaperSegmentsEqualTheWholeClipRule) {
  const auto vae = vae::testing::tiny_vid_vae();
  for (const auto merge :
       {vae::SegmentOptions::Merge::kDropFirst, vae::SegmentOptions::Merge::kMean}) {
    for (const std::int64_t segment : {5, 9}) {
      for (const std::int64_t frames : {1, 2, 5, 6, 9, 13, 14}) {
        CodecRun run{.mode = ClipMode::kPaper};
        run.segments = {segment, merge};
        const Tensor video = random_video(frames, 16, 16);
        const Tensor expected =
            vae->encode(video, {.segments = run.segments, .pad_frames = true}).mode();
        EXPECT_LE(max_difference(encode(*vae, run, video).mean, expected), kClose)
            << segment << " " << frames;
      }
    }
  }
}

TEST(ClipCodecTest, ModelsWithTheirOwnChunksGiveTheirReference) {
  for (const bool is_wan : {false, true}) {
    const auto vae = is_wan ? vae::testing::tiny_wan() : vae::testing::tiny_cogvideox();
    for (const std::int64_t frames : {1, 2, 5, 9, 10, 17, 18}) {
      const Tensor video = random_video(frames, 16, 16);
      const Encoded streamed = encode(*vae, {}, video);
      const Posterior whole = vae->encode(video, {.pad_frames = true});
      EXPECT_LE(max_difference(streamed.mean, whole.mode()), kClose) << is_wan << frames;
      const Tensor back = decode(*vae, {}, streamed.mean, frames);
      const Tensor reference = vae->decode(whole.mode(), {.num_frames = frames});
      EXPECT_LE(max_difference(back, reference), kClose) << is_wan << frames;
    }
  }
}

TEST(ClipCodecTest, MicroClipsGiveEveryCount) {
  const auto vae = vae::testing::tiny_open_sora();
  for (const std::int64_t frames : {1, 4, 17, 18, 20, 36}) {
    const Tensor video = random_video(frames, 16, 16);
    const Encoded streamed = encode(*vae, {}, video);
    const Posterior whole = vae->encode(video, {.pad_frames = true});
    EXPECT_LE(max_difference(streamed.mean, whole.mode()), kClose) << frames;
    EXPECT_EQ(decode(*vae, {}, streamed.mean, frames).size(2), frames);
  }
}

TEST(ClipCodecTest, ImageModelsTakeVideosFrameByFrame) {
  const std::string golden = KINEMA_SOURCE_DIR "/tests/golden/vae/sd_no_quant_conv_shift/";
  const auto loaded =
      Autoencoder::load({golden + "config.json", golden + "weights.safetensors"}, {});
  const Autoencoder& vae = *loaded;
  const Tensor video = random_video(6, 16, 16);
  const Encoded streamed = encode(vae, {}, video);
  EXPECT_EQ(streamed.padding, 0);
  EXPECT_EQ(streamed.mean.size(2), 6);
  EXPECT_EQ(decode(vae, {}, streamed.mean, 6).size(2), 6);
}

TEST(ClipCodecTest, ModelsThatLookAheadSayHow) {
  vae::VidVaeConfig config = vae::testing::tiny_config();
  config.time_up = {
      vae::TimeUp::kNone, vae::TimeUp::kNone, vae::TimeUp::kLinear, vae::TimeUp::kLinear};
  const auto vae = vae::testing::tiny_vid_vae(config);
  for (const auto mode : {ClipMode::kStream, ClipMode::kPaper}) {
    try {
      const ClipEncoder encoder(*vae, {.mode = mode});
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      EXPECT_EQ(error.code(), mode == ClipMode::kStream ? "vae.stream" : "vae.segments");
    }
  }
  const Tensor video = random_video(6, 16, 16);
  const Encoded whole = encode(*vae, {.mode = ClipMode::kWhole}, video);
  EXPECT_EQ(decode(*vae, {.mode = ClipMode::kWhole}, whole.mean, 6).size(2), 6);
}

TEST(ClipCodecTest, SegmentsMustBeLegal) {
  const auto vae = vae::testing::tiny_vid_vae();
  for (const std::int64_t segment : {4, 6}) {
    CodecRun run{.mode = ClipMode::kPaper};
    run.segments.frames = segment;
    EXPECT_THROW(ClipEncoder(*vae, run), Error) << segment;
  }
}

TEST(PixelsTest, EdgesAreRepeatedAndCutAgain) {
  const Tensor frame = at::randint(0, 256, {5, 11, 3}, at::kByte);
  const Tensor pixels = pixels_from_frame(frame, 8);
  ASSERT_EQ(pixels.sizes(), (std::vector<std::int64_t>{1, 3, 1, 8, 16}));
  EXPECT_TRUE(at::equal(pixels.select(3, 7), pixels.select(3, 4)));
  EXPECT_TRUE(at::equal(pixels.select(4, 15), pixels.select(4, 10)));
  EXPECT_TRUE(at::equal(frames_from_pixels(pixels, 5, 11)[0], frame));
}

}  // namespace
}  // namespace kinema::pipeline
