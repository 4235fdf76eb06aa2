// SPDX-License-Identifier: Apache-2.0
// The frames of a video or picture file one after the other, scaled and resampled in time as asked,
// with the memory of a few frames.
//
//   const auto source = ClipSource::open("in.mp4", {.width = 256, .height = 256, .fps = 8});
//   while (const auto frame_HWC = source->next()) { ... }
//   if (source->facts().damage) { ... }
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/json.h"
#include "core/tensor/tensor.h"
#include "media/rational.h"

namespace kinema::pipeline {

struct ClipOptions {
  /// Pixels; the picture is scaled (bicubic, antialiased) until it covers this size and cut to its
  /// centre. 0: as it is.
  std::int64_t width = 0;
  std::int64_t height = 0;
  /// Frames per second: the frame on screen at k / fps, for every k within the clip. 0: every
  /// frame.
  double fps = 0;
  std::int64_t max_frames = 0;        ///< only the first frames; 0: all
  std::function<bool()> cancelled{};  ///< true ends next() with kCancelled
};

/// What is known about a clip; `frames`, `damage` and `size_changes` grow while it is read.
struct ClipFacts {
  std::string path;
  bool is_image = false;
  std::int64_t width = 0;  ///< of the frames that next() gives
  std::int64_t height = 0;
  media::Rational fps{24, 1};
  std::int64_t source_width = 0;  ///< upright, square pixels
  std::int64_t source_height = 0;
  std::int64_t expected_frames = 0;     ///< as the file declares; 0: unknown
  std::int64_t frames = 0;              ///< given so far
  std::optional<std::string> damage{};  ///< "truncated", "corrupt", ...; known at the end
  std::int64_t size_changes = 0;        ///< frames of another size that were scaled to the first's

  [[nodiscard]] OrderedJson to_json() const;
};

class ClipSource {
 public:
  virtual ~ClipSource() = default;
  /// Throws what media::VideoReader::open() and io::read_image() throw; kInvalidArgument
  /// [clip.options].
  static std::unique_ptr<ClipSource> open(const std::string& path, const ClipOptions& options = {});

  [[nodiscard]] virtual const ClipFacts& facts() const noexcept = 0;
  /// uint8 RGB [H, W, 3] on the CPU, or nothing at the end.
  [[nodiscard]] virtual std::optional<Tensor> next() = 0;
};

/// Frames of a clip, by reading it: what a container declares is not always what decodes.
[[nodiscard]] std::int64_t count_frames(const std::string& path, const ClipOptions& options = {});

/// Whether the file is a still picture (PNG, JPEG or BMP; an animated PNG is a video) by its first
/// bytes. False for a file that cannot be read.
[[nodiscard]] bool is_still_picture(const std::string& path);

}  // namespace kinema::pipeline
