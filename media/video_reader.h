// SPDX-License-Identifier: Apache-2.0
// Reads video from untrusted files: upright 8-bit RGB frames with exact times, in order or by
// index.
//
//   VideoReader reader = VideoReader::open("in.mp4");
//   VideoFrame frame;
//   while (reader.next(frame)) { ... frame.rgb_HWC, frame.time_seconds ... }
//   if (reader.report().status() != ReadStatus::kOk) { ... }
//
// A file can name no other file and no address: only the file itself is opened, playlists and
// scripts are refused, and every size is checked before memory is taken for it.
//
// Errors are kinema::Error of kind kBadData with the codes media.open_failed,
// media.open_failed.moov, media.format_denied, media.no_video, media.unsupported_codec,
// media.too_large, media.truncated and media.corrupt (no frame at all decodes), media.not_a_file,
// media.stuck; kIo [io.open] when the file is missing. Damage further inside is no error: frames
// carry a mark and the report a status.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "media/rational.h"

namespace kinema::media {

struct ReadOptions {
  /// Larger pictures are refused, coded or scaled to square pixels (8192 x 8192).
  std::int64_t max_pixels = 8192LL * 8192LL;
  /// Bytes that may be read to find out what the file is.
  std::int64_t max_probe_bytes = 20LL * 1000 * 1000;
  /// Longest time without a new frame (while indexing: without a new packet) before media.stuck.
  double stall_seconds = 60.0;
  /// Threads of the decoder. With one, damage is pinned to the exact frame; with more, neighbours
  /// that were being decoded at the same time are marked too. Pixels never depend on it.
  int threads = 1;
  /// Scale down so that the longer side has at most this many pixels; 0 keeps the size.
  std::int64_t max_side = 0;
  /// Interpolates colour differences instead of repeating them: smoother edges, about half the
  /// speed.
  bool accurate_color = false;
  /// GIF and APNG count as video.
  bool allow_animations = true;
  /// What shows through transparent pixels.
  std::array<std::uint8_t, 3> background_rgb = {0, 0, 0};
  /// Asked now and then; true ends the call with kCancelled [cancelled].
  std::function<bool()> cancelled{};
};

enum class HdrKind { kNone, kPq, kHlg };
/// "none", "pq", "hlg".
[[nodiscard]] std::string_view to_string(HdrKind kind) noexcept;

struct VideoInfo {
  std::int64_t coded_width = 0;  ///< of the first frame, before any correction
  std::int64_t coded_height = 0;
  std::int64_t width = 0;  ///< of the first frame as delivered: upright, square pixels
  std::int64_t height = 0;
  int rotation = 0;       ///< degrees clockwise (0, 90, 180, 270) that frames were turned by
  bool mirrored = false;  ///< frames were also flipped left to right before turning
  Rational sample_aspect_ratio{1, 1};
  Rational fps{0, 1};  ///< average rate; a guess of 25 when `fps_guessed`
  bool fps_guessed = false;
  std::optional<bool> variable_rate;  ///< known for sure once the file was indexed
  bool times_from_rate = false;   ///< the format has no time stamps: frame i is shown at i / fps
  Rational time_base{1, 1};       ///< seconds per unit of VideoFrame::pts
  std::int64_t start_pts = 0;     ///< time stamp of the first frame inside the file
  double duration_seconds = 0.0;  ///< as declared; 0 when the file does not say
  std::optional<std::int64_t> declared_frames;  ///< samples that the container lists
  std::string container;     ///< FFmpeg's name of the format, "mov,mp4,m4a,3gp,3g2,mj2"
  std::string codec;         ///< "h264"
  std::string pixel_format;  ///< "yuv420p10le"
  int bit_depth = 8;
  HdrKind hdr = HdrKind::kNone;  ///< frames are tone-mapped to BT.709 (formula in tone_map.h)
  bool wide_gamut = false;       ///< BT.2020 primaries, mapped to BT.709
  bool full_range = false;
  bool interlaced = false;  ///< frames are de-interlaced (bwdif, one frame per frame)
  bool has_alpha = false;   ///< composed over ReadOptions::background_rgb
  std::int64_t num_streams = 0;
  std::int64_t num_video_streams = 0;  ///< without attached pictures
  std::int64_t stream_index = 0;       ///< the one that is read: the largest picture
  bool has_audio = false;
  std::string comment;  ///< the container's comment tag
};

struct VideoFrame {
  std::int64_t index = 0;     ///< presentation order, from 0
  std::int64_t pts = 0;       ///< exact time in units of VideoInfo::time_base; the first frame is 0
  double time_seconds = 0.0;  ///< pts x time_base
  double duration_seconds = 0.0;  ///< as declared by the file; 0 when unknown
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> rgb_HWC;  ///< height x width x 3, no padding, BT.709 / sRGB primaries
  bool key = false;
  bool corrupt = false;        ///< decoded with errors or concealed
  bool repaired_time = false;  ///< the file's time stamp was missing or jumped back
  bool deinterlaced = false;
  bool tone_mapped = false;
};

/// What reading found out, worst first.
enum class ReadStatus { kOk, kChanged, kTruncated, kCorrupt, kBadTimestamps };
/// "ok", "changed", "truncated", "corrupt", "bad_timestamps".
[[nodiscard]] std::string_view to_string(ReadStatus status) noexcept;

struct SizeChange {
  std::int64_t index = 0;  ///< first frame of the new size
  std::int64_t width = 0;
  std::int64_t height = 0;
};

/// Counters of everything read so far. `complete` says that the file was read in order to its end;
/// only then are `truncated`, `changed` and the status final.
struct ReadReport {
  bool complete = false;
  std::int64_t frames = 0;
  std::int64_t corrupt_frames = 0;       ///< delivered with VideoFrame::corrupt
  std::int64_t undecodable_packets = 0;  ///< gave no frame after the first good one
  std::int64_t leading_packets = 0;      ///< before the first frame that could be decoded
  std::int64_t good_prefix_frames = 0;   ///< frames before the first corrupt or missing one
  std::int64_t repaired_timestamps = 0;
  std::int64_t interlaced_frames = 0;
  std::int64_t packets = 0;  ///< of the video stream, hidden ones included
  std::optional<std::int64_t> declared_frames;
  bool truncated = false;  ///< less than 98 % of what the file declares is there
  bool changed = false;    ///< size or time of the file changed while it was read
  std::vector<SizeChange> size_changes;
  std::vector<std::pair<std::int64_t, std::int64_t>> corrupt_intervals;  ///< first and last frame
  std::int64_t error_lines = 0;  ///< errors that FFmpeg logged
  std::string first_error;

  /// Damaged share of the frames, lost ones included.
  [[nodiscard]] double corrupt_ratio() const noexcept;
  /// kCorrupt above 5 % damage, kBadTimestamps above 1 % repaired times.
  [[nodiscard]] ReadStatus status() const noexcept;
};

/// One open file. Movable; not for use by two threads at once.
class VideoReader {
 public:
  /// Opens and decodes the first frame. `path` is a regular file of any name.
  [[nodiscard]] static VideoReader open(const std::string& path, const ReadOptions& options = {});

  VideoReader(VideoReader&&) noexcept;
  VideoReader& operator=(VideoReader&&) noexcept;
  ~VideoReader();

  [[nodiscard]] const VideoInfo& info() const noexcept;
  [[nodiscard]] const ReadReport& report() const noexcept;

  /// The next frame in presentation order; false at the end. Reuses the memory of `frame`.
  [[nodiscard]] bool next(VideoFrame& frame);
  [[nodiscard]] std::optional<VideoFrame> next();

  /// Makes frame `index` the one that next() gives; false if the video is shorter. The frame equals
  /// the one of reading in order, unless it is corrupt. Decodes from the key frame before; where
  /// the packets do not tell which frame is where (no or doubled time stamps, a cut file), or the
  /// pictures contradict them, from the start.
  [[nodiscard]] bool seek_to_index(std::int64_t index);
  /// Frame `index`, or nothing if the video is shorter.
  [[nodiscard]] std::optional<VideoFrame> read_at_index(std::int64_t index);
  /// The frame on screen at `seconds` after the first frame: the last one that starts at or before.
  /// Before the start it is the first frame, after the end the last one.
  [[nodiscard]] std::optional<VideoFrame> read_at_time(double seconds);

  /// Number of frames that next() gives in all. Reads the packets (not the pictures) once; a file
  /// whose packets cannot be trusted is decoded. The position stays. Pictures that will turn out to
  /// be undecodable are counted until decoding has met one.
  [[nodiscard]] std::int64_t count_frames();
  /// Whether count and index access come from the packets (fast) and not from decoding.
  [[nodiscard]] bool has_exact_index();

 private:
  class Impl;
  explicit VideoReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::media
