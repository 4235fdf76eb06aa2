// SPDX-License-Identifier: Apache-2.0
// Comment, XMP and a few facts of a media file, read without FFmpeg and without reading the file:
// the parsers jump from box to box. Formats: MP4 and MOV (ISO/IEC 14496-12, QuickTime), Matroska
// and WebM (RFC 9559), GIF, PNG, Y4M.
//
//   const auto metadata = read_container_metadata("out.mp4");
//   const auto json = metadata.xmp ? unwrap_xmp(*metadata.xmp, "out.mp4") : metadata.comment;
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/io/byte_source.h"

namespace kinema::io {

struct ContainerMetadata {
  std::string format;                  ///< mp4, mov, matroska, webm, gif, png, y4m
  std::optional<std::string> comment;  ///< UTF-8
  std::optional<std::string> xmp;      ///< the whole packet
  // Facts of the first video track, where the headers have them.
  std::optional<std::int64_t> width;   ///< pixels
  std::optional<std::int64_t> height;  ///< pixels
  std::optional<double> duration_seconds;
  std::optional<double> fps;  ///< mean frames per second
};

inline constexpr std::uint64_t kMaxContainerText = 16ULL * 1024 * 1024;  ///< bytes of one text

/// `subject` names the source in messages. Throws kBadData container.{format, truncated, box_size,
/// too_many_boxes, text_too_large, damaged}: unknown format, cut off, a box that leaves its parent,
/// more boxes than any real file has, a longer text than kMaxContainerText, another broken
/// structure.
[[nodiscard]] ContainerMetadata read_container_metadata(const ByteSource& source,
                                                        std::string_view subject);

/// The same of a file; also kIo [io.open], [io.read].
[[nodiscard]] ContainerMetadata read_container_metadata(const std::string& path);

/// Appends a top-level `uuid` box with an XMP packet to a finished MP4 or MOV file, in place: meant
/// for a part file before it is published. Throws kIo when it cannot be read, kBadData container.*
/// when it is no whole MP4, kInvalidArgument [container.text_too_large], kOutput [output.write] or
/// kDiskFull when it cannot be extended (its old length is then restored).
void append_xmp_box(const std::string& path, std::string_view xmp);

/// Y4M has no spaces in its header: a comment is kept as the parameter "XCOMMENT=" with every byte
/// outside 0x21..0x7E and '%' written as %XX. @return the parameter, for the stream header.
[[nodiscard]] std::string encode_y4m_comment(std::string_view text);

}  // namespace kinema::io
