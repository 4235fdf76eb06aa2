// SPDX-License-Identifier: Apache-2.0
// Where pictures go: a video, a folder of pictures, or one PNG file; complete under its name or
// absent. MP4 and MOV want even sides: odd ones get one more row or column, the edge repeated.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/tensor/tensor.h"
#include "media/video_writer.h"

namespace kinema::pipeline {

class FrameSink {
 public:
  /// What can be checked before work starts. @param num_frames  if it is known; a name.png without
  /// a number takes one. Throws what media::validate_output() throws.
  static void validate(const std::string& path,
                       const media::WriteOptions& options,
                       std::optional<std::int64_t> num_frames = {});
  /// Throws what validate() and media::VideoWriter::open() throw.
  FrameSink(const std::string& path, const media::WriteOptions& options);
  ~FrameSink();

  /// Of what is written, which may be one more than what was asked for.
  [[nodiscard]] std::int64_t width() const noexcept { return options_.width; }
  [[nodiscard]] std::int64_t height() const noexcept { return options_.height; }

  /// @param frame_HWC  uint8 RGB of the size asked for. Throws what media::VideoWriter::add()
  /// throws.
  void add(const Tensor& frame_HWC);
  media::WriteReport finish();

 private:
  std::string path_;
  media::WriteOptions options_;
  std::optional<media::VideoWriter> writer_;  ///< not for one PNG file
  Tensor picture_HWC_;                        ///< of one PNG file
};

}  // namespace kinema::pipeline
