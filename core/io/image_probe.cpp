// SPDX-License-Identifier: Apache-2.0
#include "core/io/image_probe.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/io/png_chunk.h"

namespace kinema::io {
namespace {

// A progressive JPEG of more scans costs minutes for a few bytes each; real ones have about ten.
constexpr int kMaxScans = 200;

class Walker {
 public:
  Walker(std::span<const std::byte> bytes, std::string_view subject)
      : bytes_(bytes), subject_(subject) {}

  [[nodiscard]] std::size_t left() const { return bytes_.size() - position_; }
  [[nodiscard]] std::span<const std::byte> rest() const { return bytes_.subspan(position_); }

  void skip(std::uint64_t count, const char* what) {
    if (count > left()) {
      throw error("truncated",
                  std::string("the rest of ") + what,
                  "the end of the file at byte " + std::to_string(bytes_.size()));
    }
    position_ += static_cast<std::size_t>(count);
  }
  std::span<const std::byte> take(std::uint64_t count, const char* what) {
    const std::size_t start = position_;
    skip(count, what);
    return bytes_.subspan(start, static_cast<std::size_t>(count));
  }
  std::uint32_t big_endian(int size, const char* what) {
    std::uint32_t value = 0;
    for (const std::byte b : take(static_cast<std::uint64_t>(size), what)) {
      value = (value << 8U) | static_cast<std::uint32_t>(b);
    }
    return value;
  }
  std::uint32_t little_endian(int size, const char* what) {
    std::uint32_t value = 0;
    int shift = 0;
    for (const std::byte b : take(static_cast<std::uint64_t>(size), what)) {
      value |= static_cast<std::uint32_t>(b) << shift;
      shift += 8;
    }
    return value;
  }

  [[nodiscard]] Error error(std::string_view code, std::string expected, std::string got) const {
    return Error(ErrorKind::kBadData,
                 {.code = "image." + std::string(code),
                  .place = "io.image",
                  .subject = std::string(subject_),
                  .expected = std::move(expected),
                  .got = std::move(got),
                  .hint = code == "truncated" ? "the file is cut off; get it again" : ""});
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view subject_;
  std::size_t position_ = 0;
};

bool equal(std::span<const std::byte> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

ImageProbe probe_png(Walker walker, Checksums checksums) {
  walker.skip(kPngSignature.size(), "the signature");
  ImageProbe probe{.format = ImageFormat::kPng};
  for (bool first = true;; first = false) {
    const std::uint32_t length = walker.big_endian(4, "a chunk");
    const auto chunk = walker.take(std::uint64_t{length} + 4, "a chunk");
    const auto type = chunk.first(4);
    if (first && (!equal(type, "IHDR") || length != 13)) {
      throw walker.error("damaged", "a header chunk of 13 bytes first", "another chunk");
    }
    const std::uint32_t crc = walker.big_endian(4, "a chunk");
    if (checksums == Checksums::kCheck && crc != crc32(chunk)) {
      throw walker.error(
          "checksum", "chunks with a right CRC-32", "a wrong one, so the file is damaged");
    }
    if (first) {
      Walker header(chunk.subspan(4), "");
      probe.width = header.big_endian(4, "");
      probe.height = header.big_endian(4, "");
    }
    if (equal(type, "IEND")) {
      return probe;
    }
  }
}

/// Skips entropy-coded data; leaves the walker at the marker behind it.
void skip_scan(Walker& walker) {
  for (;;) {
    const auto rest = walker.rest();
    const void* found = rest.empty() ? nullptr : std::memchr(rest.data(), 0xFF, rest.size());
    if (found == nullptr) {
      walker.skip(std::uint64_t{rest.size()} + 1, "the picture data");  // throws
    }
    walker.skip(static_cast<std::uint64_t>(static_cast<const std::byte*>(found) - rest.data()), "");
    if (walker.left() < 2) {
      walker.skip(2, "the picture data");  // throws
    }
    const auto next = static_cast<unsigned>(walker.rest()[1]);
    if (next == 0xFF) {
      walker.skip(1, "");  // fill byte
      continue;
    }
    if (next != 0 && (next < 0xD0 || next > 0xD7)) {
      return;
    }
    walker.skip(2, "");  // stuffed byte or restart marker
  }
}

/// Huffman tables: class and number, 16 counts, then as many symbols as the counts add up to.
/// Version 2.27 of the decoder writes past its table when they are more than 256.
void check_huffman_tables(const Walker& walker, std::span<const std::byte> segment) {
  while (!segment.empty()) {
    constexpr std::size_t kHead = 17;
    std::size_t symbols = 0;
    for (std::size_t i = 1; i < std::min(kHead, segment.size()); ++i) {
      symbols += static_cast<std::size_t>(segment[i]);
    }
    if (segment.size() < kHead || symbols > 256 || symbols > segment.size() - kHead) {
      throw walker.error(
          "damaged",
          "a JPEG Huffman table of at most 256 symbols in its segment",
          std::to_string(symbols) + " symbols in " + std::to_string(segment.size()) + " bytes");
    }
    segment = segment.subspan(kHead + symbols);
  }
}

ImageProbe probe_jpeg(Walker walker) {
  walker.skip(2, "the start marker");
  ImageProbe probe{.format = ImageFormat::kJpeg};
  bool has_exif = false;
  for (int scans = 0;;) {
    std::uint32_t marker = walker.big_endian(1, "a marker");
    if (marker != 0xFF) {
      throw walker.error("damaged", "a JPEG marker", "byte " + std::to_string(marker));
    }
    while (marker == 0xFF) {
      marker = walker.big_endian(1, "a marker");
    }
    if (marker == 0xD9) {
      if (probe.width == 0 || scans == 0) {
        throw walker.error("truncated", "a JPEG frame and its data", "the end marker before them");
      }
      return probe;
    }
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
      continue;  // markers without a length
    }
    const std::uint32_t length = walker.big_endian(2, "a segment");
    if (length < 2) {
      throw walker.error("damaged", "a JPEG segment of 2 bytes or more", std::to_string(length));
    }
    const auto segment = walker.take(length - 2, "a segment");
    const bool is_frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (is_frame) {
      Walker frame(segment, "");
      if (segment.size() < 6) {
        throw walker.error(
            "damaged", "a JPEG frame header of 8 bytes or more", std::to_string(length));
      }
      frame.skip(1, "");
      probe.height = frame.big_endian(2, "");
      probe.width = frame.big_endian(2, "");
    } else if (marker == 0xC4) {
      check_huffman_tables(walker, segment);
    } else if (marker == 0xE1 && !has_exif && equal(segment, std::string_view("Exif\0\0", 6))) {
      has_exif = true;
      probe.orientation = exif_orientation(segment.subspan(6));
    } else if (marker == 0xDA) {
      if (++scans > kMaxScans) {
        throw walker.error(
            "damaged", "at most " + std::to_string(kMaxScans) + " JPEG scans", "more");
      }
      skip_scan(walker);
    }
  }
}

ImageProbe probe_gif(Walker walker) {
  walker.skip(6, "the signature");
  ImageProbe probe{.format = ImageFormat::kGif};
  probe.width = walker.little_endian(2, "the header");
  probe.height = walker.little_endian(2, "the header");
  const auto skip_palette = [&](std::uint32_t flags) {
    if ((flags & 0x80U) != 0) {
      walker.skip(3ULL << ((flags & 7U) + 1U), "a palette");
    }
  };
  const auto skip_sub_blocks = [&](const char* what) {
    for (std::uint32_t size = 1; size != 0;) {
      size = walker.little_endian(1, what);
      walker.skip(size, what);
    }
  };
  const std::uint32_t flags = walker.little_endian(1, "the header");
  walker.skip(2, "the header");
  skip_palette(flags);
  for (;;) {
    const std::uint32_t block = walker.little_endian(1, "a block");
    if (block == 0x21) {
      walker.skip(1, "an extension");
      skip_sub_blocks("an extension");
    } else if (block == 0x2C) {
      walker.skip(8, "a frame");
      skip_palette(walker.little_endian(1, "a frame"));
      walker.skip(1, "a frame");
      skip_sub_blocks("the picture data");
      return probe;
    } else {
      throw walker.error("damaged", "a GIF frame", "byte " + std::to_string(block));
    }
  }
}

ImageProbe probe_bmp(Walker walker, std::uint64_t file_size) {
  walker.skip(10, "the header");
  const std::uint64_t data_offset = walker.little_endian(4, "the header");
  const std::uint32_t header_size = walker.little_endian(4, "the header");
  ImageProbe probe{.format = ImageFormat::kBmp};
  std::uint32_t bits = 0;
  if (header_size == 12) {
    probe.width = walker.little_endian(2, "the header");
    probe.height = walker.little_endian(2, "the header");
    walker.skip(2, "the header");
    bits = walker.little_endian(2, "the header");
  } else if (header_size == 40 || header_size == 56 || header_size == 108 || header_size == 124) {
    probe.width = static_cast<std::int32_t>(walker.little_endian(4, "the header"));
    // Negative: rows run from the top.
    probe.height =
        std::abs(std::int64_t{static_cast<std::int32_t>(walker.little_endian(4, "the header"))});
    walker.skip(2, "the header");
    bits = walker.little_endian(2, "the header");
  } else {
    throw walker.error(
        "damaged", "a BMP header of 12, 40, 56, 108 or 124 bytes", std::to_string(header_size));
  }
  if (probe.width <= 0 || probe.height <= 0 || bits == 0 || bits > 32) {
    throw walker.error("damaged",
                       "a BMP of 1 to 32 bits a pixel and positive size",
                       std::to_string(probe.width) + " x " + std::to_string(probe.height) +
                           " pixels of " + std::to_string(bits) + " bits");
  }
  // Below 2^31 * 2^5 bits a row, times 2^31 rows: fits 64 bits.
  const auto row_bits = static_cast<std::uint64_t>(probe.width) * bits;
  const std::uint64_t padded_row = (row_bits + 31) / 32 * 4;
  const std::uint64_t needed =
      data_offset + padded_row * static_cast<std::uint64_t>(probe.height - 1) + (row_bits + 7) / 8;
  if (needed > file_size) {
    throw walker.error("truncated",
                       std::to_string(needed) + " bytes",
                       "the end of the file at byte " + std::to_string(file_size));
  }
  return probe;
}

}  // namespace

std::string_view to_string(ImageFormat format) noexcept {
  switch (format) {
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kBmp:
      return "BMP";
    case ImageFormat::kGif:
      return "GIF";
  }
  return "";
}

ImageProbe probe_image(std::span<const std::byte> bytes,
                       std::string_view subject,
                       Checksums checksums) {
  const Walker walker(bytes, subject);
  ImageProbe probe;
  if (equal(bytes, kPngSignature)) {
    probe = probe_png(walker, checksums);
  } else if (equal(bytes, "\xFF\xD8\xFF")) {
    probe = probe_jpeg(walker);
  } else if (equal(bytes, "GIF87a") || equal(bytes, "GIF89a")) {
    probe = probe_gif(walker);
  } else if (equal(bytes, "BM")) {
    probe = probe_bmp(walker, bytes.size());
  } else {
    throw walker.error("format",
                       "a PNG, JPEG, BMP or GIF picture",
                       bytes.empty() ? "an empty file" : "something else");
  }
  if (probe.width <= 0 || probe.height <= 0) {
    throw walker.error("damaged",
                       "a picture of at least one pixel",
                       std::to_string(probe.width) + " x " + std::to_string(probe.height));
  }
  return probe;
}

int exif_orientation(std::span<const std::byte> tiff) noexcept {
  if (tiff.size() < 8) {
    return 1;
  }
  const bool little = equal(tiff, std::string_view("II\x2A\0", 4));
  if (!little && !equal(tiff, std::string_view("MM\0\x2A", 4))) {
    return 1;
  }
  const auto read = [&](std::size_t offset, int size) {
    std::uint32_t value = 0;
    for (int i = 0; i < size; ++i) {
      const auto byte = static_cast<std::uint32_t>(tiff[offset + static_cast<std::size_t>(i)]);
      value |= byte << (8 * (little ? i : size - 1 - i));
    }
    return value;
  };
  const std::size_t directory = read(4, 4);
  if (directory > tiff.size() - 2) {
    return 1;
  }
  constexpr std::size_t kEntryBytes = 12;
  const std::size_t count =
      std::min<std::size_t>(read(directory, 2), (tiff.size() - directory - 2) / kEntryBytes);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    constexpr std::uint32_t kOrientation = 0x0112;
    constexpr std::uint32_t kShort = 3;
    if (read(entry, 2) == kOrientation && read(entry + 2, 2) == kShort) {
      const std::uint32_t value = read(entry + 8, 2);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

}  // namespace kinema::io
