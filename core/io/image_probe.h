// SPDX-License-Identifier: Apache-2.0
// What a picture file says about itself, and whether all of it is there. The decoder fills what is
// missing from a cut file with grey; here the structure is walked first, so that a cut file is an
// error. Allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace kinema::io {

enum class ImageFormat { kPng, kJpeg, kBmp, kGif };

[[nodiscard]] std::string_view to_string(ImageFormat format) noexcept;

struct ImageProbe {
  ImageFormat format = ImageFormat::kPng;
  std::int64_t width = 0;   ///< pixels, before turning
  std::int64_t height = 0;  ///< pixels, before turning
  int orientation = 1;      ///< EXIF (JPEG only), 1 to 8
};

enum class Checksums { kCheck, kIgnore };

/// Walks the file up to the end of its first picture. `subject` names it in messages. Throws
/// kBadData image.{format, truncated, checksum, damaged}: not a known format, cut off, a PNG chunk
/// with a wrong CRC, a structure that cannot be right or that the decoder would stumble over.
[[nodiscard]] ImageProbe probe_image(std::span<const std::byte> bytes,
                                     std::string_view subject,
                                     Checksums checksums = Checksums::kCheck);

/// EXIF orientation (tag 0x0112 of the first directory) in a TIFF structure; 1 when absent or
/// damaged.
[[nodiscard]] int exif_orientation(std::span<const std::byte> tiff) noexcept;

}  // namespace kinema::io
