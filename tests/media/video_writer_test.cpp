// SPDX-License-Identifier: Apache-2.0
// Every output format: round trip, provenance, repeatable bytes, refusals before any work.
#include "media/video_writer.h"

#include <fstream>

#include <gmock/gmock.h>

#include "core/base/file.h"
#include "core/io/container_metadata.h"
#include "core/io/image.h"
#include "core/io/xmp.h"
#include "tests/media/media_test_support.h"

namespace kinema::media {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kProvenance[] = R"({"prompt":"a red circle & <b>\"quoted\"</b>, größer","seed":7})";

std::string contents(const std::string& path) {
  return read_file(path, 1ULL << 30, "test");
}

struct RoundTrip {
  const char* name;
  double min_psnr;
  std::int64_t width;
  std::int64_t height;
  Rational fps;
};

class VideoWriterRoundTripTest : public ::testing::TestWithParam<RoundTrip> {};

TEST_P(VideoWriterRoundTripTest, KeepsFramesTimesAndPictures) {
  const RoundTrip& p = GetParam();
  constexpr std::int64_t kFrames = 14;
  const test::TempFolder folder;
  const std::string path = folder / p.name;
  write_clip(path, {.width = p.width, .height = p.height, .fps = p.fps}, kFrames);
  EXPECT_THAT(folder.names(), ElementsAre(p.name));
  VideoReader reader = VideoReader::open(path);
  EXPECT_EQ(reader.info().width, p.width);
  EXPECT_EQ(reader.info().height, p.height);
  EXPECT_NEAR(reader.info().fps.value(), p.fps.value(), 0.01 * p.fps.value());
  std::int64_t count = 0;
  double worst = 99.0;
  while (const auto frame = reader.next()) {
    const auto wanted = moving_picture(p.width, p.height, count);
    worst = std::min(worst, psnr(frame->rgb_HWC, wanted));
    EXPECT_NEAR(frame->time_seconds, static_cast<double>(count) / p.fps.value(), 0.0051);
    ++count;
  }
  EXPECT_EQ(count, kFrames);
  EXPECT_GE(worst, p.min_psnr);
  RecordProperty("worst_psnr", std::to_string(worst));
  EXPECT_EQ(reader.report().status(), ReadStatus::kOk) << reader.report().first_error;
}

INSTANTIATE_TEST_SUITE_P(Formats,
                         VideoWriterRoundTripTest,
                         ::testing::Values(RoundTrip{"a.mp4", 36.0, 96, 64, {24, 1}},
                                           RoundTrip{"a.mov", 36.0, 98, 66, {30000, 1001}},
                                           RoundTrip{"a.webm", 36.0, 97, 63, {25, 1}},
                                           RoundTrip{"a.mkv", 99.0, 95, 61, {24000, 1001}},
                                           RoundTrip{"a.gif", 30.0, 90, 50, {24, 1}},
                                           RoundTrip{"a.y4m", 48.0, 93, 65, {12, 1}},
                                           RoundTrip{"UPPER.MP4", 34.0, 64, 48, {60, 1}}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           return name.substr(0, name.find('.')) + name.substr(name.find('.') + 1);
                         });

TEST(VideoWriterTest, LargeY4mSpeaksBt709) {
  const test::TempFolder folder;
  for (const Y4mChroma chroma : {Y4mChroma::k444, Y4mChroma::k420}) {
    write_clip(folder / "a.y4m", {.width = 1280, .height = 64, .y4m_chroma = chroma}, 1);
    const auto frames = read_all(folder / "a.y4m");
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_GE(psnr(frames[0].rgb_HWC, moving_picture(1280, 64, 0)),
              chroma == Y4mChroma::k444 ? 48.0 : 38.0);
  }
}

TEST(VideoWriterTest, RowsMayBeFartherApart) {
  const test::TempFolder folder;
  const auto packed = moving_picture(40, 30, 0);
  std::vector<std::uint8_t> padded(30 * 128, 9);
  for (std::size_t y = 0; y < 30; ++y) {
    std::copy_n(packed.begin() + static_cast<std::ptrdiff_t>(y * 120),
                120,
                padded.begin() + static_cast<std::ptrdiff_t>(y * 128));
  }
  for (const char* name : {"a.mkv", "p/"}) {
    VideoWriter writer = VideoWriter::open(folder / name, {.width = 40, .height = 30});
    writer.add({.rgb_HWC = padded, .width = 40, .height = 30, .stride = 128});
    writer.finish();
  }
  EXPECT_TRUE(read_all(folder / "a.mkv").at(0).rgb_HWC == packed);
  EXPECT_TRUE(io::read_image(folder / "p/frame_000000.png").pixels == packed);
}

TEST(VideoWriterTest, PngSequenceIsExactAndReplacesItsOwnKind) {
  const test::TempFolder folder;
  const std::string target = folder / "out/shot_%03d.png";
  write_clip(target, {.width = 33, .height = 21, .provenance = kProvenance}, 12);
  write_clip(target,
             {.width = 33, .height = 21, .provenance = kProvenance},
             5);  // fewer: no old one stays
  EXPECT_THAT(folder.names(), ElementsAre("out"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "out")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_EQ(names.size(), 5U);
  for (std::int64_t i = 0; i < 5; ++i) {
    const std::string name = folder / "out/shot_00" + std::to_string(i) + ".png";
    EXPECT_TRUE(io::read_image(name).pixels == moving_picture(33, 21, i)) << i;
    EXPECT_EQ(io::read_container_metadata(name).comment, kProvenance);
  }
}

TEST(VideoWriterTest, PngSequenceNeverTouchesForeignFiles) {
  const test::TempFolder folder;
  std::filesystem::create_directory(folder / "photos");
  write_file(folder / "photos/frame_000000.png", "mine");
  write_file(folder / "photos/holiday.jpg", "mine");
  const auto error =
      error_of([&] { validate_output(folder / "photos/", {.width = 8, .height = 8}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "output.not_empty");
  EXPECT_THAT(error->what(), HasSubstr("holiday.jpg"));
  EXPECT_EQ(contents(folder / "photos/frame_000000.png"), "mine");
}

TEST(VideoWriterTest, ProvenanceIsReadableAgain) {
  const test::TempFolder folder;
  for (const char* name : {"a.mp4", "a.mov", "a.webm", "a.mkv", "a.gif"}) {
    SCOPED_TRACE(name);
    const std::string path = folder / name;
    write_clip(path, {.width = 64, .height = 48, .provenance = kProvenance, .sidecar = true}, 3);
    EXPECT_EQ(VideoReader::open(path).info().comment, kProvenance);
    const io::ContainerMetadata metadata = io::read_container_metadata(path);
    EXPECT_EQ(metadata.comment, kProvenance);
    const bool boxes =
        std::string_view(name).ends_with("mp4") || std::string_view(name).ends_with("mov");
    ASSERT_EQ(metadata.xmp.has_value(), boxes);
    if (boxes) {
      EXPECT_EQ(io::unwrap_xmp(*metadata.xmp, name), kProvenance);
    }
    EXPECT_EQ(contents(path + ".json"), kProvenance);
    EXPECT_EQ(read_all(path).size(), 3U);
  }
}

TEST(VideoWriterTest, LongProvenanceFits) {
  const test::TempFolder folder;
  const std::string longer = "{\"text\":\"" + std::string(50000, 'x') + "\"}";
  for (const char* name : {"a.mp4", "a.mov", "a.webm", "a.gif"}) {
    SCOPED_TRACE(name);
    write_clip(folder / name, {.width = 64, .height = 48, .provenance = longer}, 2);
    EXPECT_EQ(io::read_container_metadata(folder / name).comment, longer);
    EXPECT_EQ(read_all(folder / name).size(), 2U);
  }
}

TEST(VideoWriterTest, WithoutProvenanceNothingIsSaid) {
  const test::TempFolder folder;
  for (const char* name : {"a.mp4", "a.mov", "a.webm", "a.mkv", "a.gif", "a.y4m"}) {
    SCOPED_TRACE(name);
    write_clip(folder / name, {.width = 64, .height = 48, .sidecar = true}, 3);
    const std::string bytes = contents(folder / name);
    EXPECT_FALSE(io::read_container_metadata(folder / name).xmp);
    for (const char* trace : {"x264", "Lavf5", "Lavc", "libvpx", "kinema"}) {
      EXPECT_EQ(bytes.find(trace), std::string::npos) << trace;
    }
    EXPECT_FALSE(std::filesystem::exists(folder / name + ".json"));
  }
}

TEST(VideoWriterTest, SameFramesGiveTheSameBytes) {
  const test::TempFolder folder;
  for (const char* extension : {"mp4", "webm", "mkv", "gif", "y4m"}) {
    const WriteOptions options{.width = 128, .height = 72, .provenance = kProvenance};
    const std::string first = folder / std::string("first.") + extension;
    const std::string second = folder / std::string("second.") + extension;
    write_clip(first, options, 30);
    write_clip(second, options, 30);
    EXPECT_TRUE(contents(first) == contents(second)) << extension;
  }
}

TEST(VideoWriterTest, Mp4HasItsIndexInFrontAndBt709Tags) {
  const test::TempFolder folder;
  write_clip(folder / "a.mp4", {.width = 64, .height = 48}, 10);
  const std::string bytes = contents(folder / "a.mp4");
  EXPECT_LT(bytes.find("moov"), bytes.find("mdat"));
  EXPECT_THAT(bytes, HasSubstr(std::string("nclx\0\1\0\1\0\1", 10)));
}

TEST(VideoWriterTest, ReplacesAnOldFileOnlyAtTheEnd) {
  const test::TempFolder folder;
  const std::string path = folder / "a.mp4";
  write_file(path, "old");
  {
    VideoWriter writer = VideoWriter::open(path, {.width = 64, .height = 48});
    const auto rgb = moving_picture(64, 48, 0);
    writer.add({.rgb_HWC = rgb, .width = 64, .height = 48});
    EXPECT_EQ(contents(path), "old");
  }
  EXPECT_EQ(contents(path), "old");
  EXPECT_THAT(folder.names(), ElementsAre("a.mp4"));
  write_clip(path, {.width = 64, .height = 48}, 2);
  EXPECT_EQ(read_all(path).size(), 2U);
}

TEST(VideoWriterTest, NothingStaysBehindWithoutFinish) {
  const test::TempFolder folder;
  for (const char* name : {"a.mp4", "a.gif", "a.y4m", "frames/", "a.mkv"}) {
    VideoWriter writer = VideoWriter::open(folder / name, {.width = 64, .height = 48});
    const auto rgb = moving_picture(64, 48, 0);
    writer.add({.rgb_HWC = rgb, .width = 64, .height = 48});
    EXPECT_FALSE(folder.names().empty());
    VideoWriter moved = std::move(writer);
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(VideoWriterTest, OddSizesNameTheNearest) {
  for (const char* name : {"a.mp4", "a.mov"}) {
    const auto error = error_of([&] { validate_output(name, {.width = 177, .height = 95}); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(error->code(), "media.frame_size");
    EXPECT_THAT(error->what(), HasSubstr("177x95"));
    EXPECT_THAT(error->what(), HasSubstr("nearest: 178x96"));
  }
  EXPECT_NO_THROW(validate_output("a.webm", {.width = 177, .height = 95}));
}

TEST(VideoWriterTest, BadRequestsAreRefusedBeforeAnyWork) {
  struct Case {
    const char* path;
    WriteOptions options;
    const char* code;
  };
  const WriteOptions good{.width = 64, .height = 48};
  const auto with = [&](auto&& change) {
    WriteOptions options = good;
    change(options);
    return options;
  };
  const Case cases[] = {
      {"a.avi", good, "media.unknown_format"},
      {"noextension", good, "media.unknown_format"},
      {"frames_%d_%d.png", good, "media.unknown_format"},
      {"frame.png", good, "media.unknown_format"},
      {"%05d.png", good, "output.not_empty"},
      {"a.mp4", with([](WriteOptions& o) { o.width = 0; }), "media.frame_size"},
      {"a.mp4", with([](WriteOptions& o) { o.height = 20000; }), "media.frame_size"},
      {"a.mp4", with([](WriteOptions& o) { o.fps = {0, 1}; }), "media.frame_rate"},
      {"a.mp4", with([](WriteOptions& o) { o.fps = {24, 0}; }), "media.frame_rate"},
      {"a.gif", with([](WriteOptions& o) { o.fps = {60, 1}; }), "media.frame_rate"},
      {"a.mp4", with([](WriteOptions& o) { o.crf = 52; }), "media.write_options"},
      {"a.mkv", with([](WriteOptions& o) { o.crf = 10; }), "media.write_options"},
      {"a.mp4", with([](WriteOptions& o) { o.preset = "turbo"; }), "media.write_options"},
      {"a.mp4", with([](WriteOptions& o) { o.threads = 0; }), "media.write_options"},
      {"a.mp4", with([](WriteOptions& o) { o.key_interval_seconds = 0; }), "media.write_options"},
      {"-", with([](WriteOptions& o) { o.format = VideoFormat::kPng; }), "media.unknown_format"},
      {"/no/such/folder/a.mp4", good, "output.unwritable"},
      {"/dev/full",
       with([](WriteOptions& o) { o.format = VideoFormat::kMp4; }),
       "output.unwritable"},
      {"/proc/a.mp4", good, "output.unwritable"},
      {"/tmp", with([](WriteOptions& o) { o.format = VideoFormat::kMp4; }), "output.unwritable"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.path) + " " + c.code);
    const auto error = error_of([&] {
      // /proc refuses only when the file is made.
      (void)VideoWriter::open(c.path, c.options);
    });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), c.code) << error->what();
    EXPECT_EQ(error->exit_code(), 2);
  }
}

TEST(VideoWriterTest, WrongFramesAreRefused) {
  const test::TempFolder folder;
  VideoWriter writer = VideoWriter::open(folder / "a.mkv", {.width = 64, .height = 48});
  const auto rgb = moving_picture(64, 48, 0);
  const std::span<const std::uint8_t> all(rgb);
  for (const FrameView& bad :
       {FrameView{.rgb_HWC = all, .width = 48, .height = 64},
        FrameView{.rgb_HWC = all.first(64 * 48 * 3 - 1), .width = 64, .height = 48},
        FrameView{.rgb_HWC = all, .width = 64, .height = 48, .stride = 191}}) {
    const auto error = error_of([&] { writer.add(bad); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), "media.frame_size");
  }
  writer.add({.rgb_HWC = all, .width = 64, .height = 48});
  EXPECT_EQ(writer.finish().frames, 1);
  EXPECT_THROW(writer.add({.rgb_HWC = all, .width = 64, .height = 48}), Error);
  EXPECT_THROW((void)writer.finish(), Error);
}

TEST(VideoWriterTest, NoFramesIsAnError) {
  const test::TempFolder folder;
  VideoWriter writer = VideoWriter::open(folder / "a.mp4", {.width = 64, .height = 48});
  const auto error = error_of([&] { (void)writer.finish(); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), "media.no_frames");
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace kinema::media
