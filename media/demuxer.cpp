// SPDX-License-Identifier: Apache-2.0
#include "media/demuxer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/file.h"

namespace kinema::media {
namespace {

constexpr int kIoBufferBytes = 64 * 1024;

// Names as libavformat spells them. No playlists, scripts, devices, image patterns or captions.
constexpr std::array<std::string_view, 17> kFormats = {"mov,mp4,m4a,3gp,3g2,mj2",
                                                       "matroska,webm",
                                                       "avi",
                                                       "mpegts",
                                                       "mpeg",
                                                       "mpegvideo",
                                                       "m4v",
                                                       "flv",
                                                       "asf",
                                                       "ogg",
                                                       "h264",
                                                       "hevc",
                                                       "ivf",
                                                       "obu",
                                                       "av1",
                                                       "mxf",
                                                       "yuv4mpegpipe"};
constexpr std::array<std::string_view, 2> kAnimations = {"gif", "apng"};

// Decoders that films of the last thirty years need; the rest only adds surface.
constexpr AVCodecID kCodecs[] = {
    AV_CODEC_ID_H264,      AV_CODEC_ID_HEVC,       AV_CODEC_ID_AV1,        AV_CODEC_ID_VP8,
    AV_CODEC_ID_VP9,       AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG4,
    AV_CODEC_ID_MJPEG,     AV_CODEC_ID_THEORA,     AV_CODEC_ID_FFV1,       AV_CODEC_ID_FFVHUFF,
    AV_CODEC_ID_HUFFYUV,   AV_CODEC_ID_UTVIDEO,    AV_CODEC_ID_PRORES,     AV_CODEC_ID_DNXHD,
    AV_CODEC_ID_PNG,       AV_CODEC_ID_APNG,       AV_CODEC_ID_GIF,        AV_CODEC_ID_RAWVIDEO,
    AV_CODEC_ID_QTRLE,     AV_CODEC_ID_H263,       AV_CODEC_ID_H263P,      AV_CODEC_ID_FLV1,
    AV_CODEC_ID_VP6,       AV_CODEC_ID_VP6F,       AV_CODEC_ID_VP6A,       AV_CODEC_ID_MSMPEG4V1,
    AV_CODEC_ID_MSMPEG4V2, AV_CODEC_ID_MSMPEG4V3,  AV_CODEC_ID_WMV1,       AV_CODEC_ID_WMV2,
    AV_CODEC_ID_WMV3,      AV_CODEC_ID_VC1,        AV_CODEC_ID_DVVIDEO,    AV_CODEC_ID_CINEPAK,
    AV_CODEC_ID_SVQ1,      AV_CODEC_ID_SVQ3,       AV_CODEC_ID_JPEG2000,   AV_CODEC_ID_CFHD,
    AV_CODEC_ID_MAGICYUV,  AV_CODEC_ID_V210,       AV_CODEC_ID_R210,       AV_CODEC_ID_MSRLE};

bool is_allowed_format(std::string_view name, const ReadOptions& options) {
  const auto has = [&](const auto& list) { return std::ranges::find(list, name) != list.end(); };
  return has(kFormats) || (options.allow_animations && has(kAnimations));
}

// A format that asks for another file or an address gets nothing.
int refuse_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

bool is_picture(const AVStream& stream) {
  return (stream.disposition & (AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS)) !=
         0;
}

const AVCodec* find_decoder(const AVStream& stream) {
  const AVCodecID id = stream.codecpar->codec_id;
  const bool encrypted =
      stream.codecpar->codec_tag == MKTAG('e', 'n', 'c', 'v') ||
      av_stream_get_side_data(&stream, AV_PKT_DATA_ENCRYPTION_INIT_INFO, nullptr);
  if (encrypted || std::ranges::find(kCodecs, id) == std::end(kCodecs)) {
    return nullptr;
  }
  return avcodec_find_decoder(id);
}

std::string tag_text(std::uint32_t tag) {
  char text[AV_FOURCC_MAX_STRING_SIZE] = {};
  return av_fourcc_make_string(text, tag);
}

}  // namespace

Error bad_media(const char* code,
                const std::string& path,
                std::string expected,
                std::string got,
                std::string hint) {
  return Error(ErrorKind::kBadData,
               {.code = code,
                .place = kReaderPlace,
                .subject = path,
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

bool Watchdog::expired() {
  if (cancelled_ && cancelled_()) {
    stopped_by_user_ = true;
    return true;
  }
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start_;
  return waited.count() > stall_seconds_;
}

void Watchdog::check(const std::string& path) {
  if (!expired()) {
    return;
  }
  if (stopped_by_user_) {
    throw Error(
        ErrorKind::kCancelled,
        {.code = "cancelled", .place = kReaderPlace, .subject = path + " was not read to its end"});
  }
  throw bad_media("media.stuck",
                  path,
                  "a frame within " + std::to_string(stall_seconds_) + " s",
                  "none",
                  "the file makes its decoder loop, or its disk does not answer");
}

struct Demuxer::File {
  ~File() {
    if (descriptor >= 0) {
      ::close(descriptor);
    }
  }
  static int read(void* opaque, std::uint8_t* buffer, int size);
  static std::int64_t seek(void* opaque, std::int64_t offset, int whence);

  int descriptor = -1;
  std::int64_t position = 0;
  struct stat status{};
  Watchdog* watchdog = nullptr;
};

int Demuxer::File::read(void* opaque, std::uint8_t* buffer, int size) {
  auto& file = *static_cast<File*>(opaque);
  if (file.watchdog->expired()) {
    return AVERROR_EXIT;
  }
  ssize_t count = 0;
  do {
    count = ::pread(file.descriptor, buffer, static_cast<std::size_t>(size), file.position);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    return AVERROR(errno);
  }
  file.position += count;
  return count == 0 ? AVERROR_EOF : static_cast<int>(count);
}

std::int64_t Demuxer::File::seek(void* opaque, std::int64_t offset, int whence) {
  auto& file = *static_cast<File*>(opaque);
  std::int64_t target = 0;
  switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE:
      return file.status.st_size;
    case SEEK_SET:
      target = offset;
      break;
    case SEEK_CUR:
      if (__builtin_add_overflow(file.position, offset, &target)) {
        return AVERROR(EINVAL);
      }
      break;
    case SEEK_END:
      if (__builtin_add_overflow(static_cast<std::int64_t>(file.status.st_size), offset, &target)) {
        return AVERROR(EINVAL);
      }
      break;
    default:
      return AVERROR(EINVAL);
  }
  if (target < 0) {
    return AVERROR(EINVAL);
  }
  file.position = target;
  return target;
}

Demuxer::Demuxer(const std::string& path,
                 const ReadOptions& options,
                 LogCapture& log,
                 Watchdog& watchdog)
    : path_(path), log_(log), watchdog_(watchdog), file_(std::make_unique<File>()) {
  watchdog_.renew();
  open_file();
  const AVInputFormat* input = probe(options);
  open_format(input, options);
  choose_stream();
}

Demuxer::~Demuxer() = default;

void Demuxer::open_file() {
  file_->watchdog = &watchdog_;
  // O_NONBLOCK: opening a pipe without a writer must not wait for one.
  file_->descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file_->descriptor < 0 || ::fstat(file_->descriptor, &file_->status) != 0) {
    throw system_error(
        ErrorKind::kIo, errno, {.code = "io.open", .place = kReaderPlace, .subject = path_});
  }
  if (!S_ISREG(file_->status.st_mode)) {
    throw bad_media("media.not_a_file",
                    path_,
                    "a regular file",
                    S_ISDIR(file_->status.st_mode) ? "a folder" : "a device, pipe or socket");
  }
  if (file_->status.st_size == 0) {
    throw bad_media("media.open_failed", path_, "a video", "an empty file");
  }
  auto* buffer = static_cast<unsigned char*>(av_malloc(kIoBufferBytes));
  AVIOContext* io =
      buffer == nullptr
          ? nullptr
          : avio_alloc_context(
                buffer, kIoBufferBytes, 0, file_.get(), File::read, nullptr, File::seek);
  if (io == nullptr) {
    av_free(buffer);
  }
  io_ = checked(io, kReaderPlace);
}

const AVInputFormat* Demuxer::probe(const ReadOptions& options) {
  // The name is kept from FFmpeg: an extension must not decide what a file is.
  const AVInputFormat* input = nullptr;
  const auto limit =
      static_cast<unsigned>(std::clamp<std::int64_t>(options.max_probe_bytes, 4096, 1 << 30));
  const int score = av_probe_input_buffer2(io_.get(), &input, "", nullptr, 0, limit);
  watchdog_.check(path_);
  if (score < 0 || input == nullptr) {
    throw bad_media("media.open_failed", path_, "a video", "bytes that are no known format");
  }
  if (!is_allowed_format(input->name, options)) {
    if (score <= AVPROBE_SCORE_RETRY) {
      throw bad_media("media.open_failed", path_, "a video", "bytes that are no known format");
    }
    throw bad_media("media.format_denied",
                    path_,
                    "a video file",
                    "format '" + std::string(input->name) + "'",
                    "playlists, scripts, pictures and rare formats are not opened");
  }
  return input;
}

void Demuxer::open_format(const AVInputFormat* input, const ReadOptions& options) {
  AVFormatContext* format = avformat_alloc_context();
  if (format == nullptr) {
    throw Error(ErrorKind::kOutOfMemory,
                {.code = "out_of_memory", .place = kReaderPlace, .subject = path_});
  }
  set_interrupt(*format, &watchdog_);
  log_.attach(*format);
  format->pb = io_.get();
  format->flags |= AVFMT_FLAG_CUSTOM_IO;
  format->io_open = refuse_open;
  Dictionary settings;
  settings.set("protocol_whitelist", "none");
  settings.set("format_whitelist", input->name);
  settings.set("codec_whitelist", "none");
  settings.set("probesize",
               std::to_string(std::clamp<std::int64_t>(options.max_probe_bytes, 4096, 1 << 30)));
  settings.set("max_streams", "32");
  const int opened = avformat_open_input(&format, "", input, settings.address());
  if (opened < 0) {  // the context is freed
    watchdog_.check(path_);
    if (std::string_view(input->name).starts_with("mov") && lacks_movie_box()) {
      throw bad_media("media.open_failed.moov",
                      path_,
                      "an index (moov box)",
                      "none in the file",
                      "the recording was cut off before its index was written");
    }
    const std::string why = log_.first_error();
    throw bad_media("media.open_failed",
                    path_,
                    "a readable file of format '" + std::string(input->name) + "'",
                    why.empty() ? ffmpeg_error(opened) : why);
  }
  format_.reset(format);
  const int found = avformat_find_stream_info(format, nullptr);
  if (found < 0) {
    watchdog_.check(path_);
    throw bad_media("media.open_failed", path_, "streams of a known kind", ffmpeg_error(found));
  }
}

bool Demuxer::lacks_movie_box() const {
  // Top-level boxes: 32-bit size and name, size 1 means a 64-bit size follows, 0 means to the end.
  const std::int64_t end = file_->status.st_size;
  std::int64_t offset = 0;
  for (int count = 0; count < 10000 && offset + 8 <= end; ++count) {
    unsigned char head[16] = {};
    const ssize_t got = ::pread(file_->descriptor, head, sizeof(head), offset);
    if (got < 8) {
      break;
    }
    std::uint64_t size = (std::uint64_t{head[0]} << 24) | (std::uint64_t{head[1]} << 16) |
                         (std::uint64_t{head[2]} << 8) | head[3];
    if (std::memcmp(head + 4, "moov", 4) == 0) {
      return false;
    }
    if (size == 1 && got == 16) {
      size = 0;
      for (int i = 8; i < 16; ++i) {
        size = (size << 8) | head[i];
      }
    }
    if (size < 8 || size > static_cast<std::uint64_t>(end - offset)) {
      break;
    }
    offset += static_cast<std::int64_t>(size);
  }
  return true;
}

void Demuxer::choose_stream() {
  AVStream* undecodable = nullptr;
  std::int64_t best_area = -1;
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    AVStream* stream = format_->streams[i];
    has_audio_ = has_audio_ || stream->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    if (stream->codecpar->codec_type != AVMEDIA_TYPE_VIDEO || is_picture(*stream)) {
      continue;
    }
    ++num_video_streams_;
    const AVCodec* decoder = find_decoder(*stream);
    if (decoder == nullptr) {
      undecodable = stream;
      continue;
    }
    const std::int64_t area =
        static_cast<std::int64_t>(stream->codecpar->width) * std::int64_t{stream->codecpar->height};
    if (area > best_area) {
      best_area = area;
      stream_ = stream;
      decoder_ = decoder;
    }
  }
  if (stream_ == nullptr && undecodable != nullptr) {
    const AVCodecParameters& parameters = *undecodable->codecpar;
    throw bad_media("media.unsupported_codec",
                    path_,
                    "a codec that can be decoded",
                    std::string(avcodec_get_name(parameters.codec_id)) + " (tag " +
                        tag_text(parameters.codec_tag) + ")");
  }
  if (stream_ == nullptr) {
    throw bad_media("media.no_video",
                    path_,
                    "a video stream",
                    std::to_string(format_->nb_streams) + " streams, none of them moving pictures");
  }
  // Where the container counts its frames, nothing is learnt from the other streams.
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    AVStream* stream = format_->streams[i];
    if (stream != stream_ &&
        (stream_->nb_frames > 0 || stream->codecpar->codec_type == AVMEDIA_TYPE_DATA)) {
      stream->discard = AVDISCARD_ALL;
    }
  }
}

bool Demuxer::has_no_timestamps() const {
  constexpr std::array<std::string_view, 6> kRaw = {
      "h264", "hevc", "m4v", "mpegvideo", "obu", "av1"};
  return (format_->iformat->flags & AVFMT_NOTIMESTAMPS) != 0 ||
         std::ranges::find(kRaw, format_->iformat->name) != kRaw.end();
}

void Demuxer::note_end(const AVPacket& packet) {
  const std::int64_t start = packet.pts != AV_NOPTS_VALUE ? packet.pts : packet.dts;
  if (start == AV_NOPTS_VALUE) {
    return;
  }
  const AVStream& stream = *format_->streams[packet.stream_index];
  std::int64_t origin = 0;
  if (format_->start_time != AV_NOPTS_VALUE) {
    origin = format_->start_time;
  }
  const double end = (static_cast<double>(start) + static_cast<double>(packet.duration)) *
                         av_q2d(stream.time_base) -
                     static_cast<double>(origin) / AV_TIME_BASE;
  read_end_seconds_ = std::max(read_end_seconds_, end);
  if (packet.stream_index == stream_->index) {
    video_end_seconds_ = std::max(video_end_seconds_, end);
  }
}

bool Demuxer::read(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    const int result = av_read_frame(format_.get(), &packet);
    if (result == AVERROR(EAGAIN)) {
      watchdog_.check(path_);
      continue;
    }
    if (result == AVERROR(ENOMEM)) {
      throw Error(ErrorKind::kOutOfMemory,
                  {.code = "out_of_memory", .place = kReaderPlace, .subject = path_});
    }
    watchdog_.check(path_);
    if (result < 0) {
      return false;
    }
    note_end(packet);
    if (packet.stream_index != stream_->index) {
      continue;
    }
    if (av_packet_get_side_data(&packet, AV_PKT_DATA_ENCRYPTION_INFO, nullptr) != nullptr) {
      throw bad_media("media.unsupported_codec", path_, "a readable stream", "encrypted packets");
    }
    ++packets_;
    return true;
  }
}

bool Demuxer::seek(std::int64_t timestamp) {
  const int result = av_seek_frame(format_.get(), stream_->index, timestamp, AVSEEK_FLAG_BACKWARD);
  watchdog_.check(path_);
  return result >= 0;
}

bool Demuxer::truncated() const {
  constexpr double kWhole = 0.98;
  const AVRational rate = stream_->avg_frame_rate;
  const double step = rate.num > 0 && rate.den > 0 ? 1.0 / av_q2d(rate) : 0.04;
  // The last packet often has no length of its own.
  const auto falls_short = [&](double end, double declared) {
    return end < kWhole * declared && end + 2.0 * step < declared;
  };
  const double declared =
      format_->duration > 0 ? static_cast<double>(format_->duration) / AV_TIME_BASE : 0.0;
  if (stream_->nb_frames > 0) {
    const auto frames = static_cast<double>(stream_->nb_frames);
    double seconds = declared;
    if (std::string_view(format_->iformat->name) == "avi") {
      seconds = frames * step;  // the demuxer shortens its durations when the file is cut
    } else if (stream_->duration > 0) {
      seconds = static_cast<double>(stream_->duration) * av_q2d(stream_->time_base);
    }
    // AVI counts frames that it repeats without storing them: the time must be short as well.
    const auto packets = static_cast<double>(packets_);
    return packets < kWhole * frames && falls_short(video_end_seconds_, seconds);
  }
  // The duration of other formats may come from a guess by bit rate; believe only a stored one.
  return declared > 0 && format_->duration_estimation_method == AVFMT_DURATION_FROM_STREAM &&
         falls_short(read_end_seconds_, declared);
}

bool Demuxer::changed() const {
  struct stat now{};
  return ::fstat(file_->descriptor, &now) != 0 || now.st_size != file_->status.st_size ||
         now.st_mtim.tv_sec != file_->status.st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != file_->status.st_mtim.tv_nsec;
}

}  // namespace kinema::media
