// SPDX-License-Identifier: Apache-2.0
// Formats whose metadata lies between or before the pictures: GIF, PNG, Y4M.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <vector>

#include "core/io/container_parsers.h"
#include "core/io/png_chunk.h"
#include "core/io/utf8.h"

namespace kinema::io {
namespace internal {
namespace {

// GIF has no index: its blocks of 255 bytes are walked one by one, and no further than this. Behind
// it only a comment at the very end is looked for, in the last bytes.
constexpr std::uint64_t kMaxGifWalk = 32ULL << 20U;
constexpr std::uint64_t kGifTail = 1ULL << 20U;

class GifParser {
 public:
  explicit GifParser(ContainerReader& reader) : reader_(reader) {}

  ContainerMetadata parse() {
    metadata_.format = "gif";
    metadata_.width = static_cast<std::int64_t>(reader_.little_endian(6, 2));
    metadata_.height = static_cast<std::int64_t>(reader_.little_endian(8, 2));
    offset_ = 13;
    skip_palette(reader_.big_endian(10, 1));
    bool complete = false;
    while (!complete && offset_ < std::min(reader_.size(), kMaxGifWalk)) {
      complete = parse_block();
    }
    if (!complete && offset_ >= kMaxGifWalk && offset_ < reader_.size() && !metadata_.comment) {
      find_last_comment();
    }
    if (offset_ > reader_.size()) {
      throw reader_.error("truncated",
                          "a GIF block up to byte " + std::to_string(offset_),
                          "the end of the file at byte " + std::to_string(reader_.size()));
    }
    if (complete && hundredths_ > 0) {
      metadata_.duration_seconds = static_cast<double>(hundredths_) / 100;
      metadata_.fps = static_cast<double>(frames_) / *metadata_.duration_seconds;
    }
    return std::move(metadata_);
  }

 private:
  std::uint64_t byte() { return reader_.big_endian(offset_++, 1); }

  void skip_palette(std::uint64_t flags) {
    if ((flags & 0x80U) != 0) {
      offset_ += 3ULL << ((flags & 7U) + 1U);
    }
  }

  void skip_sub_blocks() {
    for (std::uint64_t size = 1; size != 0 && offset_ < kMaxGifWalk;) {
      size = byte();
      offset_ += size;
    }
  }

  /// @return whether this was the end of the file.
  bool parse_block() {
    const std::uint64_t block = byte();
    if (block == 0x3B) {
      return true;
    }
    if (block == 0x2C) {
      const std::uint64_t flags = reader_.big_endian(offset_ + 8, 1);
      offset_ += 9;
      skip_palette(flags);
      offset_ += 1;
      skip_sub_blocks();
      ++frames_;
      return false;
    }
    if (block != 0x21) {
      throw reader_.error("damaged",
                          "a GIF block at byte " + std::to_string(offset_ - 1),
                          "byte " + std::to_string(block));
    }
    parse_extension(byte());
    return false;
  }

  void parse_extension(std::uint64_t label) {
    reader_.count_box();
    if (label == 0xF9 && reader_.big_endian(offset_, 1) == 4) {
      hundredths_ += reader_.little_endian(offset_ + 2, 2);
    } else if (label == 0xFE) {
      read_comment();
      return;
    } else if (label == 0xFF && reader_.big_endian(offset_, 1) == 11 &&
               reader_.text(offset_ + 1, 11) == "XMP DataXMP") {
      read_xmp();
      return;
    }
    skip_sub_blocks();
  }

  void read_comment() {
    std::string text;
    for (;;) {
      const std::uint64_t size = byte();
      if (size == 0) {
        break;
      }
      if (text.size() + size > kMaxContainerText) {
        throw reader_.error("text_too_large", "a GIF comment of at most 16 MiB", "a longer one");
      }
      text += reader_.text(offset_, size);
      offset_ += size;
    }
    if (!metadata_.comment) {
      metadata_.comment = utf8_or_latin1(std::move(text));
    }
  }

  /// A comment extension whose blocks end right before the file's last byte, the trailer.
  void find_last_comment() {
    const std::uint64_t size = std::min(kGifTail, reader_.size());
    const std::string tail = reader_.text(reader_.size() - size, size);
    if (!tail.ends_with(std::string_view("\0;", 2))) {
      return;
    }
    // Whether blocks that start at a byte end at the last zero; filled from the back, so that a
    // tail made of nothing but comment marks costs no more than another.
    std::vector<bool> ends_last(tail.size(), false);
    ends_last[tail.size() - 2] = true;
    for (std::size_t at = tail.size() - 2; at-- > 0;) {
      const std::size_t length = static_cast<unsigned char>(tail[at]);
      const std::size_t next = at + 1 + length;
      ends_last[at] = length > 0 && next < tail.size() && ends_last[next];
    }
    for (std::size_t at = tail.find("!\xFE"); at != std::string::npos;
         at = tail.find("!\xFE", at + 1)) {
      std::size_t block = at + 2;
      if (block >= tail.size() || !ends_last[block]) {
        continue;
      }
      std::string text;
      while (tail[block] != 0) {
        const std::size_t length = static_cast<unsigned char>(tail[block]);
        text += tail.substr(block + 1, length);
        block += 1 + length;
      }
      metadata_.comment = utf8_or_latin1(std::move(text));
      return;
    }
  }

  /// The packet is not cut into blocks; 256 falling bytes and two zeros behind it let readers that
  /// take its characters for lengths land on the end (XMP specification part 3, GIF).
  void read_xmp() {
    constexpr std::uint64_t kTrailer = 258;
    offset_ += 12;
    const std::uint64_t begin = offset_;
    skip_sub_blocks();
    if (offset_ - begin >= kTrailer && !metadata_.xmp) {
      metadata_.xmp = reader_.text(begin, offset_ - begin - kTrailer);
    }
  }

  ContainerReader& reader_;
  ContainerMetadata metadata_;
  std::uint64_t offset_ = 0;
  std::uint64_t hundredths_ = 0;  ///< seconds / 100
  std::uint64_t frames_ = 0;
};

void read_png_text(ContainerReader& reader,
                   std::uint64_t begin,
                   std::uint64_t size,
                   bool international,
                   ContainerMetadata& metadata) {
  constexpr std::uint64_t kLongestKeyword = 80;  // with its NUL
  const std::string head = reader.text(begin, std::min(size, kLongestKeyword));
  const std::string keyword = head.substr(0, head.find('\0'));
  const bool is_xmp = international && keyword == "XML:com.adobe.xmp";
  const bool is_comment = keyword == "Comment";
  auto& target = is_xmp ? metadata.xmp : metadata.comment;
  if (keyword.size() == head.size() || (!is_xmp && !is_comment) || target) {
    return;
  }
  std::string text = reader.text(begin, size).substr(keyword.size() + 1);
  if (!international) {
    target = utf8_or_latin1(std::move(text));
    return;
  }
  if (text.size() < 2 || text[0] != 0) {
    return;  // compressed
  }
  std::size_t at = 2;
  for (int field = 0; field < 2; ++field) {  // language, translated keyword
    at = text.find('\0', at);
    if (at == std::string::npos) {
      throw reader.error("damaged", "an iTXt chunk of five fields", "fewer");
    }
    ++at;
  }
  target = utf8_or_latin1(text.substr(at));
}

/// Percent-decoding; a '%' without two hexadecimal digits stands for itself.
std::string decode_percent(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const char* const begin = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(begin, begin + 2, value, 16).ptr == begin + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// Bytes of one frame of 8 bits a sample; 0 when the layout is another.
std::uint64_t y4m_frame_bytes(std::string_view layout, std::uint64_t width, std::uint64_t height) {
  const std::uint64_t half = ((width + 1) / 2) * ((height + 1) / 2);
  if (layout.empty() || layout == "420" || layout == "420jpeg" || layout == "420mpeg2" ||
      layout == "420paldv") {
    return width * height + 2 * half;
  }
  if (layout == "422") {
    return width * height + 2 * ((width + 1) / 2) * height;
  }
  if (layout == "444") {
    return 3 * width * height;
  }
  return layout == "mono" ? width * height : 0;
}

}  // namespace

ContainerMetadata parse_gif(ContainerReader& reader) {
  return GifParser(reader).parse();
}

ContainerMetadata parse_png(ContainerReader& reader) {
  ContainerMetadata metadata;
  metadata.format = "png";
  for (std::uint64_t offset = kPngSignature.size();;) {
    reader.count_box();
    const std::uint64_t size = reader.big_endian(offset, 4);
    const std::string type = reader.text(offset + 4, 4);
    const std::uint64_t begin = offset + 8;
    if (begin > reader.size() || size + 4 > reader.size() - begin) {
      throw reader.error(
          "truncated",
          std::to_string(size) + " bytes of chunk data at byte " + std::to_string(begin),
          "the end of the file at byte " + std::to_string(reader.size()));
    }
    if (type == "IEND") {
      return metadata;
    }
    if (type == "IHDR" && size == 13) {
      metadata.width = static_cast<std::int64_t>(reader.big_endian(begin, 4));
      metadata.height = static_cast<std::int64_t>(reader.big_endian(begin + 4, 4));
    } else if (type == "tEXt" || type == "iTXt") {
      read_png_text(reader, begin, size, type == "iTXt", metadata);
    }
    offset = begin + size + 4;
  }
}

ContainerMetadata parse_y4m(ContainerReader& reader) {
  // The header is one line; a comment may make it long.
  std::string header;
  while (header.find('\n') == std::string::npos) {
    constexpr std::uint64_t kStep = 4096;
    const std::uint64_t count = std::min<std::uint64_t>(kStep, reader.size() - header.size());
    if (count == 0) {
      throw reader.error("truncated", "the end of the Y4M header line", "the end of the file");
    }
    if (header.size() + count > 3 * kMaxContainerText) {
      throw reader.error("text_too_large", "a Y4M header of at most 48 MiB", "a longer one");
    }
    header += reader.text(header.size(), count);
  }
  header.resize(header.find('\n'));
  const std::uint64_t data = header.size() + 1;

  ContainerMetadata metadata;
  metadata.format = "y4m";
  std::string layout;
  std::uint64_t width = 0;
  std::uint64_t height = 0;
  for (std::size_t at = header.find(' '); at != std::string::npos;) {
    const std::size_t next = header.find(' ', at + 1);
    const std::string_view field =
        std::string_view(header).substr(at + 1, next == std::string::npos ? next : next - at - 1);
    at = next;
    const std::string_view value = field.empty() ? field : field.substr(1);
    const char* const end = value.data() + value.size();
    constexpr std::uint64_t kLargest = 1U << 24U;
    if (field.starts_with('W') || field.starts_with('H')) {
      std::uint64_t size = 0;
      if (std::from_chars(value.data(), end, size).ptr != end || size == 0 || size > kLargest) {
        throw reader.error("damaged",
                           "a Y4M width and height from 1 to 2^24",
                           "'" + std::string(field.substr(0, 40)) + "'");
      }
      (field.front() == 'W' ? width : height) = size;
    } else if (field.starts_with('F')) {
      std::uint32_t numerator = 0;
      std::uint32_t denominator = 0;
      const auto colon = std::from_chars(value.data(), end, numerator).ptr;
      if (colon != end && *colon == ':' &&
          std::from_chars(colon + 1, end, denominator).ptr == end && numerator > 0 &&
          denominator > 0) {
        metadata.fps = static_cast<double>(numerator) / denominator;
      }
    } else if (field.starts_with('C')) {
      layout = value;
    } else if (field.starts_with("XCOMMENT=")) {
      metadata.comment = utf8_or_latin1(decode_percent(value.substr(8)));
    }
  }
  if (width > 0 && height > 0) {
    metadata.width = static_cast<std::int64_t>(width);
    metadata.height = static_cast<std::int64_t>(height);
    constexpr std::uint64_t kFrameHeader = 6;  // "FRAME\n"
    const std::uint64_t bytes = y4m_frame_bytes(layout, width, height);
    if (bytes > 0 && metadata.fps) {
      const std::uint64_t frames = (reader.size() - data) / (bytes + kFrameHeader);
      metadata.duration_seconds = static_cast<double>(frames) / *metadata.fps;
    }
  }
  return metadata;
}

}  // namespace internal

std::string encode_y4m_comment(std::string_view text) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out = "XCOMMENT=";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7F && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 0xFU];
    }
  }
  return out;
}

}  // namespace kinema::io
