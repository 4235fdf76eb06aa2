// SPDX-License-Identifier: Apache-2.0
#include "media/describe_video.h"

#include <cmath>

namespace kinema::media {
namespace {

Rational guess_fps(const AVStream& stream) {
  for (const AVRational rate : {stream.avg_frame_rate, stream.r_frame_rate}) {
    if (rate.num > 0 && rate.den > 0 && av_q2d(rate) <= 1000.0) {
      return {rate.num, rate.den};
    }
  }
  return {};
}

void describe_rate(const Demuxer& demuxer, VideoInfo& info) {
  const AVStream& stream = demuxer.stream();
  info.fps = guess_fps(stream);
  if (!info.fps.positive()) {
    info.fps = {25, 1};
    info.fps_guessed = true;
  }
  info.times_from_rate = demuxer.has_no_timestamps();
  // AV1 streams without a container seldom tell their rate; FFmpeg then says 25.
  info.fps_guessed = info.fps_guessed ||
                     (info.times_from_rate && (info.container == "obu" || info.container == "av1"));
  info.time_base = info.times_from_rate ? Rational{info.fps.den, info.fps.num}
                                        : Rational{stream.time_base.num, stream.time_base.den};
  const auto rate = [](AVRational value) { return value.den > 0 ? av_q2d(value) : 0.0; };
  const double average = rate(stream.avg_frame_rate);
  const double base = rate(stream.r_frame_rate);
  if (info.times_from_rate) {
    info.variable_rate = false;
  } else if (average > 0.0 && base > 0.0 && std::abs(base / average - 1.0) > 0.02) {
    info.variable_rate = true;
  }
}

}  // namespace

VideoInfo describe_stream(const Demuxer& demuxer, Orientation& orientation) {
  const AVFormatContext& format = demuxer.format();
  const AVStream& stream = demuxer.stream();
  VideoInfo info;
  info.container = format.iformat->name;
  info.codec = avcodec_get_name(stream.codecpar->codec_id);
  info.num_streams = format.nb_streams;
  info.num_video_streams = demuxer.num_video_streams();
  info.stream_index = stream.index;
  info.has_audio = demuxer.has_audio();
  if (const AVDictionaryEntry* comment = av_dict_get(format.metadata, "comment", nullptr, 0)) {
    info.comment = comment->value;
  }
  if (stream.nb_frames > 0) {
    info.declared_frames = stream.nb_frames;
  }
  if (stream.duration > 0) {
    info.duration_seconds = static_cast<double>(stream.duration) * av_q2d(stream.time_base);
  } else if (format.duration > 0) {
    info.duration_seconds = static_cast<double>(format.duration) / AV_TIME_BASE;
  }
  if (const auto* matrix = reinterpret_cast<const std::int32_t*>(
          av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr))) {
    orientation = Orientation::from_matrix(matrix);
  }
  info.rotation = orientation.rotation();
  info.mirrored = orientation.mirrored();
  const AVFieldOrder order = stream.codecpar->field_order;
  info.interlaced = order != AV_FIELD_PROGRESSIVE && order != AV_FIELD_UNKNOWN;
  describe_rate(demuxer, info);
  return info;
}

void describe_frame(const AVFrame& frame, VideoInfo& info) {
  info.coded_width = frame.width;
  info.coded_height = frame.height;
  const auto format = static_cast<AVPixelFormat>(frame.format);
  if (const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format)) {
    info.pixel_format = descriptor->name;
    info.bit_depth = descriptor->comp[0].depth;
    info.has_alpha = (descriptor->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
  }
  info.full_range = is_full_range(format, frame.color_range);
  info.hdr = hdr_kind(frame.color_trc);
  info.wide_gamut = frame.color_primaries == AVCOL_PRI_BT2020;
}

}  // namespace kinema::media
