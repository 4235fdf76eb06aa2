// SPDX-License-Identifier: Apache-2.0
// Small videos whose frames are known exactly (FFV1 keeps RGB).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "media/video_reader.h"
#include "media/video_writer.h"

namespace kinema::test {

/// Frame k: a ramp to the right whose blue is 10 k, so that a frame tells its number.
inline std::vector<std::uint8_t> clip_frame(std::int64_t k,
                                            std::int64_t width,
                                            std::int64_t height) {
  std::vector<std::uint8_t> rgb;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      rgb.push_back(static_cast<std::uint8_t>(x * 255 / width));
      rgb.push_back(static_cast<std::uint8_t>((y * 5 + k * 3) % 256));
      rgb.push_back(static_cast<std::uint8_t>(10 * k % 256));
    }
  }
  return rgb;
}

inline void write_clip(const std::string& path,
                       std::int64_t frames,
                       std::int64_t width,
                       std::int64_t height,
                       media::Rational fps = {8, 1}) {
  auto writer = media::VideoWriter::open(path, {.width = width, .height = height, .fps = fps});
  for (std::int64_t k = 0; k < frames; ++k) {
    const auto rgb = clip_frame(k, width, height);
    writer.add({.rgb_HWC = rgb, .width = width, .height = height});
  }
  writer.finish();
}

/// Frames of a file and their size; the blue of each first pixel.
struct ClipContent {
  std::int64_t frames = 0;
  std::int64_t width = 0;
  std::int64_t height = 0;
  double fps = 0;
  std::vector<int> blue;
};

inline ClipContent read_clip(const std::string& path) {
  auto reader = media::VideoReader::open(path);
  ClipContent content;
  content.width = reader.info().width;
  content.height = reader.info().height;
  content.fps = reader.info().fps.value();
  media::VideoFrame frame;
  while (reader.next(frame)) {
    ++content.frames;
    content.blue.push_back(frame.rgb_HWC[2]);
  }
  return content;
}

}  // namespace kinema::test
