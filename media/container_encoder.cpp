// SPDX-License-Identifier: Apache-2.0
// H.264, VP9 and FFV1 in their containers.
#include <algorithm>
#include <cmath>

#include "core/io/container_metadata.h"
#include "core/io/xmp.h"
#include "media/encoder.h"
#include "media/ffmpeg_log.h"
#include "media/output_sink.h"

namespace kinema::media {
namespace {

const char* muxer_name(VideoFormat format) {
  switch (format) {
    case VideoFormat::kMov:
      return "mov";
    case VideoFormat::kWebm:
      return "webm";
    case VideoFormat::kMkv:
      return "matroska";
    default:
      return "mp4";
  }
}

AVPixelFormat pixel_format(VideoFormat format) {
  return format == VideoFormat::kMkv ? AV_PIX_FMT_BGR0 : AV_PIX_FMT_YUV420P;
}

class ContainerEncoder final : public Encoder {
 public:
  ContainerEncoder(const std::string& path, VideoFormat format, const WriteOptions& options)
      : format_kind_(format),
        options_(options),
        sink_(path),
        converter_(options.width, options.height, pixel_format(format), AVCOL_SPC_BT709),
        packet_(new_packet(kWriterPlace)) {
    open_muxer();
    open_encoder();
    write_header();
  }

  void add(const FrameView& view) override {
    AVFrame& frame = converter_.convert(view);
    frame.pts = next_pts_++;
    encode(&frame);
  }

  std::uint64_t finish() override {
    encode(nullptr);
    if (filter_) {
      filter(nullptr);
    }
    require(av_write_trailer(muxer_.get()), "a complete file");
    sink_.close();
    muxer_->pb = nullptr;
    const bool boxes = format_kind_ == VideoFormat::kMp4 || format_kind_ == VideoFormat::kMov;
    if (boxes && !sink_.is_stdout() && !options_.provenance.empty()) {
      io::append_xmp_box(sink_.part(), io::wrap_xmp(options_.provenance));
    }
    return sink_.publish();
  }

 private:
  // The sink knows better than FFmpeg why something could not be written.
  void require(int result, const char* what) {
    sink_.rethrow();
    if (result < 0) {
      throw encode_error(sink_.path(), what, result);
    }
  }

  void open_muxer() {
    AVFormatContext* muxer = nullptr;
    const std::string url = sink_.is_stdout() ? "" : "file:" + sink_.part();
    const int made =
        avformat_alloc_output_context2(&muxer, nullptr, muxer_name(format_kind_), url.c_str());
    require(made, "a muxer");
    muxer_.reset(muxer);
    log_.attach(*muxer);
    muxer->pb = sink_.io();
    muxer->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    if (!options_.provenance.empty()) {
      av_dict_set(&muxer->metadata, "comment", options_.provenance.c_str(), 0);
    }
  }

  void open_encoder() {
    const AVCodec* codec = avcodec_find_encoder_by_name(encoder_name(format_kind_));
    encoder_ = checked(avcodec_alloc_context3(codec), kWriterPlace);
    AVCodecContext& encoder = *encoder_;
    log_.attach(encoder);
    encoder.width = static_cast<int>(options_.width);
    encoder.height = static_cast<int>(options_.height);
    encoder.pix_fmt = pixel_format(format_kind_);
    encoder.time_base = {static_cast<int>(options_.fps.den), static_cast<int>(options_.fps.num)};
    encoder.framerate = {static_cast<int>(options_.fps.num), static_cast<int>(options_.fps.den)};
    encoder.sample_aspect_ratio = {1, 1};
    encoder.thread_count = options_.threads;
    encoder.flags |= AV_CODEC_FLAG_BITEXACT;
    if ((muxer_->oformat->flags & AVFMT_GLOBALHEADER) != 0) {
      encoder.flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    }
    if (format_kind_ != VideoFormat::kMkv) {
      encoder.color_range = AVCOL_RANGE_MPEG;
      encoder.colorspace = AVCOL_SPC_BT709;
      encoder.color_primaries = AVCOL_PRI_BT709;
      encoder.color_trc = AVCOL_TRC_BT709;
      const double key_frames = options_.key_interval_seconds * options_.fps.value();
      encoder.gop_size = static_cast<int>(std::clamp(std::round(key_frames), 1.0, 1000.0));
    }
    Dictionary settings;
    choose_settings(encoder, settings);
    require(avcodec_open2(&encoder, codec, settings.address()), "an encoder for these settings");
  }

  void choose_settings(AVCodecContext& encoder, Dictionary& settings) {
    switch (format_kind_) {
      case VideoFormat::kWebm:
        settings.set("crf", std::to_string(options_.crf.value_or(24)));
        settings.set("b", "0");
        settings.set("deadline", "good");
        settings.set("cpu-used", "3");
        settings.set("row-mt", "1");
        break;
      case VideoFormat::kMkv:
        settings.set("level", "3");
        settings.set("slicecrc", "1");
        // Slices decide the bytes; threads do not.
        settings.set("slices", options_.width * options_.height >= 64 * 64 ? "4" : "1");
        encoder.gop_size = 1;
        break;
      default:
        encoder.max_b_frames = options_.b_frames;
        settings.set("preset", options_.preset);
        settings.set("crf", std::to_string(options_.crf.value_or(18)));
        settings.set("x264-params", "cpu-independent=1:open-gop=0");
        break;
    }
  }

  void write_header() {
    AVStream* stream = avformat_new_stream(muxer_.get(), nullptr);
    require(stream == nullptr ? AVERROR(ENOMEM) : 0, "a stream");
    require(avcodec_parameters_from_context(stream->codecpar, encoder_.get()), "stream parameters");
    stream->time_base = encoder_->time_base;
    stream->avg_frame_rate = encoder_->framerate;
    stream->r_frame_rate = encoder_->framerate;
    if (encoder_->codec_id == AV_CODEC_ID_H264) {
      open_filter(*stream);
    }
    Dictionary settings;
    if (format_kind_ == VideoFormat::kMp4 || format_kind_ == VideoFormat::kMov) {
      settings.set(
          "movflags",
          sink_.is_stdout() ? "+frag_keyframe+empty_moov+default_base_moof" : "+faststart");
    }
    require(avformat_write_header(muxer_.get(), settings.address()), "a header");
  }

  // x264 writes its version and settings into the stream; removing that message keeps the bytes the
  // same between builds.
  void open_filter(AVStream& stream) {
    AVBSFContext* filter = nullptr;
    const AVBitStreamFilter* kind = av_bsf_get_by_name("filter_units");
    require(kind == nullptr ? AVERROR_BSF_NOT_FOUND : av_bsf_alloc(kind, &filter),
            "a bit stream filter");
    filter_.reset(filter);
    require(avcodec_parameters_copy(filter->par_in, stream.codecpar), "filter parameters");
    filter->time_base_in = encoder_->time_base;
    require(av_opt_set(filter->priv_data, "remove_types", "6", 0), "a filter option");
    require(av_bsf_init(filter), "a bit stream filter");
    require(avcodec_parameters_copy(stream.codecpar, filter->par_out), "stream parameters");
  }

  void encode(const AVFrame* frame) {
    require(avcodec_send_frame(encoder_.get(), frame), "an encoded frame");
    for (;;) {
      const int result = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
        return;
      }
      require(result, "an encoded frame");
      // VP9 and FFV1 leave it out; without it the last frame has no length.
      packet_->duration = 1;
      if (filter_) {
        filter(packet_.get());
      } else {
        write(*packet_);
      }
    }
  }

  void filter(AVPacket* packet) {
    require(av_bsf_send_packet(filter_.get(), packet), "a filtered packet");
    for (;;) {
      const int result = av_bsf_receive_packet(filter_.get(), packet_.get());
      if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
        return;
      }
      require(result, "a filtered packet");
      write(*packet_);
    }
  }

  void write(AVPacket& packet) {
    const AVStream& stream = *muxer_->streams[0];
    packet.stream_index = 0;
    av_packet_rescale_ts(&packet, encoder_->time_base, stream.time_base);
    require(av_interleaved_write_frame(muxer_.get(), &packet), "a written packet");
  }

  VideoFormat format_kind_;
  WriteOptions options_;
  LogCapture log_;
  OutputSink sink_;
  PlaneConverter converter_;
  PacketPtr packet_;
  OutputFormatPtr muxer_;
  CodecContextPtr encoder_;
  BsfContextPtr filter_;
  std::int64_t next_pts_ = 0;
};

}  // namespace

std::unique_ptr<Encoder> make_container_encoder(const std::string& path,
                                                VideoFormat format,
                                                const WriteOptions& options) {
  return std::make_unique<ContainerEncoder>(path, format, options);
}

}  // namespace kinema::media
