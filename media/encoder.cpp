// SPDX-License-Identifier: Apache-2.0
#include "media/encoder.h"

#include "media/frame_converter.h"
#include "media/output_sink.h"

namespace kinema::media {

Error encode_error(const std::string& path, const char* what, int number) {
  if (number == AVERROR(ENOMEM)) {
    return Error(ErrorKind::kOutOfMemory,
                 {.code = "out_of_memory", .place = kWriterPlace, .subject = path});
  }
  return Error(ErrorKind::kOutput,
               {.code = "media.encode",
                .place = kWriterPlace,
                .subject = path,
                .expected = what,
                .got = ffmpeg_error(number)});
}

const char* encoder_name(VideoFormat format) {
  switch (format) {
    case VideoFormat::kMp4:
    case VideoFormat::kMov:
      return "libx264";
    case VideoFormat::kWebm:
      return "libvpx-vp9";
    case VideoFormat::kMkv:
      return "ffv1";
    case VideoFormat::kGif:
      return "gif";
    case VideoFormat::kY4m:
    case VideoFormat::kPng:
    case VideoFormat::kAuto:
      break;
  }
  return nullptr;
}

PlaneConverter::PlaneConverter(std::int64_t width,
                               std::int64_t height,
                               AVPixelFormat format,
                               AVColorSpace matrix) {
  const auto w = static_cast<int>(width);
  const auto h = static_cast<int>(height);
  frame_ = new_frame(kWriterPlace);
  frame_->width = w;
  frame_->height = h;
  frame_->format = format;
  if (format == AV_PIX_FMT_BGR0) {
    return;  // packed by hand: swscale would go through YUV
  }
  constexpr int kFlags =
      SWS_BICUBIC | SWS_FULL_CHR_H_INP | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT;
  scaler_ = checked(
      sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, format, kFlags, nullptr, nullptr, nullptr),
      kWriterPlace);
  sws_setColorspaceDetails(scaler_.get(),
                           sws_getCoefficients(SWS_CS_DEFAULT),
                           1,
                           sws_getCoefficients(sws_matrix(matrix)),
                           0,
                           0,
                           1 << 16,
                           1 << 16);
  frame_->color_range = AVCOL_RANGE_MPEG;
  frame_->colorspace = matrix;
  frame_->color_primaries = AVCOL_PRI_BT709;
  frame_->color_trc = AVCOL_TRC_BT709;
}

AVFrame& PlaneConverter::convert(const FrameView& view) {
  const int ready = frame_->buf[0] == nullptr ? av_frame_get_buffer(frame_.get(), 64)
                                              : av_frame_make_writable(frame_.get());
  if (ready < 0) {
    throw encode_error("frame", "memory", AVERROR(ENOMEM));
  }
  if (!scaler_) {
    pack_bgr0(view);
    return *frame_;
  }
  const std::uint8_t* planes[4] = {view.rgb_HWC.data(), nullptr, nullptr, nullptr};
  const int strides[4] = {static_cast<int>(view.stride), 0, 0, 0};
  sws_scale(scaler_.get(), planes, strides, 0, frame_->height, frame_->data, frame_->linesize);
  return *frame_;
}

void PlaneConverter::pack_bgr0(const FrameView& view) {
  for (std::int64_t y = 0; y < view.height; ++y) {
    const std::uint8_t* from = view.rgb_HWC.data() + y * view.stride;
    std::uint8_t* to = frame_->data[0] + y * frame_->linesize[0];
    for (std::int64_t x = 0; x < view.width; ++x, from += 3, to += 4) {
      to[0] = from[2];
      to[1] = from[1];
      to[2] = from[0];
      to[3] = 0;
    }
  }
}

}  // namespace kinema::media
