// SPDX-License-Identifier: Apache-2.0
// Owners of FFmpeg objects. Internal to media/: the facade headers include nothing of FFmpeg.
#pragma once

#include <memory>
#include <string>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavcodec/bsf.h>
#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/dict.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include "core/base/error.h"

namespace kinema::media {

struct FfmpegDeleter {
  void operator()(AVFrame* p) const { av_frame_free(&p); }
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
  void operator()(AVBSFContext* p) const { av_bsf_free(&p); }
  void operator()(SwsContext* p) const { sws_freeContext(p); }
  void operator()(AVFilterGraph* p) const { avfilter_graph_free(&p); }
  /// For contexts of avio_alloc_context: the buffer may have been replaced since.
  void operator()(AVIOContext* p) const {
    av_freep(&p->buffer);
    avio_context_free(&p);
  }
};

struct InputFormatDeleter {
  void operator()(AVFormatContext* p) const { avformat_close_input(&p); }
};
struct OutputFormatDeleter {
  void operator()(AVFormatContext* p) const { avformat_free_context(p); }
};

using FramePtr = std::unique_ptr<AVFrame, FfmpegDeleter>;
using PacketPtr = std::unique_ptr<AVPacket, FfmpegDeleter>;
using CodecContextPtr = std::unique_ptr<AVCodecContext, FfmpegDeleter>;
using BsfContextPtr = std::unique_ptr<AVBSFContext, FfmpegDeleter>;
using SwsContextPtr = std::unique_ptr<SwsContext, FfmpegDeleter>;
using FilterGraphPtr = std::unique_ptr<AVFilterGraph, FfmpegDeleter>;
using IoContextPtr = std::unique_ptr<AVIOContext, FfmpegDeleter>;
using InputFormatPtr = std::unique_ptr<AVFormatContext, InputFormatDeleter>;
using OutputFormatPtr = std::unique_ptr<AVFormatContext, OutputFormatDeleter>;

/// An AVDictionary with an owner.
class Dictionary {
 public:
  Dictionary() = default;
  ~Dictionary() { av_dict_free(&entries_); }
  Dictionary(const Dictionary&) = delete;
  Dictionary& operator=(const Dictionary&) = delete;

  void set(const char* key, const std::string& value) {
    av_dict_set(&entries_, key, value.c_str(), 0);
  }
  [[nodiscard]] AVDictionary** address() { return &entries_; }

 private:
  AVDictionary* entries_ = nullptr;
};

/// FFmpeg's text for an error number.
[[nodiscard]] inline std::string ffmpeg_error(int number) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  return av_strerror(number, text, sizeof(text)) == 0 ? std::string(text)
                                                      : "error " + std::to_string(number);
}

/// Throws kOutOfMemory when an FFmpeg allocation gave nothing, otherwise wraps it.
template <typename T>
[[nodiscard]] std::unique_ptr<T, FfmpegDeleter> checked(T* pointer, const char* place) {
  if (pointer == nullptr) {
    throw Error(
        ErrorKind::kOutOfMemory,
        {.code = "out_of_memory", .place = place, .subject = "FFmpeg could not get memory"});
  }
  return std::unique_ptr<T, FfmpegDeleter>(pointer);
}

[[nodiscard]] inline FramePtr new_frame(const char* place) {
  return checked(av_frame_alloc(), place);
}
[[nodiscard]] inline PacketPtr new_packet(const char* place) {
  return checked(av_packet_alloc(), place);
}

}  // namespace kinema::media
