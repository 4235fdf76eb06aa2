// SPDX-License-Identifier: Apache-2.0
#include "core/io/container_metadata.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/io/container_parsers.h"
#include "core/io/png_chunk.h"

namespace kinema::io {
namespace internal {

Error container_error(std::string_view code,
                      std::string_view subject,
                      std::string expected,
                      std::string got) {
  return Error(ErrorKind::kBadData,
               {.code = "container." + std::string(code),
                .place = "io.container",
                .subject = std::string(subject),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = code == "truncated" ? "the file is cut off" : ""});
}

void ContainerReader::read(std::uint64_t offset, std::span<std::byte> into) {
  if (offset > size_ || into.size() > size_ - offset) {
    throw error("truncated",
                std::to_string(into.size()) + " bytes at byte " + std::to_string(offset),
                "the end of the file at byte " + std::to_string(size_));
  }
  if (into.size() > kWindowBytes) {
    if (source_.read(offset, into) != into.size()) {
      throw error("truncated", "the file as long as it was", "an earlier end");
    }
    return;
  }
  const bool inside =
      offset >= window_begin_ && offset - window_begin_ + into.size() <= window_size_;
  if (!inside) {
    window_begin_ = offset;
    window_size_ = source_.read(offset, window_);
    if (window_size_ < into.size()) {
      throw error("truncated", "the file as long as it was", "an earlier end");
    }
  }
  if (!into.empty()) {
    std::memcpy(into.data(), window_.data() + (offset - window_begin_), into.size());
  }
}

std::uint64_t ContainerReader::big_endian(std::uint64_t offset, int bytes) {
  std::array<std::byte, 8> raw{};
  read(offset, std::span(raw).first(static_cast<std::size_t>(bytes)));
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value = (value << 8U) | static_cast<std::uint64_t>(raw[static_cast<std::size_t>(i)]);
  }
  return value;
}

std::uint64_t ContainerReader::little_endian(std::uint64_t offset, int bytes) {
  std::array<std::byte, 8> raw{};
  read(offset, std::span(raw).first(static_cast<std::size_t>(bytes)));
  std::uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) {
    value = (value << 8U) | static_cast<std::uint64_t>(raw[static_cast<std::size_t>(i)]);
  }
  return value;
}

std::string ContainerReader::text(std::uint64_t offset, std::uint64_t bytes) {
  if (bytes > kMaxContainerText) {
    throw error("text_too_large",
                "a text of at most " + format_bytes(kMaxContainerText),
                format_bytes(bytes));
  }
  if (offset > size_ || bytes > size_ - offset) {  // before memory is set aside
    throw error("truncated",
                format_bytes(bytes) + " of text at byte " + std::to_string(offset),
                "the end of the file at byte " + std::to_string(size_));
  }
  std::string text(static_cast<std::size_t>(bytes), '\0');
  read(offset, std::as_writable_bytes(std::span(text.data(), text.size())));
  return text;
}

void ContainerReader::count_box() {
  if (++boxes_ > kMaxBoxes) {
    throw error("too_many_boxes", "at most " + std::to_string(kMaxBoxes) + " boxes", "more");
  }
}

}  // namespace internal

ContainerMetadata read_container_metadata(const ByteSource& source, std::string_view subject) {
  internal::ContainerReader reader(source, subject);
  std::array<std::byte, 12> raw{};
  reader.read(0,
              std::span(raw).first(
                  static_cast<std::size_t>(std::min<std::uint64_t>(raw.size(), reader.size()))));
  const std::string_view head(reinterpret_cast<const char*>(raw.data()), raw.size());
  if (head.starts_with("\x1A\x45\xDF\xA3")) {
    return internal::parse_matroska(reader);
  }
  if (head.starts_with("GIF87a") || head.starts_with("GIF89a")) {
    return internal::parse_gif(reader);
  }
  if (head.starts_with(kPngSignature)) {
    return internal::parse_png(reader);
  }
  if (head.starts_with("YUV4MPEG2")) {
    return internal::parse_y4m(reader);
  }
  // Old QuickTime files have no ftyp and start with one of the others.
  for (const std::string_view type : {"ftyp", "moov", "mdat", "wide", "free", "skip"}) {
    if (head.substr(4, 4) == type) {
      return internal::parse_mp4(reader);
    }
  }
  throw reader.error("format",
                     "MP4, MOV, Matroska, WebM, GIF, PNG or Y4M",
                     reader.size() == 0 ? "an empty file" : "something else");
}

ContainerMetadata read_container_metadata(const std::string& path) {
  return read_container_metadata(FileSource(path, "io.container"), path);
}

void append_xmp_box(const std::string& path, std::string_view xmp) {
  constexpr std::size_t kHeaderBytes = 8 + 16;
  if (xmp.size() > kMaxContainerText) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "container.text_too_large",
                 .place = "io.container",
                 .subject = path,
                 .expected = "XMP of at most " + format_bytes(kMaxContainerText),
                 .got = format_bytes(xmp.size())});
  }
  std::uint64_t old_size = 0;
  {
    const FileSource source(path, "io.container");
    internal::ContainerReader reader(source, path);
    internal::check_mp4_can_grow(reader);
    old_size = source.size();
  }
  const std::uint64_t size = kHeaderBytes + xmp.size();
  std::string box;
  for (int shift = 24; shift >= 0; shift -= 8) {
    box += static_cast<char>((size >> shift) & 0xFFU);
  }
  box += "uuid";
  box += internal::kXmpUuid;
  box += xmp;

  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  std::size_t done = 0;
  int error = descriptor < 0 ? errno : 0;
  while (error == 0 && done < box.size()) {
    const ssize_t n = ::pwrite(
        descriptor, box.data() + done, box.size() - done, static_cast<off_t>(old_size + done));
    if (n >= 0) {
      done += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      error = errno;
      std::ignore = ::ftruncate(descriptor, static_cast<off_t>(old_size));
    }
  }
  if (descriptor >= 0 && ::close(descriptor) != 0 && error == 0) {
    error = errno;
  }
  if (error != 0) {
    const bool full = error == ENOSPC || error == EDQUOT;
    throw system_error(
        ErrorKind::kOutput,
        error,
        {.code = full ? "disk_full" : "output.write", .place = "io.container", .subject = path});
  }
}

}  // namespace kinema::io
