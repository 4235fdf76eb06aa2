// SPDX-License-Identifier: Apache-2.0
// Pixels, limits, refusals and damage.
#include "media/video_reader.h"

#include <chrono>
#include <fstream>
#include <random>
#include <sys/stat.h>

#include <gmock/gmock.h>

#include "core/base/file.h"
#include "tests/media/media_test_support.h"

namespace kinema::media {
namespace {

using ::testing::HasSubstr;

std::string broken(const std::string& name) {
  return committed_films() + "/broken/" + name;
}

TEST(VideoReaderTest, DescribesTheFile) {
  const VideoReader reader = VideoReader::open(broken("rotated90.mp4"));
  const VideoInfo& info = reader.info();
  EXPECT_EQ(info.coded_width, 256);
  EXPECT_EQ(info.width, 144);
  EXPECT_EQ(info.rotation, 270);  // the file asks for 90 degrees counter-clockwise
  EXPECT_FALSE(info.mirrored);
  EXPECT_EQ(info.codec, "h264");
  EXPECT_EQ(info.pixel_format, "yuv420p");
  EXPECT_EQ(info.fps, (Rational{25, 1}));
  EXPECT_EQ(info.declared_frames, 50);
  EXPECT_DOUBLE_EQ(info.duration_seconds, 2.0);
  EXPECT_FALSE(info.has_audio);
  EXPECT_EQ(info.hdr, HdrKind::kNone);
  EXPECT_EQ(info.num_video_streams, 1);
}

TEST(VideoReaderTest, RotationTurnsPixels) {
  // Forget the display matrix of the file (its "matrix" in tkhd) to see the coded picture.
  const test::TempFolder folder;
  std::string bytes = read_file(broken("rotated90.mp4"), 1 << 20, "test");
  const std::size_t tkhd = bytes.find("tkhd");
  ASSERT_NE(tkhd, std::string::npos);
  const std::string identity(
      "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0", 36);
  bytes.replace(tkhd + 4 + 40, 36, identity);
  write_file(folder / "coded.mp4", bytes);
  const auto coded = read_all(folder / "coded.mp4");
  const auto upright = read_all(broken("rotated90.mp4"));
  ASSERT_EQ(coded.size(), upright.size());
  const VideoFrame& from = coded[10];
  const VideoFrame& to = upright[10];
  ASSERT_EQ(from.width, 256);
  ASSERT_EQ(to.width, 144);
  for (std::int64_t y = 0; y < to.height; ++y) {
    for (std::int64_t x = 0; x < to.width; ++x) {
      // A quarter turn counter-clockwise: the right column becomes the top row.
      const auto source = static_cast<std::size_t>((x * from.width + (from.width - 1 - y)) * 3);
      const auto target = static_cast<std::size_t>((y * to.width + x) * 3);
      ASSERT_TRUE(std::equal(&to.rgb_HWC[target], &to.rgb_HWC[target] + 3, &from.rgb_HWC[source]))
          << x << ", " << y;
    }
  }
}

TEST(VideoReaderTest, InterlacedFramesAreDeinterlaced) {
  VideoReader reader = VideoReader::open(broken("interlaced_tff.mp4"));
  EXPECT_TRUE(reader.info().interlaced);
  double combing = 0.0;
  std::int64_t frames = 0;
  while (const auto frame = reader.next()) {
    EXPECT_TRUE(frame->deinterlaced);
    // Combed rows differ from both neighbours in the same direction.
    const auto row = static_cast<std::size_t>(frame->width * 3);
    for (std::size_t i = row; i + row < frame->rgb_HWC.size(); ++i) {
      const int up = frame->rgb_HWC[i] - frame->rgb_HWC[i - row];
      const int down = frame->rgb_HWC[i] - frame->rgb_HWC[i + row];
      combing += up * down > 400 ? 1.0 : 0.0;
    }
    ++frames;
  }
  EXPECT_EQ(frames, 50);
  EXPECT_EQ(reader.report().interlaced_frames, 50);
  // The combed original has 15 % such places.
  EXPECT_LT(combing / (50.0 * 256 * 144 * 3), 0.01);
}

TEST(VideoReaderTest, MaxSideScalesDown) {
  VideoReader reader = VideoReader::open(broken("rotated90.mp4"), {.max_side = 64});
  EXPECT_EQ(reader.info().width, 36);
  EXPECT_EQ(reader.info().height, 64);
  const auto frame = reader.next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->width, 36);
  EXPECT_EQ(frame->rgb_HWC.size(), 36U * 64U * 3U);
}

TEST(VideoReaderTest, ThreadsDoNotChangePixels) {
  const std::string path = committed_films() + "/framecode/open_bf2.mp4";
  const auto one = read_all(path, {.threads = 1});
  const auto four = read_all(path, {.threads = 4});
  ASSERT_EQ(one.size(), four.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(one[i].rgb_HWC == four[i].rgb_HWC) << i;
    EXPECT_EQ(one[i].pts, four[i].pts);
  }
}

TEST(VideoReaderTest, PixelLimitHoldsBeforeDecoding) {
  const auto error = error_of(
      [] { (void)VideoReader::open(broken("rotated90.mp4"), {.max_pixels = 256 * 144 - 1}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.too_large");
  EXPECT_THAT(error->what(), HasSubstr("36863 pixels"));
  EXPECT_NO_THROW((void)VideoReader::open(broken("rotated90.mp4"), {.max_pixels = 256 * 144}));
}

TEST(VideoReaderTest, MissingFile) {
  const auto error = error_of([] { (void)VideoReader::open("/no/such/film.mp4"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kIo);
  EXPECT_EQ(error->code(), "io.open");
  EXPECT_THAT(error->what(), HasSubstr("/no/such/film.mp4"));
}

TEST(VideoReaderTest, PipesAndFoldersAreRefusedAtOnce) {
  const test::TempFolder folder;
  const std::string pipe = folder / "pipe.mp4";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& path : {pipe, folder / "", std::string("/dev/zero")}) {
    const auto error = error_of([&] { (void)VideoReader::open(path); });
    ASSERT_TRUE(error) << path;
    EXPECT_EQ(error->code(), "media.not_a_file") << path;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(VideoReaderTest, StallEndsTheCall) {
  const auto error =
      error_of([] { (void)VideoReader::open(broken("rotated90.mp4"), {.stall_seconds = 0.0}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.stuck");
}

TEST(VideoReaderTest, CancelEndsTheCall) {
  bool stop = false;
  VideoReader reader =
      VideoReader::open(broken("rotated90.mp4"), {.cancelled = [&] { return stop; }});
  VideoFrame frame;
  EXPECT_TRUE(reader.next(frame));
  stop = true;
  const auto error = error_of([&] {
    while (reader.next(frame)) {
    }
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kCancelled);
}

TEST(VideoReaderTest, BadOptionsAreRefused) {
  for (const ReadOptions& options :
       {ReadOptions{.max_pixels = 0}, ReadOptions{.threads = 0}, ReadOptions{.max_side = -1}}) {
    const auto error = error_of([&] { (void)VideoReader::open(broken("rotated90.mp4"), options); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->kind(), ErrorKind::kInvalidArgument);
  }
}

TEST(VideoReaderTest, AnimationsCanBeRefused) {
  const test::TempFolder folder;
  write_clip(folder / "a.gif", {.width = 32, .height = 32, .fps = {10, 1}}, 2);
  EXPECT_EQ(read_all(folder / "a.gif").size(), 2U);
  const auto error =
      error_of([&] { (void)VideoReader::open(folder / "a.gif", {.allow_animations = false}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.format_denied");
}

TEST(VideoReaderTest, PlaylistsOpenNothing) {
  const test::TempFolder folder;
  // A good film beside, and a playlist and a script that name it.
  write_clip(folder / "good.mp4", {.width = 32, .height = 32}, 3);
  write_file(folder / "list.mp4",
             "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\ngood.mp4\n#EXT-X-ENDLIST\n");
  write_file(folder / "script.mkv", "ffconcat version 1.0\nfile good.mp4\n");
  write_file(folder / "dash.mp4",
             "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" "
             "profiles=\"urn:mpeg:dash:profile:"
             "isoff-on-demand:2011\"></MPD>");
  write_file(
      folder / "session.mp4",
      "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n");
  for (const char* name : {"list.mp4", "script.mkv", "dash.mp4", "session.mp4"}) {
    const auto error = error_of([&] { (void)VideoReader::open(folder / name); });
    ASSERT_TRUE(error) << name;
    EXPECT_EQ(error->code(), "media.format_denied") << name << ": " << error->what();
  }
}

TEST(VideoReaderTest, UnknownCodecIsNamed) {
  const test::TempFolder folder;
  std::string bytes = read_file(broken("mjpeg_damaged.avi"), 1 << 20, "test");
  for (std::size_t at = bytes.find("MJPG"); at != std::string::npos; at = bytes.find("MJPG")) {
    bytes.replace(at, 4, "QZX9");
  }
  write_file(folder / "unknown.avi", bytes);
  const auto error = error_of([&] { (void)VideoReader::open(folder / "unknown.avi"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.unsupported_codec");
  EXPECT_THAT(error->what(), HasSubstr("QZX9"));
}

TEST(VideoReaderTest, MissingIndexIsNamed) {
  const test::TempFolder folder;
  WriteOptions options{.width = 64, .height = 48};
  write_clip(folder / "whole.mp4", options, 8);
  const std::string bytes = read_file(folder / "whole.mp4", 1 << 20, "test");
  const std::size_t moov = bytes.find("moov");
  std::string hidden = bytes;
  hidden.replace(moov, 4, "skip");  // in "free" FFmpeg looks for an index
  write_file(folder / "no_index.mp4", hidden);
  const auto error = error_of([&] { (void)VideoReader::open(folder / "no_index.mp4"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.open_failed.moov");
}

TEST(VideoReaderTest, TruncatedFileGivesItsGoodPrefix) {
  VideoReader reader = VideoReader::open(broken("cut_in_the_middle.mp4"));
  std::vector<VideoFrame> frames;
  while (auto frame = reader.next()) {
    frames.push_back(std::move(*frame));
  }
  const ReadReport& report = reader.report();
  EXPECT_EQ(report.status(), ReadStatus::kTruncated);
  EXPECT_EQ(report.declared_frames, 150);
  EXPECT_GE(report.good_prefix_frames, 60);
  EXPECT_LE(report.good_prefix_frames, 67);
  if (std::filesystem::exists(shared_films() + "/broken/good_reference.mp4")) {
    // Every frame of the prefix is the one of the whole file.
    VideoReader whole = VideoReader::open(shared_films() + "/broken/good_reference.mp4");
    for (std::int64_t i = 0; i < report.good_prefix_frames; ++i) {
      const auto frame = whole.next();
      ASSERT_TRUE(frame);
      EXPECT_TRUE(frame->rgb_HWC == frames[static_cast<std::size_t>(i)].rgb_HWC) << i;
    }
  }
}

TEST(VideoReaderTest, CutFilesOfEveryContainerAreCalledTruncated) {
  const test::TempFolder folder;
  std::string film = read_file(broken("mjpeg_damaged.avi"), 1 << 20, "test");
  write_file(folder / "cut.avi", film.substr(0, film.size() / 2));
  for (const char* name : {"a.mkv", "a.webm", "a.mp4"}) {
    write_clip(folder / name, {.width = 64, .height = 48, .key_interval_seconds = 0.2}, 40);
    EXPECT_EQ(read_all(folder / name).size(), 40U);
    film = read_file(folder / name, 1 << 24, "test");
    write_file(folder / std::string("cut_") + name, film.substr(0, film.size() * 2 / 3));
  }
  for (const char* name : {"cut.avi", "cut_a.mkv", "cut_a.webm", "cut_a.mp4"}) {
    SCOPED_TRACE(name);
    VideoReader reader = VideoReader::open(folder / name);
    VideoFrame frame;
    while (reader.next(frame)) {
    }
    EXPECT_EQ(reader.report().status(), ReadStatus::kTruncated);
    EXPECT_GT(reader.report().frames, 5);
  }
}

TEST(VideoReaderTest, FileThatGrowsIsReported) {
  const test::TempFolder folder;
  const std::string path = folder / "grows.mp4";
  std::filesystem::copy_file(broken("rotated90.mp4"), path);
  VideoReader reader = VideoReader::open(path);
  std::ofstream(path, std::ios::app) << "more";
  VideoFrame frame;
  while (reader.next(frame)) {
  }
  EXPECT_EQ(reader.report().status(), ReadStatus::kChanged);
}

TEST(VideoReaderTest, NamesAreBytes) {
  const test::TempFolder folder;
  for (const std::string name : {"-dash.mp4",
                                 "new\nline.mp4",
                                 "quote'\".mp4",
                                 "file:name.mp4",
                                 "pipe:0.mp4",
                                 "\xff\xfe.mp4",
                                 "%05d.mp4",
                                 "concat:a|b.mp4"}) {
    std::filesystem::copy_file(broken("one_frame.mp4"), folder / name);
    EXPECT_EQ(read_all(folder / name).size(), 1U) << name;
  }
}

// Damaged in any way, a file gives frames or one of our errors, in bounded time and memory.
TEST(VideoReaderTest, MutatedFilesNeverEscape) {
  const test::TempFolder folder;
  const std::string path = folder / "mutant";
  std::mt19937 random(11);
  std::int64_t opened = 0;
  std::int64_t refused = 0;
  for (const char* name : {"broken/two_video_streams.mkv",
                           "broken/odd_177x95_420.webm",
                           "broken/rotated90.mp4",
                           "broken/cover_art.m4a",
                           "broken/elementary_no_pts.h264",
                           "broken/bomb_vp8.ivf",
                           "broken/bomb_mjpeg.avi",
                           "framecode/hevc_open.mp4",
                           "framecode/editlist_cut.mp4"}) {
    const std::string original = read_file(committed_films() + "/" + name, 1 << 20, "test");
    for (int round = 0; round < 16; ++round) {
      std::string bytes = original;
      const std::size_t edits = 1 + random() % 12;
      // Headers break more than pictures do: half of the edits go to the first and last kilobytes.
      for (std::size_t i = 0; i < edits; ++i) {
        const std::size_t span =
            random() % 2 == 0 ? std::min<std::size_t>(bytes.size(), 2000) : bytes.size();
        const std::size_t at =
            random() % 2 == 0 ? random() % span : bytes.size() - 1 - random() % span;
        bytes[at] = static_cast<char>(random() % 4 == 0 ? 0xff : random());
      }
      if (random() % 4 == 0) {
        bytes.resize(1 + random() % bytes.size());
      }
      write_file(path, bytes);
      try {
        VideoReader reader =
            VideoReader::open(path, {.max_pixels = 1 << 20, .stall_seconds = 10.0});
        VideoFrame frame;
        std::int64_t frames = 0;
        while (frames < 300 && reader.next(frame)) {
          ASSERT_LE(frame.width * frame.height, 1 << 20);
          ++frames;
        }
        (void)reader.read_at_index(3);
        ++opened;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::kBadData) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(opened, 20);
  EXPECT_GT(refused, 20);
}

}  // namespace
}  // namespace kinema::media
