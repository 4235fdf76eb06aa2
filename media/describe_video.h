// SPDX-License-Identifier: Apache-2.0
// VideoInfo from a stream's headers and its first frame. Internal to media/.
#pragma once

#include "media/demuxer.h"
#include "media/frame_converter.h"
#include "media/video_reader.h"

namespace kinema::media {

/// What the headers say, and how frames have to be turned.
[[nodiscard]] VideoInfo describe_stream(const Demuxer& demuxer, Orientation& orientation);

/// Adds what only a decoded picture tells: coded size, pixel format, range, HDR.
void describe_frame(const AVFrame& frame, VideoInfo& info);

}  // namespace kinema::media
