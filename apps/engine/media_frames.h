// SPDX-License-Identifier: Apache-2.0
// Pictures and clips on disk for the pipeline, and previews from it.
#pragma once

#include <string>

#include "core/base/log.h"
#include "core/tensor/tensor.h"
#include "media/rational.h"
#include "pipeline/given_frames.h"

namespace kinema::engine {

/// Frames of pictures (PNG, JPEG, BMP) and of whatever media/ reads as video.
class MediaFrames final : public pipeline::FrameSource {
 public:
  [[nodiscard]] std::int64_t count(const std::string& path) override;
  void read(const std::string& path,
            std::int64_t first,
            std::int64_t count,
            const pipeline::ImageConsumer& consumer) override;
};

/// A file that shows how far a generation is: .png (one picture) or .gif. Each write replaces the
/// file at once; one that fails is a warning, the run goes on.
class PreviewFile {
 public:
  /// Throws kInvalidArgument [usage.value] for other extensions, kOutput for a folder that cannot
  /// be written.
  PreviewFile(std::string path, Logger& logger);

  [[nodiscard]] bool is_animation() const { return path_.ends_with(".gif"); }
  void write(const Tensor& frames_FHWC, std::int64_t steps_done, double seconds);
  [[nodiscard]] std::int64_t num_written() const noexcept { return num_written_; }
  [[nodiscard]] double seconds() const noexcept { return seconds_; }

 private:
  std::string path_;
  Logger& logger_;
  std::int64_t num_written_ = 0;
  double seconds_ = 0;
};

}  // namespace kinema::engine
