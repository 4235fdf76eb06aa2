// SPDX-License-Identifier: Apache-2.0
// Training clips out of video files: a folder (searched through) or a manifest of JSON lines with
// "path" (relative to it) and optionally "caption". Needs the media library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "training/clip_source.h"

#include "core/base/log.h"

namespace kinema::training {

class VideoClips final : public ClipSource {
 public:
  /// Opens and counts every file; those that are no video or shorter than `frames` are left out
  /// with a warning. Every tenth video is held out for validation, at least one where there are
  /// two. Throws kIo [io.open], kBadData [train.data] when nothing is left, what parse_json throws.
  VideoClips(const std::string& path,
             std::int64_t size,
             std::int64_t frames,
             std::uint64_t seed,
             Logger& logger);

  /// A square cut of a place, time and, in training, size that the index decides. The shorter side
  /// is scaled to at least `size`.
  [[nodiscard]] Clip clip(std::int64_t index, std::int64_t frames) const override;

  [[nodiscard]] std::int64_t num_training_videos() const { return std::ssize(training_); }
  [[nodiscard]] std::int64_t num_validation_videos() const { return std::ssize(validation_); }

 private:
  struct Video {
    std::string path;
    std::string caption;
    std::int64_t frames = 0;
  };
  std::int64_t size_;
  std::uint64_t seed_;
  std::vector<Video> training_;
  std::vector<Video> validation_;
};

}  // namespace kinema::training
