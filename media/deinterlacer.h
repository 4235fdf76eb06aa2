// SPDX-License-Identifier: Apache-2.0
// bwdif: one whole frame per interlaced frame; progressive frames pass unchanged. Internal to
// media/.
#pragma once

#include "media/ffmpeg_ptr.h"

namespace kinema::media {

class Deinterlacer {
 public:
  /// For frames of the size and format of `like`. Throws kUnsupported [media.deinterlace] when
  /// FFmpeg cannot do it (pictures under four pixels).
  explicit Deinterlacer(const AVFrame& like);

  [[nodiscard]] bool fits(const AVFrame& frame) const;
  /// The next frame in presentation order; nothing: the end.
  void push(const AVFrame* frame);
  /// One frame for each that was pushed, in order, one push later; nothing: push more.
  [[nodiscard]] FramePtr pull();

 private:
  int width_;
  int height_;
  int format_;
  std::int64_t pushed_ = 0;
  FilterGraphPtr graph_;
  AVFilterContext* source_ = nullptr;
  AVFilterContext* sink_ = nullptr;
};

}  // namespace kinema::media
