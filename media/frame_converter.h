// SPDX-License-Identifier: Apache-2.0
// Decoded pictures of any format as upright 8-bit RGB with square pixels. Internal to media/.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "media/ffmpeg_ptr.h"
#include "media/tone_map.h"
#include "media/video_reader.h"

namespace kinema::media {

/// One of the eight ways to lay a picture down: destination (x, y) shows source
/// (xx x + xy y, yx x + yy y), each counted from the far side where its sign is negative.
struct Orientation {
  int xx = 1, xy = 0, yx = 0, yy = 1;

  /// From a display matrix (nine 16.16 numbers); other angles go to the nearest quarter turn.
  static Orientation from_matrix(const std::int32_t* matrix);
  [[nodiscard]] bool swaps_sides() const { return xx == 0; }
  [[nodiscard]] bool mirrored() const { return xx * yy - xy * yx < 0; }
  /// Degrees clockwise that the (if need be mirrored) picture is turned by.
  [[nodiscard]] int rotation() const;
  bool operator==(const Orientation&) const = default;
};

/// Turns packed 3-byte pixels. `source` is width x height with `stride` bytes a row; `target` is
/// packed.
void orient_rgb(const std::uint8_t* source,
                std::ptrdiff_t stride,
                std::int64_t width,
                std::int64_t height,
                Orientation orientation,
                std::uint8_t* target);

/// Matrix that players assume for video that does not say: BT.709 for HD, BT.601 below.
[[nodiscard]] constexpr AVColorSpace assumed_matrix(std::int64_t width, std::int64_t height) {
  return width >= 1280 || height > 576 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
}

/// SWS_CS_* number of a matrix.
[[nodiscard]] int sws_matrix(AVColorSpace space);

class FrameConverter {
 public:
  explicit FrameConverter(const ReadOptions& options) : options_(options) {}

  struct Shape {
    std::int64_t width = 0;  ///< square pixels, before turning
    std::int64_t height = 0;
  };
  /// Size with square pixels and max_side applied. Throws media.too_large.
  [[nodiscard]] Shape square_size(std::int64_t width,
                                  std::int64_t height,
                                  Rational aspect,
                                  const std::string& path) const;

  /// Fills size, pixels and `tone_mapped` of `out`.
  void convert(const AVFrame& frame,
               Rational aspect,
               Orientation orientation,
               const std::string& path,
               VideoFrame& out);

 private:
  struct Key {
    int width, height, format, out_width, out_height, out_format, matrix, full_range;
    bool operator==(const Key&) const = default;
  };
  void prepare(const AVFrame& frame, Shape shape, AVPixelFormat out_format);
  void scale(const AVFrame& frame, std::uint8_t* target, int stride);
  void scale_to_scratch(const AVFrame& frame, Shape shape, AVPixelFormat format);
  void tone_map(const AVFrame& frame,
                ToneMapper::Transfer transfer,
                Shape shape,
                std::uint8_t* rgb);
  void compose_alpha(const std::uint8_t* rgba,
                     std::ptrdiff_t stride,
                     Shape shape,
                     std::uint8_t* rgb) const;

  const ReadOptions options_;
  std::optional<Key> key_;
  SwsContextPtr scaler_;
  FramePtr scratch_;
  std::vector<std::uint8_t> upright_scratch_;
  std::optional<ToneMapper> tone_mapper_;
  double tone_map_peak_ = 0.0;
};

/// HDR kind of a frame or stream by its transfer.
[[nodiscard]] HdrKind hdr_kind(AVColorTransferCharacteristic transfer);
[[nodiscard]] bool is_full_range(AVPixelFormat format, AVColorRange range);

}  // namespace kinema::media
