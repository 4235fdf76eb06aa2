// SPDX-License-Identifier: Apache-2.0
// Where pictures go: a video, a folder of pictures, or one PNG file; complete under its name or
// absent.
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

  /// @param frame_HWC  uint8 RGB, contiguous. Throws what media::VideoWriter::add() throws.
  void add(const Tensor& frame_HWC);
  media::WriteReport finish();

 private:
  std::string path_;
  std::optional<media::VideoWriter> writer_;  ///< not for one PNG file
  Tensor picture_HWC_;                        ///< of one PNG file
};

}  // namespace kinema::pipeline
