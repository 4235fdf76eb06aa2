// SPDX-License-Identifier: Apache-2.0
#include "tests/media/media_test_support.h"

#include <algorithm>
#include <cmath>

namespace kinema::media {

std::vector<std::uint8_t> moving_picture(std::int64_t width,
                                         std::int64_t height,
                                         std::int64_t index) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width * height * 3));
  const double disc_x = static_cast<double>(width) * 0.2 + 2.0 * static_cast<double>(index);
  const double disc_y = static_cast<double>(height) * 0.5;
  const double radius = static_cast<double>(height) * 0.25;
  std::size_t at = 0;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const double distance =
          std::hypot(static_cast<double>(x) - disc_x, static_cast<double>(y) - disc_y);
      const double inside = std::clamp((radius - distance) / 4.0 + 0.5, 0.0, 1.0);
      const double back[3] = {40.0 + 150.0 * static_cast<double>(x) / static_cast<double>(width),
                              60.0 + 120.0 * static_cast<double>(y) / static_cast<double>(height),
                              110.0};
      const double disc[3] = {220.0, 80.0, 50.0};
      for (std::size_t c = 0; c < 3; ++c) {
        rgb[at++] = static_cast<std::uint8_t>(std::lround(back[c] + inside * (disc[c] - back[c])));
      }
    }
  }
  return rgb;
}

double psnr(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  if (a.size() != b.size() || a.empty()) {
    return 0.0;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = double{1.0} * a[i] - b[i];
    sum += difference * difference;
  }
  const double mean = sum / static_cast<double>(a.size());
  return mean == 0.0 ? 99.0 : 10.0 * std::log10(255.0 * 255.0 / mean);
}

std::vector<VideoFrame> read_all(const std::string& path, const ReadOptions& options) {
  VideoReader reader = VideoReader::open(path, options);
  std::vector<VideoFrame> frames;
  while (auto frame = reader.next()) {
    frames.push_back(std::move(*frame));
  }
  return frames;
}

void write_clip(const std::string& path, const WriteOptions& options, std::int64_t frames) {
  VideoWriter writer = VideoWriter::open(path, options);
  for (std::int64_t i = 0; i < frames; ++i) {
    const auto rgb = moving_picture(options.width, options.height, i);
    writer.add({.rgb_HWC = rgb, .width = options.width, .height = options.height});
  }
  const WriteReport report = writer.finish();
  EXPECT_EQ(report.frames, frames);
}

std::int64_t frame_code(const VideoFrame& frame) {
  std::int64_t code = 0;
  for (std::int64_t bit = 0; bit < 12; ++bit) {
    const auto at = static_cast<std::size_t>((8 * frame.width + bit * 16 + 8) * 3);
    code = code * 2 + (frame.rgb_HWC[at + 1] > 127 ? 1 : 0);
  }
  return code;
}

std::string committed_films() {
  return KINEMA_SOURCE_DIR "/tests/media/data";
}
std::string shared_films() {
  return KINEMA_SOURCE_DIR "/../shared/media";
}

Json read_truth(const std::string& folder) {
  return read_json_file(folder + "/truth.json", {.place = "test", .subject = "truth.json"});
}

}  // namespace kinema::media
