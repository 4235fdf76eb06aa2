// SPDX-License-Identifier: Apache-2.0
// Hostile and odd files against a table of what has to happen: truth.json beside the films.
#include <algorithm>
#include <set>

#include <gmock/gmock.h>

#include "tests/media/media_test_support.h"

namespace kinema::media {
namespace {

// "corrupt (or ok with ...)" allows both; policies of later stages ("black") are fine for the
// reader.
std::set<std::string> allowed_codes(const std::string& text) {
  std::set<std::string> codes;
  for (const char* known : {"open_failed.moov",
                            "open_failed",
                            "format_denied",
                            "no_video",
                            "unsupported_codec",
                            "too_large",
                            "truncated",
                            "corrupt",
                            "bad_timestamps"}) {
    if (text.find(known) != std::string::npos) {
      codes.insert(known);
    }
  }
  if (codes.contains("open_failed.moov")) {
    codes.erase("open_failed");
  }
  for (const char* fine : {"ok", "too_short", "black"}) {
    if (text.starts_with(fine) || text.find(std::string("or ") + fine) != std::string::npos) {
      codes.insert("ok");
    }
  }
  return codes;
}

void expect_details(const Json& truth, VideoReader& reader, const std::vector<VideoFrame>& frames) {
  const VideoInfo& info = reader.info();
  const ReadReport& report = reader.report();
  if (truth.contains("frames")) {
    EXPECT_EQ(report.frames, truth["frames"].get<std::int64_t>());
  }
  if (truth.contains("frames_declared")) {
    EXPECT_EQ(info.declared_frames, truth["frames_declared"].get<std::int64_t>());
  }
  const auto pair = [&](const char* key) {
    return std::pair(truth[key][0].get<std::int64_t>(), truth[key][1].get<std::int64_t>());
  };
  if (truth.contains("coded")) {
    EXPECT_EQ(std::pair(info.coded_width, info.coded_height), pair("coded"));
  }
  if (truth.contains("upright")) {
    EXPECT_EQ(std::pair(info.width, info.height), pair("upright"));
  }
  if (truth.contains("sar")) {
    EXPECT_EQ(std::pair(info.sample_aspect_ratio.num, info.sample_aspect_ratio.den), pair("sar"));
    EXPECT_EQ(std::pair(info.width, info.height), pair("written"));
  }
  if (truth.contains("best")) {
    EXPECT_EQ(std::pair(info.width, info.height), pair("best"));
    EXPECT_EQ(info.num_video_streams, 2);
  }
  if (truth.contains("width")) {
    EXPECT_EQ(info.width, truth["width"].get<std::int64_t>());
    EXPECT_EQ(info.height, truth["height"].get<std::int64_t>());
  }
  if (truth.contains("color_trc")) {
    EXPECT_EQ(to_string(info.hdr), truth["color_trc"] == "smpte2084" ? "pq" : "hlg");
    EXPECT_EQ(info.bit_depth, 10);
    EXPECT_TRUE(frames.front().tone_mapped);
  }
  if (truth.contains("pts_ms")) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      EXPECT_NEAR(frames[i].time_seconds * 1000.0, truth["pts_ms"][i].get<double>(), 0.501)
          << "frame " << i;
    }
  }
  if (truth.contains("sizes")) {
    ASSERT_EQ(report.size_changes.size(), 1U);
    EXPECT_EQ(report.size_changes[0].index, truth["cuts"][0].get<std::int64_t>());
    EXPECT_EQ(report.size_changes[0].width, truth["sizes"][1][0].get<std::int64_t>());
    EXPECT_EQ(frames.back().height, truth["sizes"][1][1].get<std::int64_t>());
  }
  if (truth.contains("damaged_frames")) {
    std::vector<std::int64_t> marked;
    for (const VideoFrame& frame : frames) {
      if (frame.corrupt) {
        marked.push_back(frame.index);
      }
    }
    EXPECT_EQ(marked, truth["damaged_frames"].get<std::vector<std::int64_t>>());
  }
}

void expect_rising_times(const std::vector<VideoFrame>& frames) {
  for (std::size_t i = 1; i < frames.size(); ++i) {
    ASSERT_GT(frames[i].pts, frames[i - 1].pts) << "frame " << i;
  }
  ASSERT_EQ(frames.front().time_seconds, 0.0);
}

// The reason code of reading `path` to its end.
std::string read_code(const std::string& path, const Json& truth) {
  try {
    VideoReader reader = VideoReader::open(path);
    std::vector<VideoFrame> frames;
    while (auto frame = reader.next()) {
      EXPECT_EQ(frame->rgb_HWC.size(), static_cast<std::size_t>(frame->width * frame->height * 3));
      frames.push_back(std::move(*frame));
    }
    EXPECT_TRUE(reader.report().complete);
    EXPECT_EQ(reader.report().frames, static_cast<std::int64_t>(frames.size()));
    expect_rising_times(frames);
    expect_details(truth, reader, frames);
    return std::string(to_string(reader.report().status()));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadData) << error.what();
    EXPECT_TRUE(error.code().starts_with("media.")) << error.code();
    EXPECT_THAT(error.details().subject, path);
    return error.code().substr(6);
  }
}

void run_table(const std::string& folder) {
  const Json truth = read_truth(folder);
  for (const Json& entry : truth["broken"]) {
    const auto file = entry["file"].get<std::string>();
    const auto code = entry["code"].get<std::string>();
    SCOPED_TRACE(file + " expects " + code);
    const std::string got = read_code(folder + "/" + file, entry);
    EXPECT_TRUE(allowed_codes(code).contains(got)) << "got " << got;
  }
}

TEST(TruthTableTest, CommittedFiles) {
  run_table(committed_films());
}

TEST(TruthTableTest, AllSharedFiles) {
  if (!std::filesystem::exists(shared_films() + "/truth.json")) {
    GTEST_SKIP() << "the larger set of films is not beside this checkout";
  }
  run_table(shared_films());
}

TEST(TruthTableTest, EverySharedFilmOfKnownLengthReadsWhole) {
  if (!std::filesystem::exists(shared_films() + "/truth.json")) {
    GTEST_SKIP() << "the larger set of films is not beside this checkout";
  }
  const Json truth = read_truth(shared_films());
  for (const char* group : {"films", "real", "duplicates", "codecs", "motion"}) {
    for (const Json& entry : truth[group]) {
      SCOPED_TRACE(entry["file"].get<std::string>());
      VideoReader reader =
          VideoReader::open(shared_films() + "/" + entry["file"].get<std::string>());
      VideoFrame frame;
      while (reader.next(frame)) {
      }
      EXPECT_EQ(reader.report().status(), ReadStatus::kOk) << reader.report().first_error;
      EXPECT_EQ(reader.report().frames, entry["frames"].get<std::int64_t>());
      EXPECT_EQ(reader.info().width, entry["width"].get<std::int64_t>());
      EXPECT_EQ(reader.report().corrupt_frames, 0);
      EXPECT_EQ(reader.report().repaired_timestamps, 0);
      EXPECT_EQ(reader.report().error_lines, 0);
    }
  }
}

}  // namespace
}  // namespace kinema::media
