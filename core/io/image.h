// SPDX-License-Identifier: Apache-2.0
// Still pictures: PNG, JPEG (turned upright by its EXIF orientation), BMP and the first frame of
// GIF are read, PNG is written. Sizes are checked before anything is allocated.
//
//   const Image image = read_image("first.jpg");
//   write_png("out.png", image, {{"Comment", provenance}});
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::io {

struct Image {
  std::int64_t width = 0;            ///< pixels
  std::int64_t height = 0;           ///< pixels
  int channels = 3;                  ///< 3: RGB, 4: RGBA (alpha not premultiplied)
  std::vector<std::uint8_t> pixels;  ///< HWC, 8 bits, as stored (usually sRGB)
};

struct ImageLimits {
  std::int64_t max_pixels = 64LL * 1024 * 1024;
  std::size_t max_bytes = 512ULL * 1024 * 1024;  ///< of the file
};

/// Reads a picture. `subject` names it in messages. Grey becomes RGB, 16 bits become 8. Throws
/// kBadData image.{format, too_large, truncated, checksum, damaged}.
[[nodiscard]] Image read_image(std::span<const std::byte> bytes,
                               std::string_view subject,
                               const ImageLimits& limits = {});

/// The same from a file; also kIo [io.open] when it is missing or unreadable.
[[nodiscard]] Image read_image(const std::string& path, const ImageLimits& limits = {});

enum class Background { kBlack, kWhite };

/// RGB of a picture laid over a plain background; an RGB picture comes back as it is.
[[nodiscard]] Image flatten_alpha(Image image, Background background);

/// Turns and mirrors stored pixels upright. `orientation` is the EXIF value, 1 to 8.
[[nodiscard]] Image turn_upright(Image image, int orientation);

/// Writes a PNG atomically with `text` as tEXt (ASCII) or iTXt (UTF-8) chunks by keyword. Throws
/// kInvalidArgument image.{shape, text, too_large}; kOutput or kDiskFull when it cannot be written.
void write_png(const std::string& path,
               const Image& image,
               const std::map<std::string, std::string>& text = {});

/// The same into memory.
[[nodiscard]] std::string encode_png_file(const Image& image,
                                          const std::map<std::string, std::string>& text = {});

}  // namespace kinema::io
