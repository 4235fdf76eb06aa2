// SPDX-License-Identifier: Apache-2.0
// Chunks of PNG files: length, type, data, CRC (PNG specification, third edition, section 5).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kinema::io {

inline constexpr std::string_view kPngSignature{"\x89PNG\r\n\x1a\n", 8};

/// CRC-32 of the polynomial 0xEDB88320, as PNG and zlib use it. `crc` continues an earlier piece.
[[nodiscard]] std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc = 0) noexcept;

/// One whole chunk. `type` has four letters.
[[nodiscard]] std::string png_chunk(std::string_view type, std::string_view data);

/// A text chunk: tEXt for printable ASCII with line breaks, otherwise iTXt. Throws kInvalidArgument
/// [image.text] for a keyword that is not 1 to 79 printable ASCII characters without leading,
/// trailing or double spaces, and for text that is not UTF-8, holds NUL, or is 1 GiB or longer.
[[nodiscard]] std::string png_text_chunk(std::string_view keyword, std::string_view text);

}  // namespace kinema::io
