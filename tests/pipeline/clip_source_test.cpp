// SPDX-License-Identifier: Apache-2.0
// Frames of files: which ones, when, how large.
#include "pipeline/clip_source.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/image.h"
#include "pipeline/frame_sink.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_clips.h"

namespace kinema::pipeline {
namespace {

using testing::ElementsAre;

/// Numbers of the frames that come out.
std::vector<int> numbers(const std::string& path, const ClipOptions& options) {
  const auto source = ClipSource::open(path, options);
  std::vector<int> result;
  while (const auto frame = source->next()) {
    EXPECT_EQ(frame->size(1), source->facts().width);
    EXPECT_EQ(frame->size(0), source->facts().height);
    result.push_back(frame->index({0, 0, 2}).item<int>() / 10);
  }
  EXPECT_EQ(source->facts().frames, std::ssize(result));
  return result;
}

class ClipSourceTest : public testing::Test {
 protected:
  ClipSourceTest() : path_(folder_ / "ten.mkv") { test::write_clip(path_, 10, 24, 16, {10, 1}); }
  test::TempFolder folder_;
  std::string path_;
};

TEST_F(ClipSourceTest, GivesEveryFrameOrTheFirst) {
  EXPECT_THAT(numbers(path_, {}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(numbers(path_, {.max_frames = 3}), ElementsAre(0, 1, 2));
  EXPECT_EQ(count_frames(path_), 10);
  const auto source = ClipSource::open(path_);
  EXPECT_EQ(source->facts().fps, (media::Rational{10, 1}));
  EXPECT_EQ(source->facts().expected_frames, 10);
}

TEST_F(ClipSourceTest, ResamplesInTime) {
  EXPECT_THAT(numbers(path_, {.fps = 10}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(numbers(path_, {.fps = 5}), ElementsAre(0, 2, 4, 6, 8));
  EXPECT_THAT(numbers(path_, {.fps = 4}), ElementsAre(0, 2, 5, 7));
  EXPECT_THAT(numbers(path_, {.fps = 20, .max_frames = 7}), ElementsAre(0, 0, 1, 1, 2, 2, 3));
  EXPECT_EQ(numbers(path_, {.fps = 20}).size(), 20U);
  EXPECT_THAT(numbers(path_, {.fps = 0.5}), ElementsAre(0));
}

TEST_F(ClipSourceTest, ScalesUntilItCoversAndCutsTheCentre) {
  const auto source = ClipSource::open(path_, {.width = 16, .height = 16});
  const Tensor frame = *source->next();
  EXPECT_EQ(frame.size(0), 16);
  EXPECT_EQ(frame.size(1), 16);
  // 24 x 16 covers 16 x 16 as it is; four columns are cut on each side.
  const auto whole = ClipSource::open(path_);
  EXPECT_TRUE(at::equal(frame, whole->next()->narrow(1, 4, 16)));
  const auto half = ClipSource::open(path_, {.width = 12, .height = 8});
  const Tensor small = half->next()->to(at::kFloat).select(2, 0);
  EXPECT_LT(small.select(1, 0).mean().item<float>(), small.select(1, 11).mean().item<float>());
}

TEST_F(ClipSourceTest, PicturesAreClipsOfOneFrame) {
  const auto rgb = test::clip_frame(3, 9, 7);
  io::write_png(folder_ / "p.png", {.width = 9, .height = 7, .channels = 3, .pixels = rgb});
  EXPECT_TRUE(is_still_picture(folder_ / "p.png"));
  EXPECT_FALSE(is_still_picture(path_));
  EXPECT_FALSE(is_still_picture(folder_ / "none.png"));
  EXPECT_THAT(numbers(folder_ / "p.png", {}), ElementsAre(3));
}

TEST_F(ClipSourceTest, WhatCannotBeReadIsAnError) {
  write_file(folder_ / "text.mp4", "no video at all, only words that go on and on");
  EXPECT_THROW(static_cast<void>(ClipSource::open(folder_ / "text.mp4")), Error);
  EXPECT_THROW(static_cast<void>(ClipSource::open(folder_ / "none.mp4")), Error);
  EXPECT_THROW(static_cast<void>(ClipSource::open(path_, {.width = 16})), Error);
}

TEST_F(ClipSourceTest, ACutFileGivesWhatIsThereAndSaysSo) {
  const std::string all = read_file(path_, 1 << 26, "test");
  write_file(folder_ / "cut.mkv", all.substr(0, all.size() / 2));
  const auto source = ClipSource::open(folder_ / "cut.mkv");
  std::int64_t frames = 0;
  while (source->next()) {
    ++frames;
  }
  EXPECT_GT(frames, 0);
  EXPECT_LT(frames, 10);
}

TEST(FrameSinkTest, OnePictureTakesOneFrame) {
  const test::TempFolder folder;
  const Tensor frame = at::full({6, 8, 3}, 9, at::kByte);
  FrameSink sink(folder / "a.png", {.width = 8, .height = 6});
  sink.add(frame);
  EXPECT_EQ(sink.finish().frames, 1);
  EXPECT_EQ(io::read_image(folder / "a.png").width, 8);
  FrameSink twice(folder / "b.png", {.width = 8, .height = 6});
  twice.add(frame);
  EXPECT_THROW(twice.add(frame), Error);
  EXPECT_THROW(FrameSink::validate(folder / "b.png", {.width = 8, .height = 6}, 2), Error);
  FrameSink odd(folder / "odd.mp4", {.width = 7, .height = 5});
  odd.add(at::full({5, 7, 3}, 9, at::kByte));
  odd.finish();
  EXPECT_EQ(test::read_clip(folder / "odd.mp4").width, 8);
  EXPECT_EQ(test::read_clip(folder / "odd.mp4").height, 6);
  EXPECT_THROW(FrameSink::validate(folder / "no/b.png", {.width = 8, .height = 6}, 1), Error);
}

}  // namespace
}  // namespace kinema::pipeline
