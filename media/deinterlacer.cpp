// SPDX-License-Identifier: Apache-2.0
#include "media/deinterlacer.h"

#include "media/demuxer.h"

namespace kinema::media {
namespace {

void require(bool good) {
  if (!good) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "media.deinterlace",
                 .place = kReaderPlace,
                 .subject = "FFmpeg's filter bwdif does not take these frames"});
  }
}

}  // namespace

Deinterlacer::Deinterlacer(const AVFrame& like)
    : width_(like.width), height_(like.height), format_(like.format) {
  graph_ = checked(avfilter_graph_alloc(), kReaderPlace);
  graph_->nb_threads = 1;
  const std::string arguments = "video_size=" + std::to_string(width_) + "x" +
                                std::to_string(height_) + ":pix_fmt=" + std::to_string(format_) +
                                ":time_base=1/1";
  require(avfilter_graph_create_filter(&source_,
                                       avfilter_get_by_name("buffer"),
                                       "in",
                                       arguments.c_str(),
                                       nullptr,
                                       graph_.get()) >= 0);
  AVFilterContext* bwdif = nullptr;
  require(avfilter_graph_create_filter(&bwdif,
                                       avfilter_get_by_name("bwdif"),
                                       "bwdif",
                                       "mode=send_frame:parity=auto:deint=interlaced",
                                       nullptr,
                                       graph_.get()) >= 0);
  require(avfilter_graph_create_filter(
              &sink_, avfilter_get_by_name("buffersink"), "out", nullptr, nullptr, graph_.get()) >=
          0);
  require(avfilter_link(source_, 0, bwdif, 0) >= 0 && avfilter_link(bwdif, 0, sink_, 0) >= 0 &&
          avfilter_graph_config(graph_.get(), nullptr) >= 0);
}

bool Deinterlacer::fits(const AVFrame& frame) const {
  return frame.width == width_ && frame.height == height_ && frame.format == format_;
}

void Deinterlacer::push(const AVFrame* frame) {
  if (frame == nullptr) {
    require(av_buffersrc_add_frame(source_, nullptr) >= 0);
    return;
  }
  const FramePtr copy = checked(av_frame_clone(frame), kReaderPlace);
  copy->pts = pushed_++;
  require(av_buffersrc_add_frame(source_, copy.get()) >= 0);
}

FramePtr Deinterlacer::pull() {
  FramePtr frame = new_frame(kReaderPlace);
  const int result = av_buffersink_get_frame(sink_, frame.get());
  if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
    return nullptr;
  }
  require(result >= 0);
  return frame;
}

}  // namespace kinema::media
