// SPDX-License-Identifier: Apache-2.0
// One untrusted file as packets of its best video stream. Internal to media/.
//
// The file is opened by us and fed to libavformat through callbacks: no protocol is ever used, and
// a format that asks to open something else is refused and counted. Only real media formats pass,
// and libavformat may run no decoder of its own (its parsers are enough), so that every picture is
// decoded under our pixel limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <sys/stat.h>

#include "media/ffmpeg_log.h"
#include "media/ffmpeg_ptr.h"
#include "media/video_reader.h"

namespace kinema::media {

inline constexpr char kReaderPlace[] = "media.reader";

/// Deadline of the current call, renewed by progress.
class Watchdog final : public Interrupt {
 public:
  explicit Watchdog(const ReadOptions& options)
      : stall_seconds_(options.stall_seconds), cancelled_(options.cancelled) {}

  void renew() { start_ = std::chrono::steady_clock::now(); }
  [[nodiscard]] bool expired() override;
  /// Throws kCancelled or kBadData [media.stuck] when expired() said so.
  void check(const std::string& path);

 private:
  double stall_seconds_;
  std::function<bool()> cancelled_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool stopped_by_user_ = false;
};

class Demuxer {
 public:
  /// Throws the errors that video_reader.h lists, except those that need a decoder.
  Demuxer(const std::string& path, const ReadOptions& options, LogCapture& log, Watchdog& watchdog);
  ~Demuxer();
  Demuxer(const Demuxer&) = delete;
  Demuxer& operator=(const Demuxer&) = delete;

  [[nodiscard]] AVFormatContext& format() const { return *format_; }
  [[nodiscard]] AVStream& stream() const { return *stream_; }
  [[nodiscard]] const AVCodec& decoder() const { return *decoder_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::int64_t num_video_streams() const { return num_video_streams_; }
  [[nodiscard]] bool has_audio() const { return has_audio_; }
  /// The format carries no time stamps at all (raw elementary streams).
  [[nodiscard]] bool has_no_timestamps() const;

  /// Next packet of the video stream; false at the end of the file or where it cannot be read on.
  [[nodiscard]] bool read(AVPacket& packet);
  /// Moves to the last key frame at or before `timestamp` (stream time base). False: no such thing.
  [[nodiscard]] bool seek(std::int64_t timestamp);

  /// Packets of the video stream that read() gave since the start (not meaningful after seek()).
  [[nodiscard]] std::int64_t packets() const { return packets_; }
  /// End of the last packet of any stream, in seconds; what there is of the declared duration.
  [[nodiscard]] double read_end_seconds() const { return read_end_seconds_; }
  /// End of the last packet of the video stream, in seconds.
  [[nodiscard]] double video_end_seconds() const { return video_end_seconds_; }
  /// Less than 98 % of the declared frames or of the declared time was there. Call at the end.
  [[nodiscard]] bool truncated() const;
  /// Whether size or modification time differ from when the file was opened.
  [[nodiscard]] bool changed() const;

 private:
  struct File;
  void open_file();
  const AVInputFormat* probe(const ReadOptions& options);
  void open_format(const AVInputFormat* input, const ReadOptions& options);
  void choose_stream();
  void note_end(const AVPacket& packet);
  [[nodiscard]] bool lacks_movie_box() const;

  std::string path_;
  LogCapture& log_;
  Watchdog& watchdog_;
  std::unique_ptr<File> file_;
  IoContextPtr io_;
  InputFormatPtr format_;
  AVStream* stream_ = nullptr;
  const AVCodec* decoder_ = nullptr;
  std::int64_t num_video_streams_ = 0;
  bool has_audio_ = false;
  std::int64_t packets_ = 0;
  double read_end_seconds_ = 0.0;
  double video_end_seconds_ = 0.0;
};

/// Error about an input file.
[[nodiscard]] Error bad_media(const char* code,
                              const std::string& path,
                              std::string expected,
                              std::string got,
                              std::string hint = "");

}  // namespace kinema::media
