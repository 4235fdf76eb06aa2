// SPDX-License-Identifier: Apache-2.0
// Writes RGB frames as a video, frame by frame, with little memory; the output under its final name
// is complete or absent.
//
//   VideoWriter writer = VideoWriter::open("out.mp4", {.width = 640, .height = 360, .fps = {24,
//   1}}); for (...) { writer.add({.rgb_HWC = pixels, .width = 640, .height = 360}); }
//   writer.finish();
//
// Formats, by extension or by WriteOptions::format:
//   .mp4 .mov   H.264 (libx264), 4:2:0, tagged BT.709, index in front; fragmented on stdout
//   .webm       VP9 (libvpx), 4:2:0, tagged BT.709
//   .mkv        FFV1, exact RGB
//   .gif        one palette for the whole clip: frames go to a lossless temporary file on disk
//   while
//               the palette is measured, so memory does not grow with length
//   .y4m        raw 4:4:4 or 4:2:0, limited range; BT.709 from 1280 pixels wide or above 576 high,
//               BT.601 below, as players assume for a format that cannot say
//   folder/ or name_%05d.png   exact PNG pictures numbered from 0, in a folder that is new, empty
//   or
//               holds only pictures of the same naming, which are replaced
//   -           standard output, Y4M unless another format is chosen
//
// The same frames and options give the same bytes on one build: no dates, no version texts, a fixed
// number of encoder threads (a different `threads` may change them), no dependence on the CPU.
//
// Provenance goes into the container's comment, for .mp4 and .mov also into an XMP `uuid` box, for
// PNG into the text of every picture. Y4M has no place for it: readers stop at headers above 96
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "media/rational.h"

namespace kinema::media {

enum class VideoFormat { kAuto, kMp4, kMov, kWebm, kMkv, kGif, kY4m, kPng };
/// "mp4", "mov", ... ; "auto".
[[nodiscard]] std::string_view to_string(VideoFormat format) noexcept;

enum class Y4mChroma { k444, k420 };

struct WriteOptions {
  std::int64_t width = 0;   ///< pixels; even for .mp4 and .mov
  std::int64_t height = 0;  ///< pixels; even for .mp4 and .mov
  Rational fps{24, 1};
  VideoFormat format = VideoFormat::kAuto;  ///< kAuto: by extension
  /// Constant rate factor, smaller is better: H.264 0..51 (18), VP9 0..63 (24). Others have none.
  std::optional<int> crf{};
  std::string preset = "medium";      ///< of x264: ultrafast ... placebo
  double key_interval_seconds = 2.0;  ///< longest distance of key frames, H.264 and VP9
  int b_frames = 2;                   ///< H.264; 0 also avoids an edit list
  int threads = 4;                    ///< of the encoder
  Y4mChroma y4m_chroma = Y4mChroma::k444;
  std::string provenance{};  ///< JSON text; empty: none is written
  bool sidecar = false;      ///< also writes the provenance to "<output>.json"
};

/// 8-bit RGB pixels, rows from the top.
struct FrameView {
  std::span<const std::uint8_t> rgb_HWC;
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t stride = 0;  ///< bytes from row to row; 0: width x 3
};

struct WriteReport {
  std::string path;  ///< file or folder; "-" for stdout
  std::int64_t frames = 0;
  std::uint64_t bytes = 0;
  double duration_seconds = 0.0;
};

/// The format that `path` and options.format ask for. Throws kInvalidArgument
/// [media.unknown_format].
[[nodiscard]] VideoFormat output_format(const std::string& path, const WriteOptions& options);

/// Checks everything that can be checked before work starts, without writing: format, size (naming
/// the nearest legal one), rate, quality, encoder, folder. Throws kInvalidArgument
/// [media.unknown_format, media.frame_size, media.frame_rate, media.write_options], kUnsupported
/// [media.no_encoder], kOutput [output.unwritable, output.not_empty].
void validate_output(const std::string& path, const WriteOptions& options);

class Encoder;

class VideoWriter {
 public:
  /// validate_output(), then opens a part file (folder) beside the final name.
  [[nodiscard]] static VideoWriter open(const std::string& path, const WriteOptions& options);

  VideoWriter(VideoWriter&&) noexcept;
  VideoWriter& operator=(VideoWriter&&) noexcept;
  /// Without finish() nothing appears under the final name and the part file is removed.
  ~VideoWriter();

  /// The next frame. Throws kInvalidArgument [media.frame_size], kDiskFull [disk_full], kOutput
  /// [output.write, output.closed]. After an error nothing more can be added.
  void add(const FrameView& frame);

  /// Completes the output and gives it its name. Throws like add(), and kInvalidArgument
  /// [media.no_frames] when none was added.
  WriteReport finish();

 private:
  VideoWriter(std::string path, const WriteOptions& options);

  std::string path_;
  std::unique_ptr<WriteOptions> options_;
  std::unique_ptr<Encoder> encoder_;
  std::int64_t frames_ = 0;
};

}  // namespace kinema::media
