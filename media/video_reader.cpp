// SPDX-License-Identifier: Apache-2.0
#include "media/video_reader.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <utility>

#include "media/describe_video.h"
#include "media/frame_converter.h"
#include "media/frame_source.h"
#include "media/packet_index.h"
#include "media/timeline.h"

namespace kinema::media {
class VideoReader::Impl {
 public:
  Impl(const std::string& path, const ReadOptions& options);

  [[nodiscard]] bool next(VideoFrame& frame);
  [[nodiscard]] bool seek_to_index(std::int64_t index);
  [[nodiscard]] std::optional<VideoFrame> read_at_time(double seconds);
  [[nodiscard]] std::int64_t count_frames();
  [[nodiscard]] bool has_exact_index();

  VideoInfo info;
  ReadReport report;

 private:
  struct TimedFrame {
    DecodedFrame decoded;
    Timeline::Stamp stamp;
  };

  void open();
  void start_times();
  [[noreturn]] void fail_without_frames();
  void refine_rate();
  [[nodiscard]] bool fetch(TimedFrame& timed);
  void deliver(TimedFrame timed, VideoFrame& frame);
  void count(const VideoFrame& frame, bool after_loss);
  void finish_report();
  [[nodiscard]] bool skip_to(std::int64_t index);
  void go_to_start();
  [[nodiscard]] bool jump_to(std::int64_t index);
  [[nodiscard]] bool land_on(std::int64_t key, std::int64_t index);
  [[nodiscard]] const PacketIndex& packet_index();

  std::string path_;
  ReadOptions options_;
  Watchdog watchdog_;
  FrameSource source_;
  FrameConverter converter_;
  Orientation orientation_;
  std::optional<Timeline> timeline_;
  std::optional<PacketIndex> index_;
  bool distrust_index_ = false;
  std::deque<DecodedFrame> pending_;  ///< decoded, before their time was given
  std::int64_t next_index_ = 0;
  bool sparse_times_ = false;  ///< the format need not give every frame a time stamp
  bool in_order_ = true;       ///< everything since the start was delivered
};

VideoReader::Impl::Impl(const std::string& path, const ReadOptions& options)
    : path_(path),
      options_(options),
      watchdog_(options),
      source_(path, options, watchdog_),
      converter_(options) {
  open();
}

void VideoReader::Impl::open() {
  info = describe_stream(source_.demuxer(), orientation_);
  report.declared_frames = info.declared_frames;
  sparse_times_ = info.container == "avi" || info.container == "mpeg" || info.container == "mpegts";
  start_times();
  const DecodedFrame& first = pending_.front();
  describe_frame(*first.frame, info);
  const FrameConverter::Shape shape =
      converter_.square_size(first.frame->width, first.frame->height, first.aspect, path_);
  info.sample_aspect_ratio = first.aspect;
  info.width = orientation_.swaps_sides() ? shape.height : shape.width;
  info.height = orientation_.swaps_sides() ? shape.width : shape.height;
  info.interlaced = info.interlaced || first.interlaced;
  // A rate of one tick a frame is no rate: the container stores none. The packets know.
  if (!info.times_from_rate && info.fps.value() * info.time_base.value() > 0.5 &&
      info.fps.value() > 120.0) {
    refine_rate();
  }
}

void VideoReader::Impl::refine_rate() {
  const PacketIndex& packets = packet_index();
  const std::int64_t frames = packets.num_frames();
  if (!has_exact_index() || frames < 2) {
    info.fps_guessed = true;
    return;
  }
  const std::int64_t ticks = packets.frame_pts(frames - 1) - packets.frame_pts(0);
  int num = 0;
  int den = 1;
  const auto scaled = static_cast<double>(ticks) * static_cast<double>(info.time_base.num);
  if (scaled > 0.0 && scaled < 9e15) {
    av_reduce(&num, &den, (frames - 1) * info.time_base.den, ticks * info.time_base.num, 1 << 24);
    info.fps = {num, den};
  }
}

// Decodes until a frame tells its time, at most a handful.
void VideoReader::Impl::start_times() {
  constexpr std::size_t kMost = 16;
  pending_.clear();
  std::int64_t without = 0;
  while (pending_.size() < kMost) {
    DecodedFrame decoded;
    if (!source_.next(decoded)) {
      break;
    }
    const bool timed = decoded.pts.has_value() || info.times_from_rate;
    pending_.push_back(std::move(decoded));
    if (timed) {
      break;
    }
    ++without;
  }
  if (pending_.empty()) {
    fail_without_frames();
  }
  const double ticks =
      info.fps.positive() ? 1.0 / (info.fps.value() * info.time_base.value()) : 1.0;
  const std::int64_t step =
      ticks >= 1.0 && ticks < 9e15 ? static_cast<std::int64_t>(std::llround(ticks)) : 1;
  timeline_.emplace(step);
  info.start_pts = 0;
  if (!info.times_from_rate && pending_.back().pts) {
    std::int64_t back = 0;
    std::int64_t start = 0;
    if (!__builtin_mul_overflow(step, without, &back) &&
        !__builtin_sub_overflow(*pending_.back().pts, back, &start)) {
      info.start_pts = start;
    }
  }
}

void VideoReader::Impl::fail_without_frames() {
  const Demuxer& demuxer = source_.demuxer();
  const AVCodecParameters& parameters = *demuxer.stream().codecpar;
  const std::int64_t area = std::int64_t{parameters.width} * parameters.height;
  const std::string refused = source_.codec_log().refused_size();
  if (!refused.empty() || area > options_.max_pixels) {
    throw bad_media("media.too_large",
                    path_,
                    "at most " + std::to_string(options_.max_pixels) + " pixels",
                    refused.empty()
                        ? std::to_string(parameters.width) + "x" + std::to_string(parameters.height)
                        : refused);
  }
  if (demuxer.truncated()) {
    throw bad_media("media.truncated",
                    path_,
                    std::to_string(demuxer.stream().nb_frames) + " frames",
                    "none that decodes",
                    "the file ends before its first picture");
  }
  const std::string why = source_.codec_log().first_error();
  throw bad_media("media.corrupt",
                  path_,
                  "pictures that decode",
                  std::to_string(demuxer.packets()) + " packets and no picture" +
                      (why.empty() ? "" : " (" + why + ")"));
}

bool VideoReader::Impl::fetch(TimedFrame& timed) {
  if (!pending_.empty()) {
    timed.decoded = std::move(pending_.front());
    pending_.pop_front();
  } else if (!source_.next(timed.decoded)) {
    return false;
  }
  std::optional<std::int64_t> raw = timed.decoded.pts;
  if (info.times_from_rate) {
    raw = next_index_;
  } else if (!raw && next_index_ == 0) {
    // One step before the first frame that has a time, or several.
    timed.stamp = timeline_->next(info.start_pts);
    timed.stamp.repaired = true;
    return true;
  }
  timed.stamp = timeline_->next(raw);
  if (!raw && sparse_times_) {
    timed.stamp.repaired = false;
  }
  return true;
}

void VideoReader::Impl::deliver(TimedFrame timed, VideoFrame& frame) {
  const DecodedFrame& decoded = timed.decoded;
  converter_.convert(*decoded.frame, decoded.aspect, orientation_, path_, frame);
  frame.index = next_index_++;
  if (__builtin_sub_overflow(timed.stamp.pts, info.start_pts, &frame.pts)) {
    frame.pts = std::numeric_limits<std::int64_t>::max();
  }
  const double unit = info.time_base.value();
  frame.time_seconds = static_cast<double>(frame.pts) * unit;
  frame.duration_seconds =
      info.times_from_rate ? unit : static_cast<double>(decoded.duration) * unit;
  frame.key = decoded.key;
  frame.corrupt = decoded.corrupt;
  frame.repaired_time = timed.stamp.repaired;
  frame.deinterlaced = decoded.deinterlaced;
  info.interlaced = info.interlaced || decoded.interlaced;
  if (in_order_) {
    report.interlaced_frames += decoded.interlaced ? 1 : 0;
    count(frame,
          decoded.pts ? *decoded.pts > source_.first_loss() : source_.undecodable_packets() > 0);
  }
}

void VideoReader::Impl::count(const VideoFrame& frame, bool after_loss) {
  ++report.frames;
  report.repaired_timestamps += frame.repaired_time ? 1 : 0;
  if (frame.corrupt) {
    ++report.corrupt_frames;
    auto& intervals = report.corrupt_intervals;
    if (!intervals.empty() && intervals.back().second + 1 == frame.index) {
      intervals.back().second = frame.index;
    } else {
      intervals.emplace_back(frame.index, frame.index);
    }
  }
  if (report.corrupt_frames == 0 && !after_loss) {
    ++report.good_prefix_frames;
  }
  const auto& sizes = report.size_changes;
  const std::int64_t width = sizes.empty() ? info.width : sizes.back().width;
  const std::int64_t height = sizes.empty() ? info.height : sizes.back().height;
  if (frame.width != width || frame.height != height) {
    report.size_changes.push_back({frame.index, frame.width, frame.height});
  }
}

void VideoReader::Impl::finish_report() {
  if (!in_order_) {
    return;
  }
  const Demuxer& demuxer = source_.demuxer();
  report.complete = true;
  report.undecodable_packets = source_.undecodable_packets();
  report.leading_packets = source_.leading_packets();
  report.packets = demuxer.packets();
  report.truncated = demuxer.truncated();
  report.changed = demuxer.changed();
  distrust_index_ = distrust_index_ || report.undecodable_packets > 0;
  report.error_lines = source_.codec_log().error_lines() + source_.file_log().error_lines();
  report.first_error = source_.codec_log().first_error();
  if (report.first_error.empty()) {
    report.first_error = source_.file_log().first_error();
  }
}

bool VideoReader::Impl::next(VideoFrame& frame) {
  watchdog_.renew();
  TimedFrame timed;
  if (!fetch(timed)) {
    finish_report();
    return false;
  }
  deliver(std::move(timed), frame);
  return true;
}

const PacketIndex& VideoReader::Impl::packet_index() {
  if (!index_) {
    LogCapture log;
    Demuxer demuxer(path_, options_, log, watchdog_);
    index_ = PacketIndex::build(demuxer, watchdog_);
    // The first frame was decoded: the index must agree with it.
    if (index_->trusted() && index_->frame_pts(0) != info.start_pts) {
      distrust_index_ = true;
    }
    if (has_exact_index()) {
      info.variable_rate = index_->variable_rate();
    }
  }
  return *index_;
}

bool VideoReader::Impl::has_exact_index() {
  return packet_index().trusted() && !distrust_index_;
}

void VideoReader::Impl::go_to_start() {
  source_.restart();
  start_times();
  next_index_ = 0;
  in_order_ = true;
  report = ReadReport{};
  report.declared_frames = info.declared_frames;
}

bool VideoReader::Impl::skip_to(std::int64_t index) {
  TimedFrame timed;
  while (next_index_ < index) {
    in_order_ = false;
    if (!fetch(timed)) {
      return false;
    }
    ++next_index_;
  }
  // Whether there is such a frame shows only when it decodes.
  if (pending_.empty()) {
    DecodedFrame decoded;
    if (!source_.next(decoded)) {
      finish_report();
      return false;
    }
    pending_.push_back(std::move(decoded));
  }
  return true;
}

bool VideoReader::Impl::land_on(std::int64_t key, std::int64_t index) {
  const PacketIndex& packets = *index_;
  const std::int64_t key_pts = packets.packet(key).pts;
  const std::int64_t key_dts = packets.packet(key).dts;
  const std::int64_t seek_stamp = key_dts != AV_NOPTS_VALUE ? key_dts : key_pts;
  const auto ordinal_of = [&](const AVPacket& packet) { return packets.find(packet); };
  pending_.clear();
  in_order_ = false;
  if (!source_.seek_to_packet(seek_stamp, key, key_pts, ordinal_of)) {
    source_.skip_to_packet(key, key_pts);
  }
  // The frame the key packet starts; hidden key packets of an edit list start frame 0.
  const auto shown = packets.frame_shown_at(key_pts);
  std::int64_t expected = shown ? *shown : 0;
  if (shown && packets.frame_pts(*shown) < key_pts) {
    ++expected;
  }
  DecodedFrame decoded;
  while (source_.next(decoded)) {
    if (decoded.pts && *decoded.pts < key_pts) {
      continue;  // leans on the group before
    }
    if (!decoded.pts || packets.frame_at(*decoded.pts) != expected) {
      return false;
    }
    if (expected == index) {
      pending_.push_back(std::move(decoded));
      next_index_ = index;
      timeline_->resume_after(index == 0 ? std::nullopt
                                         : std::optional(packets.frame_pts(index - 1)));
      return true;
    }
    ++expected;
  }
  return false;
}

bool VideoReader::Impl::jump_to(std::int64_t index) {
  const PacketIndex& packets = *index_;
  // The de-interlacer looks at the frame before.
  bool lead = source_.interlaced();
  std::optional<std::int64_t> key;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::int64_t first = lead && index > 0 ? index - 1 : index;
    key = key ? packets.key_before(packets.packet(*key).pts - 1)
              : packets.key_before(packets.frame_pts(first));
    if (!key) {
      return false;
    }
    const bool reached = land_on(*key, index);
    if (reached && (lead || !source_.interlaced())) {
      return true;
    }
    if (reached) {  // it turned out to be interlaced on the way
      lead = true;
      key.reset();
    }
  }
  return false;
}

bool VideoReader::Impl::seek_to_index(std::int64_t index) {
  if (index < 0) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "media.index",
                 .place = kReaderPlace,
                 .subject = path_,
                 .expected = "a frame number from 0",
                 .got = std::to_string(index)});
  }
  watchdog_.renew();
  if (has_exact_index()) {
    const PacketIndex& packets = *index_;
    if (index >= packets.num_frames()) {
      return false;
    }
    const auto key = packets.key_before(packets.frame_pts(index));
    const bool near = index >= next_index_ && next_index_ > 0 &&
                      (!key || packets.packet(*key).pts <= packets.frame_pts(next_index_ - 1));
    if (index == next_index_ || near) {
      if (skip_to(index)) {
        return true;
      }
    } else if (index == 0) {
      go_to_start();
      return true;
    } else if (jump_to(index)) {
      return true;
    }
    distrust_index_ = true;  // the pictures contradict the packets
  }
  if (index < next_index_ || !in_order_) {
    go_to_start();
  }
  return skip_to(index);
}

std::optional<VideoFrame> VideoReader::Impl::read_at_time(double seconds) {
  if (std::isnan(seconds)) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "media.time",
                 .place = kReaderPlace,
                 .subject = path_,
                 .expected = "a time in seconds",
                 .got = "not a number"});
  }
  watchdog_.renew();
  // A time computed as pts x unit must find that frame again.
  const double unit = info.time_base.value();
  const double position = std::clamp(seconds / unit + 1e-6, -9e15, 9e15);
  const auto units = static_cast<std::int64_t>(std::floor(position));
  VideoFrame frame;
  if (has_exact_index()) {
    std::int64_t pts = 0;
    if (__builtin_add_overflow(units, info.start_pts, &pts)) {
      pts = units < 0 ? std::numeric_limits<std::int64_t>::min()
                      : std::numeric_limits<std::int64_t>::max();
    }
    const std::int64_t index = index_->frame_shown_at(pts).value_or(0);
    if (seek_to_index(index) && next(frame)) {
      return frame;
    }
    return std::nullopt;
  }
  go_to_start();
  TimedFrame shown;
  TimedFrame timed;
  bool any = false;
  std::int64_t passed = 0;
  while (fetch(timed)) {
    if (any && timed.stamp.pts - info.start_pts > units) {
      pending_.push_back(std::move(timed.decoded));
      break;
    }
    shown = std::move(timed);
    timed = {};
    any = true;
    next_index_ = ++passed;
  }
  if (!any) {
    return std::nullopt;
  }
  in_order_ = false;
  timeline_->resume_after(shown.stamp.pts);
  next_index_ = passed - 1;
  deliver(std::move(shown), frame);
  return frame;
}

std::int64_t VideoReader::Impl::count_frames() {
  watchdog_.renew();
  if (has_exact_index()) {
    return index_->num_frames();
  }
  FrameSource source(path_, options_, watchdog_);
  DecodedFrame decoded;
  std::int64_t frames = 0;
  while (source.next(decoded)) {
    ++frames;
  }
  return frames;
}

VideoReader VideoReader::open(const std::string& path, const ReadOptions& options) {
  if (options.max_pixels < 1 || options.max_probe_bytes < 1 || !(options.stall_seconds >= 0.0) ||
      options.max_side < 0 || options.threads < 1) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "media.read_options",
                 .place = kReaderPlace,
                 .subject = path,
                 .expected = "positive limits and at least one thread",
                 .got = "a limit that is zero or negative"});
  }
  return VideoReader(std::make_unique<Impl>(path, options));
}

VideoReader::VideoReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
VideoReader::VideoReader(VideoReader&&) noexcept = default;
VideoReader& VideoReader::operator=(VideoReader&&) noexcept = default;
VideoReader::~VideoReader() = default;

const VideoInfo& VideoReader::info() const noexcept {
  return impl_->info;
}
const ReadReport& VideoReader::report() const noexcept {
  return impl_->report;
}

bool VideoReader::next(VideoFrame& frame) {
  return impl_->next(frame);
}

std::optional<VideoFrame> VideoReader::next() {
  VideoFrame frame;
  if (!impl_->next(frame)) {
    return std::nullopt;
  }
  return frame;
}

bool VideoReader::seek_to_index(std::int64_t index) {
  return impl_->seek_to_index(index);
}

std::optional<VideoFrame> VideoReader::read_at_index(std::int64_t index) {
  VideoFrame frame;
  if (!impl_->seek_to_index(index) || !impl_->next(frame)) {
    return std::nullopt;
  }
  return frame;
}

std::optional<VideoFrame> VideoReader::read_at_time(double seconds) {
  return impl_->read_at_time(seconds);
}
std::int64_t VideoReader::count_frames() {
  return impl_->count_frames();
}
bool VideoReader::has_exact_index() {
  return impl_->has_exact_index();
}

}  // namespace kinema::media
