// SPDX-License-Identifier: Apache-2.0
// One way to write a video; VideoWriter picks one. Internal to media/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "media/ffmpeg_ptr.h"
#include "media/video_writer.h"

namespace kinema::media {

class Encoder {
 public:
  Encoder() = default;
  virtual ~Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// `frame` has the size of the options and a stride.
  virtual void add(const FrameView& frame) = 0;
  /// Completes and publishes. @return bytes written.
  virtual std::uint64_t finish() = 0;
};

/// MP4, MOV, WebM and MKV.
[[nodiscard]] std::unique_ptr<Encoder> make_container_encoder(const std::string& path,
                                                              VideoFormat format,
                                                              const WriteOptions& options);
[[nodiscard]] std::unique_ptr<Encoder> make_gif_encoder(const std::string& path,
                                                        const WriteOptions& options);
[[nodiscard]] std::unique_ptr<Encoder> make_y4m_encoder(const std::string& path,
                                                        const WriteOptions& options);
[[nodiscard]] std::unique_ptr<Encoder> make_png_encoder(const std::string& path,
                                                        const WriteOptions& options);

/// FFmpeg's name of the encoder that a format needs; null for Y4M and PNG, which are ours.
[[nodiscard]] const char* encoder_name(VideoFormat format);

/// Refuses a PNG target whose folder holds anything else than pictures of the same naming. Throws
/// kInvalidArgument [media.unknown_format] for a bad pattern, kOutput [output.not_empty].
void validate_png_target(const std::string& path);

/// RGB frames as YUV planes or BGR0 pixels of an AVFrame that is used again and again.
class PlaneConverter {
 public:
  /// @param matrix  of YUV formats, limited range; not used for BGR0
  PlaneConverter(std::int64_t width,
                 std::int64_t height,
                 AVPixelFormat format,
                 AVColorSpace matrix);
  /// The frame stays owned by the converter; a reference that is still held elsewhere keeps its
  /// pixels.
  [[nodiscard]] AVFrame& convert(const FrameView& view);

 private:
  void pack_bgr0(const FrameView& view);

  SwsContextPtr scaler_;
  FramePtr frame_;
};

/// Error of an FFmpeg call while writing.
[[nodiscard]] Error encode_error(const std::string& path, const char* what, int number);

}  // namespace kinema::media
