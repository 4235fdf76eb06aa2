// SPDX-License-Identifier: Apache-2.0
#include "core/io/image.h"

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "core/base/checked_math.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/image_codec.h"
#include "core/io/image_probe.h"
#include "core/io/png_chunk.h"

namespace kinema::io {
namespace {

constexpr std::string_view kPlace = "io.image";
// 16-bit RGBA while it is converted, or the coefficients of a progressive JPEG, stay below this.
constexpr std::size_t kDecoderBytesPerPixel = 40;
constexpr std::size_t kDecoderBaseBytes = 16U << 20U;
// The encoder counts bytes in 31 bits.
constexpr std::int64_t kMaxEncodedBytes = 1LL << 30;

Error data_error(std::string_view code,
                 std::string_view subject,
                 std::string expected,
                 std::string got,
                 std::string hint = "") {
  return Error(ErrorKind::kBadData,
               {.code = "image." + std::string(code),
                .place = std::string(kPlace),
                .subject = std::string(subject),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

Error argument_error(std::string_view code,
                     std::string subject,
                     std::string expected,
                     std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "image." + std::string(code),
                .place = std::string(kPlace),
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

std::string size_text(std::int64_t width, std::int64_t height) {
  return std::to_string(width) + " x " + std::to_string(height) + " pixels";
}

/// Number of pixels, refused above the limit.
std::int64_t checked_pixels(std::int64_t width,
                            std::int64_t height,
                            const ImageLimits& limits,
                            std::string_view subject) {
  const auto pixels = checked_mul(width, height);
  if (!pixels || *pixels > limits.max_pixels) {
    throw data_error("too_large",
                     subject,
                     "at most " + std::to_string(limits.max_pixels) + " pixels",
                     size_text(width, height),
                     "make the picture smaller");
  }
  return *pixels;
}

Error out_of_memory(std::string_view subject) {
  return Error(ErrorKind::kOutOfMemory,
               {.code = "out_of_memory",
                .place = std::string(kPlace),
                .subject = std::string(subject),
                .expected = "memory for the picture",
                .got = "none left"});
}

DecodedImage decode_or_run_out(std::span<const std::byte> bytes,
                               std::size_t memory_budget,
                               std::string_view subject) {
  try {
    return decode_image(bytes, memory_budget);
  } catch (const std::bad_alloc&) {
    throw out_of_memory(subject);
  }
}

void check_image(const Image& image) {
  const bool fits =
      image.width > 0 && image.height > 0 && (image.channels == 3 || image.channels == 4);
  const auto pixels = checked_mul(image.width, image.height);
  const auto bytes = pixels ? checked_mul<std::int64_t>(*pixels, image.channels) : std::nullopt;
  if (!fits || !bytes || !std::cmp_equal(*bytes, image.pixels.size())) {
    throw argument_error("shape",
                         "image",
                         "width x height x 3 or 4 bytes",
                         size_text(image.width, image.height) + " of " +
                             std::to_string(image.channels) + " channels in " +
                             std::to_string(image.pixels.size()) + " bytes");
  }
}

}  // namespace

Image read_image(std::span<const std::byte> bytes,
                 std::string_view subject,
                 const ImageLimits& limits) {
  if (bytes.size() > limits.max_bytes) {
    throw data_error("too_large",
                     subject,
                     "at most " + format_bytes(limits.max_bytes),
                     format_bytes(bytes.size()));
  }
  const ImageProbe probe = probe_image(bytes, subject);
  const std::string format(to_string(probe.format));
  const std::int64_t pixels = checked_pixels(probe.width, probe.height, limits, subject);
  // The decoder must see the size that was checked, not another header further on.
  const auto header = decode_image_header(bytes);
  if (!header || header->width != probe.width || header->height != probe.height) {
    throw data_error("damaged",
                     subject,
                     "a " + format + " header that can be read",
                     header ? "two sizes, " + size_text(probe.width, probe.height) + " and " +
                                  size_text(header->width, header->height)
                            : "a damaged or unsupported one");
  }
  auto decoded = decode_or_run_out(
      bytes,
      kDecoderBaseBytes + bytes.size() + kDecoderBytesPerPixel * static_cast<std::size_t>(pixels),
      subject);
  if (decoded.out_of_budget) {
    throw data_error("too_large",
                     subject,
                     "data that fits " + size_text(header->width, header->height),
                     "far more once decompressed");
  }
  if (decoded.channels == 0 || decoded.width != probe.width || decoded.height != probe.height) {
    throw data_error("damaged",
                     subject,
                     "a whole " + format + " picture",
                     "the decoder stops: " + decoded.reason);
  }
  return turn_upright({.width = decoded.width,
                       .height = decoded.height,
                       .channels = decoded.channels,
                       .pixels = std::move(decoded.pixels)},
                      probe.orientation);
}

Image read_image(const std::string& path, const ImageLimits& limits) {
  return read_image(MappedFile::open(path, kPlace).bytes(), path, limits);
}

Image flatten_alpha(Image image, Background background) {
  check_image(image);
  if (image.channels == 3) {
    return image;
  }
  const unsigned back = background == Background::kWhite ? 255 : 0;
  const std::size_t count = image.pixels.size() / 4;
  std::uint8_t* out = image.pixels.data();  // in place: the result never overtakes the source
  const std::uint8_t* in = image.pixels.data();
  for (std::size_t i = 0; i < count; ++i, in += 4, out += 3) {
    const unsigned alpha = in[3];
    for (int c = 0; c < 3; ++c) {
      out[c] = static_cast<std::uint8_t>((in[c] * alpha + back * (255 - alpha) + 127) / 255);
    }
  }
  image.pixels.resize(count * 3);
  image.channels = 3;
  return image;
}

Image turn_upright(Image image, int orientation) {
  check_image(image);
  if (orientation <= 1 || orientation > 8) {
    return image;
  }
  // EXIF 2.3, tag 0x0112: where the stored row 0 and column 0 lie in the upright picture.
  const bool transposed = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright{.width = transposed ? image.height : image.width,
                .height = transposed ? image.width : image.height,
                .channels = image.channels,
                .pixels = std::vector<std::uint8_t>(image.pixels.size())};
  std::uint8_t* out = upright.pixels.data();
  for (std::int64_t y = 0; y < upright.height; ++y) {
    for (std::int64_t x = 0; x < upright.width; ++x) {
      const std::int64_t stored_x = transposed ? y : x;
      const std::int64_t stored_y = transposed ? x : y;
      const std::int64_t from_x = flip_x ? image.width - 1 - stored_x : stored_x;
      const std::int64_t from_y = flip_y ? image.height - 1 - stored_y : stored_y;
      const auto* in = image.pixels.data() + (from_y * image.width + from_x) * image.channels;
      out = std::copy(in, in + image.channels, out);
    }
  }
  return upright;
}

std::string encode_png_file(const Image& image, const std::map<std::string, std::string>& text) {
  check_image(image);
  if (std::cmp_greater(image.pixels.size(), kMaxEncodedBytes)) {
    throw argument_error(
        "too_large", "image", "at most 1 GiB of pixels", format_bytes(image.pixels.size()));
  }
  std::string chunks;
  for (const auto& [keyword, value] : text) {
    chunks += png_text_chunk(keyword, value);
  }
  std::string file = encode_png(image.width, image.height, image.channels, image.pixels);
  if (file.empty()) {
    throw out_of_memory("PNG");
  }
  constexpr std::size_t kAfterHeader = 8 + 25;  // signature and header chunk
  file.insert(kAfterHeader, chunks);
  return file;
}

void write_png(const std::string& path,
               const Image& image,
               const std::map<std::string, std::string>& text) {
  write_file(path, encode_png_file(image, text));
}

}  // namespace kinema::io
