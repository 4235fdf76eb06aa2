// SPDX-License-Identifier: Apache-2.0
#include "media/frame_source.h"

#include <algorithm>
#include <utility>

namespace kinema::media {
namespace {

std::int64_t stamp_of(const AVPacket& packet) {
  return packet.pts != AV_NOPTS_VALUE ? packet.pts : packet.dts;
}

std::int64_t stamp_of(const AVFrame& frame) {
  return frame.pts != AV_NOPTS_VALUE ? frame.pts : frame.pkt_dts;
}

}  // namespace

FrameSource::FrameSource(const std::string& path, const ReadOptions& options, Watchdog& watchdog)
    : path_(path), options_(options), watchdog_(watchdog), packet_(new_packet(kReaderPlace)) {
  demuxer_ = std::make_unique<Demuxer>(path_, options_, file_log_, watchdog_);
  open_decoder();
  clear();
}

void FrameSource::open_decoder() {
  decoder_ = checked(avcodec_alloc_context3(&demuxer_->decoder()), kReaderPlace);
  AVCodecContext& codec = *decoder_;
  codec_log_.attach(codec);
  if (avcodec_parameters_to_context(&codec, demuxer_->stream().codecpar) < 0) {
    throw bad_media("media.unsupported_codec", path_, "usable codec parameters", "none");
  }
  codec.pkt_timebase = demuxer_->stream().time_base;
  codec.max_pixels = options_.max_pixels;
  codec.thread_count = std::clamp(options_.threads, 1, 64);
  codec.thread_type = FF_THREAD_FRAME;
  codec.strict_std_compliance = FF_COMPLIANCE_NORMAL;
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(codec.codec_id);
  intra_only_ = descriptor != nullptr && (descriptor->props & AV_CODEC_PROP_INTRA_ONLY) != 0;
  const int opened = avcodec_open2(&codec, &demuxer_->decoder(), nullptr);
  if (opened < 0) {
    const AVCodecParameters& parameters = *demuxer_->stream().codecpar;
    const std::int64_t area = std::int64_t{parameters.width} * parameters.height;
    if (!codec_log_.refused_size().empty() || area > options_.max_pixels) {
      throw bad_media("media.too_large",
                      path_,
                      "at most " + std::to_string(options_.max_pixels) + " pixels",
                      std::to_string(parameters.width) + "x" + std::to_string(parameters.height));
    }
    const std::string why = codec_log_.first_error();
    throw bad_media(
        "media.unsupported_codec",
        path_,
        "a stream that its decoder accepts",
        std::string(demuxer_->decoder().name) + ": " + (why.empty() ? ffmpeg_error(opened) : why));
  }
}

void FrameSource::clear() {
  avcodec_flush_buffers(decoder_.get());
  packet_waits_ = false;
  input_ended_ = false;
  decoder_ended_ = false;
  // Until the first key frame there is nothing to lean on.
  tainted_ = !intra_only_;
  ignore_before_ = INT64_MIN;
  lines_seen_ = codec_log_.error_lines();
  recent_.clear();
  damaged_.clear();
  deinterlacer_.reset();
  drop_first_deinterlaced_ = false;
  previous_.reset();
  in_deinterlacer_.clear();
  ready_.clear();
}

void FrameSource::restart() {
  demuxer_.reset();
  decoder_.reset();
  demuxer_ = std::make_unique<Demuxer>(path_, options_, file_log_, watchdog_);
  open_decoder();
  clear();
  any_frame_ = false;
  first_loss_ = INT64_MAX;
  leading_packets_ = 0;
  undecodable_packets_ = 0;
}

void FrameSource::skip_to_packet(std::int64_t ordinal, std::int64_t ignore_before) {
  restart();
  ignore_before_ = ignore_before;
  for (std::int64_t i = 0; i < ordinal; ++i) {
    if (!demuxer_->read(*packet_)) {
      break;
    }
    watchdog_.renew();
  }
}

void FrameSource::note_damage(bool lost) {
  const std::int64_t lines = codec_log_.error_lines();
  const bool damage = lost || lines != lines_seen_;
  lines_seen_ = lines;
  if (!damage || recent_.empty()) {
    return;
  }
  if (lost && any_frame_ && recent_.back() != AV_NOPTS_VALUE) {
    first_loss_ = std::min(first_loss_, recent_.back());
  }
  for (const std::int64_t stamp : recent_) {
    if (stamp >= ignore_before_) {
      damaged_.insert(stamp);
      tainted_ = tainted_ || !intra_only_;
    }
  }
}

void FrameSource::send_packet() {
  if (!packet_waits_ && !demuxer_->read(*packet_)) {
    input_ended_ = true;
    avcodec_send_packet(decoder_.get(), nullptr);
    return;
  }
  packet_waits_ = false;
  const std::int64_t stamp = stamp_of(*packet_);
  if ((packet_->flags & AV_PKT_FLAG_KEY) != 0) {
    tainted_ = false;
  }
  recent_.push_back(stamp);
  while (recent_.size() > static_cast<std::size_t>(std::max(1, decoder_->thread_count))) {
    recent_.pop_front();
  }
  if ((tainted_ || (packet_->flags & AV_PKT_FLAG_CORRUPT) != 0) && stamp >= ignore_before_) {
    damaged_.insert(stamp);
    tainted_ = !intra_only_;
  }
  // Stamps of frames long gone need no memory any more.
  while (damaged_.size() > 4096) {
    damaged_.erase(damaged_.begin());
  }
  const int result = avcodec_send_packet(decoder_.get(), packet_.get());
  if (result == AVERROR(ENOMEM)) {
    throw Error(ErrorKind::kOutOfMemory,
                {.code = "out_of_memory", .place = kReaderPlace, .subject = path_});
  }
  const bool lost = result < 0 && result != AVERROR(EAGAIN) && result != AVERROR_EOF;
  note_damage(lost);
  if (lost) {
    ++(any_frame_ ? undecodable_packets_ : leading_packets_);
  }
}

bool FrameSource::decode(DecodedFrame& decoded) {
  decoded = DecodedFrame{};
  decoded.frame = new_frame(kReaderPlace);
  while (!decoder_ended_) {
    watchdog_.check(path_);
    const int result = avcodec_receive_frame(decoder_.get(), decoded.frame.get());
    if (result >= 0) {
      note_damage(false);
      describe(decoded);
      any_frame_ = true;
      watchdog_.renew();
      return true;
    }
    if (result == AVERROR_EOF) {
      decoder_ended_ = true;
    } else if (result == AVERROR(EAGAIN)) {
      note_damage(false);
      if (input_ended_) {
        decoder_ended_ = true;
      } else {
        send_packet();
      }
    } else if (result == AVERROR(ENOMEM)) {
      throw Error(ErrorKind::kOutOfMemory,
                  {.code = "out_of_memory", .place = kReaderPlace, .subject = path_});
    } else {
      note_damage(true);
      ++(any_frame_ ? undecodable_packets_ : leading_packets_);
    }
  }
  return false;
}

void FrameSource::describe(DecodedFrame& decoded) {
  AVFrame& frame = *decoded.frame;
  if (frame.best_effort_timestamp != AV_NOPTS_VALUE) {
    decoded.pts = frame.best_effort_timestamp;
  }
  decoded.duration = std::max<std::int64_t>(0, frame.pkt_duration);
  decoded.key = frame.key_frame != 0;
  decoded.interlaced = frame.interlaced_frame != 0;
  const AVRational aspect =
      av_guess_sample_aspect_ratio(&demuxer_->format(), &demuxer_->stream(), &frame);
  if (aspect.num > 0 && aspect.den > 0) {
    decoded.aspect = {aspect.num, aspect.den};
  }
  const std::int64_t stamp = stamp_of(frame);
  decoded.corrupt = (frame.flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame.decode_error_flags != 0 ||
                    (stamp != AV_NOPTS_VALUE && damaged_.contains(stamp));
}

bool FrameSource::next(DecodedFrame& frame) {
  while (ready_.empty()) {
    DecodedFrame decoded;
    if (decode(decoded)) {
      route(std::move(decoded));
    } else if (deinterlacer_) {
      finish_deinterlacer();
    } else {
      return false;
    }
  }
  frame = std::move(ready_.front());
  ready_.pop_front();
  return true;
}

void FrameSource::start_deinterlacer(const AVFrame& like) {
  try {
    deinterlacer_.emplace(like);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) {
      throw;
    }
    return;  // delivered as it is, with `deinterlaced` false
  }
  // The filter looks one frame back; the same one must be there after a seek.
  if (previous_ && deinterlacer_->fits(*previous_)) {
    deinterlacer_->push(previous_.get());
    drop_first_deinterlaced_ = true;
  }
}

void FrameSource::route(DecodedFrame decoded) {
  interlaced_ = interlaced_ || decoded.interlaced;
  if (deinterlacer_ && !deinterlacer_->fits(*decoded.frame)) {
    finish_deinterlacer();
  }
  if (!deinterlacer_ && decoded.interlaced) {
    start_deinterlacer(*decoded.frame);
  }
  if (!deinterlacer_) {
    previous_ = checked(av_frame_clone(decoded.frame.get()), kReaderPlace);
    ready_.push_back(std::move(decoded));
    return;
  }
  deinterlacer_->push(decoded.frame.get());
  in_deinterlacer_.push_back(std::move(decoded));
  collect_deinterlaced();
}

void FrameSource::collect_deinterlaced() {
  while (FramePtr frame = deinterlacer_->pull()) {
    if (std::exchange(drop_first_deinterlaced_, false)) {
      continue;
    }
    if (in_deinterlacer_.empty()) {
      break;
    }
    DecodedFrame decoded = std::move(in_deinterlacer_.front());
    in_deinterlacer_.pop_front();
    decoded.deinterlaced = decoded.interlaced;
    if (decoded.interlaced) {
      decoded.frame = std::move(frame);
    }
    ready_.push_back(std::move(decoded));
  }
}

void FrameSource::finish_deinterlacer() {
  deinterlacer_->push(nullptr);
  collect_deinterlaced();
  deinterlacer_.reset();
  drop_first_deinterlaced_ = false;
  previous_.reset();
  // A filter that kept a frame back must not swallow it.
  for (DecodedFrame& decoded : in_deinterlacer_) {
    ready_.push_back(std::move(decoded));
  }
  in_deinterlacer_.clear();
}

}  // namespace kinema::media
