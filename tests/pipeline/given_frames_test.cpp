// SPDX-License-Identifier: Apache-2.0
// Frames that a video is given: which of them are kept, where their latents stand, and that encoded
// in pieces they are what the autoencoder makes of the whole.
#include "pipeline/given_frames.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/tensor/noise.h"
#include "tests/pipeline/tiny_model.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

/// Clips of noise, by name and length.
class Memory final : public FrameSource {
 public:
  explicit Memory(std::int64_t frames) : frames_(frames) {}
  std::int64_t count(const std::string& /*path*/) override { return frames_; }
  void read(const std::string& path,
            std::int64_t first,
            std::int64_t count,
            const ImageConsumer& consumer) override {
    for (std::int64_t i = first; i < first + count && i < available; ++i) {
      consumer(frame(path, i));
    }
  }
  static Tensor frame(const std::string& path, std::int64_t index) {
    return tensor::uniform_noise_flat({.seed = static_cast<std::uint64_t>(index), .name = path},
                                      {32, 40, 3})
        .mul(255)
        .to(at::kByte);
  }
  std::int64_t available = 1000;

 private:
  std::int64_t frames_;
};

class GivenFramesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TempFolder();
    test::save_tiny_vae(folder_->path());
    vae_ = vae::Autoencoder::load(folder_->path(), {}).release();
  }
  static void TearDownTestSuite() {
    delete vae_;
    delete folder_;
  }
  static VideoRequest request(std::int64_t frames) {
    VideoRequest request;
    request.width = 32;
    request.height = 32;
    request.frames = frames;
    return request;
  }
  static inline test::TempFolder* folder_ = nullptr;
  static inline vae::Autoencoder* vae_ = nullptr;
};

TEST_F(GivenFramesTest, TheLastFramesOfAClipAreTheBeginning) {
  const GivenPart part = plan_begin(*vae_, 12, 0);
  EXPECT_EQ(part.num_frames, 9);
  EXPECT_EQ(part.first_frame, 3);
  EXPECT_EQ(part.num_latents, 3);
  EXPECT_EQ(plan_begin(*vae_, 12, 5).first_frame, 7);
  EXPECT_EQ(plan_begin(*vae_, 1, 0).num_latents, 1);
  EXPECT_EQ(plan_begin(*vae_, 3, 0).num_frames, 1);
}

TEST_F(GivenFramesTest, TheFirstFramesOfAClipAreTheEnd) {
  const GivenPart part = plan_end(*vae_, 11, 0, 7);
  EXPECT_EQ(part.num_frames, 8);
  EXPECT_EQ(part.first_frame, 0);
  EXPECT_EQ(part.num_latents, 2);
  EXPECT_EQ(part.first_latent, 5);
  EXPECT_TRUE(part.repeats_first_frame);
  EXPECT_THROW(static_cast<void>(plan_end(*vae_, 3, 0, 7)), Error);
}

TEST_F(GivenFramesTest, EncodedInPiecesIsEncodedAtOnce) {
  VideoRequest asked = request(25);
  asked.video = "a";
  asked.end_video = "b";
  Memory source(12);
  const GivenFrames given = encode_given(asked, *vae_, source, null_progress());
  EXPECT_EQ(given.begin_frames, 9);
  EXPECT_EQ(given.end_frames, 12);
  EXPECT_TRUE(
      at::equal(given.mask_BT, at::tensor({0.F, 0.F, 0.F, 1.F, 0.F, 0.F, 0.F}).view({1, 7})));

  const auto clip = [&](const std::string& path, std::vector<std::int64_t> frames) {
    std::vector<Tensor> pixels;
    for (const std::int64_t i : frames) {
      pixels.push_back(fit_frame(Memory::frame(path, i), 32, 32).unsqueeze(1));
    }
    return vae_->to_model_space(vae_->encode(at::cat(pixels, 1).unsqueeze(0)).mode());
  };
  const Tensor begin = clip("a", {3, 4, 5, 6, 7, 8, 9, 10, 11});
  EXPECT_TRUE(at::allclose(given.latents_BCTHW.narrow(2, 0, 3), begin, 1e-4, 1e-5));
  const Tensor end = clip("b", {0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).narrow(2, 1, 3);
  EXPECT_TRUE(at::allclose(given.latents_BCTHW.narrow(2, 4, 3), end, 1e-4, 1e-5));
  EXPECT_EQ(given.latents_BCTHW.select(2, 3).abs().max().item<double>(), 0.0);
}

TEST_F(GivenFramesTest, WhatCannotBePlacedIsTold) {
  Memory source(12);
  VideoRequest full = request(9);
  full.video = "a";
  EXPECT_THROW(static_cast<void>(encode_given(full, *vae_, source, null_progress())), Error);
  VideoRequest odd = request(27);
  odd.end_video = "b";
  try {
    static_cast<void>(encode_given(odd, *vae_, source, null_progress()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.details().expected, testing::HasSubstr("29"));
  }
  source.available = 6;
  VideoRequest cut = request(25);
  cut.video = "a";
  try {
    static_cast<void>(encode_given(cut, *vae_, source, null_progress()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "request.given_short");
  }
}

TEST_F(GivenFramesTest, PicturesAreScaledToCoverAndCutAroundTheMiddle) {
  Tensor wide = at::zeros({10, 40, 3}, at::kByte);
  wide.narrow(1, 15, 10).fill_(255);
  const Tensor middle = fit_frame(wide, 20, 20);
  EXPECT_EQ(middle.sizes(), at::IntArrayRef({3, 20, 20}));
  EXPECT_GT(middle.narrow(2, 2, 16).min().item<double>(), 0.9);
  const Tensor same = fit_frame(Memory::frame("a", 0).narrow(1, 4, 32).contiguous(), 32, 32);
  const Tensor exact =
      Memory::frame("a", 0).narrow(1, 4, 32).permute({2, 0, 1}).to(at::kFloat) / 127.5 - 1;
  EXPECT_TRUE(at::allclose(same, exact, 0, 1e-6)) << "pixels of the right size stay as they are";
}

}  // namespace
}  // namespace kinema::pipeline
