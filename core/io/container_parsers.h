// SPDX-License-Identifier: Apache-2.0
// Parts of container_metadata.cpp, one parser per family of formats, and the cursor they share. Not
// for use outside.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/io/byte_source.h"
#include "core/io/container_metadata.h"

namespace kinema::io::internal {

[[nodiscard]] Error container_error(std::string_view code,
                                    std::string_view subject,
                                    std::string expected,
                                    std::string got);

/// A source being parsed: reads numbers at offsets, counts boxes, refuses to pass the end. A window
/// of 4 KiB is kept, so that neighbouring small reads are one system call.
class ContainerReader {
 public:
  ContainerReader(const ByteSource& source, std::string_view subject)
      : source_(source), subject_(subject), size_(source.size()) {}

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] std::string_view subject() const { return subject_; }

  /// Throws [container.truncated] past the end of the source.
  void read(std::uint64_t offset, std::span<std::byte> into);
  [[nodiscard]] std::uint64_t big_endian(std::uint64_t offset, int bytes);
  [[nodiscard]] std::uint64_t little_endian(std::uint64_t offset, int bytes);
  /// Throws [container.text_too_large] above kMaxContainerText.
  [[nodiscard]] std::string text(std::uint64_t offset, std::uint64_t bytes);

  /// Counts one box, chunk or element. Throws [container.too_many_boxes].
  void count_box();

  [[nodiscard]] Error error(std::string_view code, std::string expected, std::string got) const {
    return container_error(code, subject_, std::move(expected), std::move(got));
  }

 private:
  static constexpr std::size_t kWindowBytes = 4096;
  static constexpr std::int64_t kMaxBoxes = 1'000'000;

  const ByteSource& source_;
  std::string_view subject_;
  std::uint64_t size_;
  std::int64_t boxes_ = 0;
  std::uint64_t window_begin_ = 0;
  std::size_t window_size_ = 0;
  std::array<std::byte, kWindowBytes> window_;
};

[[nodiscard]] ContainerMetadata parse_mp4(ContainerReader& reader);
[[nodiscard]] ContainerMetadata parse_matroska(ContainerReader& reader);
[[nodiscard]] ContainerMetadata parse_gif(ContainerReader& reader);
[[nodiscard]] ContainerMetadata parse_png(ContainerReader& reader);
[[nodiscard]] ContainerMetadata parse_y4m(ContainerReader& reader);

/// Walks the top level of an MP4 to its end. Throws container.* unless the boxes fill the file
/// exactly and the last one has a size, so that a box can follow.
void check_mp4_can_grow(ContainerReader& reader);

/// BE7ACFCB-97A9-42E8-9C71-999491E3AFAC, the type of a box that holds XMP (XMP specification part
/// 3).
inline constexpr std::string_view kXmpUuid{
    "\xBE\x7A\xCF\xCB\x97\xA9\x42\xE8\x9C\x71\x99\x94\x91\xE3\xAF\xAC", 16};

}  // namespace kinema::io::internal
