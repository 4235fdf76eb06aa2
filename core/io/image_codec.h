// SPDX-License-Identifier: Apache-2.0
// The only door to stb_image and stb_image_write (public domain, Sean Barrett). Used by image.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kinema::io {

struct ImageHeader {
  std::int64_t width = 0;
  std::int64_t height = 0;
};

/// Size that the decoder reads from the header; nothing when it knows no such picture.
[[nodiscard]] std::optional<ImageHeader> decode_image_header(std::span<const std::byte> bytes);

struct DecodedImage {
  std::int64_t width = 0;
  std::int64_t height = 0;
  int channels = 0;                  ///< 3 or 4; 0 when decoding failed
  std::vector<std::uint8_t> pixels;  ///< HWC
  bool out_of_budget = false;        ///< failed because it asked for more memory than allowed
  std::string reason;                ///< why it failed, the decoder's words
};

/// Decodes the first picture. The decoder may hold at most `memory_budget` bytes at a time: a
/// compressed stream that swells beyond what its size explains fails instead of filling the memory.
[[nodiscard]] DecodedImage decode_image(std::span<const std::byte> bytes,
                                        std::size_t memory_budget);

/// A PNG file in memory; empty when memory ran out. Sizes must fit 31 bits together.
[[nodiscard]] std::string encode_png(std::int64_t width,
                                     std::int64_t height,
                                     int channels,
                                     std::span<const std::uint8_t> pixels);

}  // namespace kinema::io
