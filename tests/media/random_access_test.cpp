// SPDX-License-Identifier: Apache-2.0
// Frames by number and by time against reading in order, on files whose frames carry their number.
#include <random>

#include "tests/media/media_test_support.h"

namespace kinema::media {
namespace {

void expect_same(const VideoFrame& got, const VideoFrame& wanted) {
  EXPECT_EQ(got.index, wanted.index);
  EXPECT_EQ(got.pts, wanted.pts);
  EXPECT_EQ(got.time_seconds, wanted.time_seconds);
  EXPECT_TRUE(got.rgb_HWC == wanted.rgb_HWC) << "other pixels in frame " << wanted.index;
}

void expect_exact_access(const std::string& path) {
  const std::vector<VideoFrame> frames = read_all(path);
  const auto count = static_cast<std::int64_t>(frames.size());
  VideoReader reader = VideoReader::open(path);
  EXPECT_EQ(reader.count_frames(), count);

  std::mt19937 random(7);
  std::vector<std::int64_t> order = {count - 1, 0, count / 2, count - 1 - count / 3};
  for (int i = 0; i < 20; ++i) {
    order.push_back(static_cast<std::int64_t>(random() % frames.size()));
  }
  for (const std::int64_t index : order) {
    const auto& wanted = frames[static_cast<std::size_t>(index)];
    const auto by_index = reader.read_at_index(index);
    ASSERT_TRUE(by_index) << "frame " << index;
    expect_same(*by_index, wanted);
    // Reading on gives the frame after.
    if (index + 1 < count) {
      const auto after = reader.next();
      ASSERT_TRUE(after);
      expect_same(*after, frames[static_cast<std::size_t>(index + 1)]);
    }
    // On screen from its time until the next frame's.
    const double until = index + 1 < count
                             ? frames[static_cast<std::size_t>(index + 1)].time_seconds
                             : wanted.time_seconds + 10.0;
    for (const double time : {wanted.time_seconds, (wanted.time_seconds + until) / 2.0}) {
      const auto by_time = reader.read_at_time(time);
      ASSERT_TRUE(by_time);
      expect_same(*by_time, wanted);
    }
  }
  EXPECT_FALSE(reader.read_at_index(count));
  EXPECT_FALSE(reader.seek_to_index(count + 1000));
  const auto before = reader.read_at_time(-3.0);
  ASSERT_TRUE(before);
  expect_same(*before, frames.front());
}

void expect_codes(const std::string& folder) {
  const Json truth = read_truth(folder);
  for (const Json& entry : truth["framecode"]["files"]) {
    const auto file = folder + "/" + entry["file"].get<std::string>();
    SCOPED_TRACE(file);
    const auto frames = read_all(file);
    ASSERT_EQ(static_cast<std::int64_t>(frames.size()),
              entry["frames_decoded"].get<std::int64_t>());
    const auto first = entry["first_code"].get<std::int64_t>();
    for (const VideoFrame& frame : frames) {
      EXPECT_EQ(frame_code(frame), first + frame.index);
      if (entry.contains("pts_ms")) {
        EXPECT_NEAR(frame.time_seconds * 1000.0,
                    entry["pts_ms"][static_cast<std::size_t>(frame.index)].get<double>(),
                    0.501);
      } else {
        EXPECT_NEAR(frame.time_seconds, static_cast<double>(frame.index) / 30.0, 0.00051);
      }
    }
    VideoReader reader = VideoReader::open(file);
    EXPECT_TRUE(reader.has_exact_index());
    EXPECT_EQ(reader.info().variable_rate.value_or(false), entry.contains("pts_ms"));
    expect_exact_access(file);
  }
}

TEST(RandomAccessTest, CommittedFilesWithNumberedFrames) {
  expect_codes(committed_films());
}

TEST(RandomAccessTest, SharedFilesWithNumberedFrames) {
  if (!std::filesystem::exists(shared_films() + "/truth.json")) {
    GTEST_SKIP() << "the larger set of films is not beside this checkout";
  }
  expect_codes(shared_films());
}

TEST(RandomAccessTest, OddFiles) {
  for (const char* name : {"interlaced_tff.mp4",
                           "two_video_streams.mkv",
                           "vfr_irregular.mkv",
                           "odd_177x95_420.webm",
                           "one_frame.mp4",
                           "rotated90.mp4"}) {
    SCOPED_TRACE(name);
    expect_exact_access(committed_films() + "/broken/" + name);
  }
}

TEST(RandomAccessTest, FilesWhoseTimesCannotBeTrustedAreCountedByDecoding) {
  const std::string raw = committed_films() + "/broken/elementary_no_pts.h264";
  VideoReader reader = VideoReader::open(raw);
  EXPECT_FALSE(reader.has_exact_index());
  expect_exact_access(raw);
}

TEST(RandomAccessTest, EveryCodecOfTheSharedFilms) {
  if (!std::filesystem::exists(shared_films() + "/truth.json")) {
    GTEST_SKIP() << "the larger set of films is not beside this checkout";
  }
  const Json truth = read_truth(shared_films());
  for (const Json& entry : truth["codecs"]) {
    SCOPED_TRACE(entry["file"].get<std::string>());
    expect_exact_access(shared_films() + "/" + entry["file"].get<std::string>());
  }
}

TEST(RandomAccessTest, ReportStaysThatOfReadingInOrder) {
  VideoReader reader = VideoReader::open(committed_films() + "/framecode/vfr.mp4");
  ASSERT_TRUE(reader.read_at_index(40));
  VideoFrame frame;
  while (reader.next(frame)) {
  }
  EXPECT_FALSE(reader.report().complete);
  ASSERT_TRUE(reader.seek_to_index(0));
  while (reader.next(frame)) {
  }
  EXPECT_TRUE(reader.report().complete);
  EXPECT_EQ(reader.report().frames, 90);
}

TEST(RandomAccessTest, NegativeNumbersAndNoTimeAreRefused) {
  VideoReader reader = VideoReader::open(committed_films() + "/framecode/vfr.mp4");
  const auto index = error_of([&] { (void)reader.read_at_index(-1); });
  ASSERT_TRUE(index);
  EXPECT_EQ(index->kind(), ErrorKind::kInvalidArgument);
  const auto time =
      error_of([&] { (void)reader.read_at_time(std::numeric_limits<double>::quiet_NaN()); });
  ASSERT_TRUE(time);
  EXPECT_EQ(time->code(), "media.time");
}

}  // namespace
}  // namespace kinema::media
