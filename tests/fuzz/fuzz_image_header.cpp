// SPDX-License-Identifier: Apache-2.0
// The walk over PNG, JPEG, BMP and GIF, the EXIF reader, the decoder's own header reader, and, for
// pictures that say they are small, the whole decoder within its memory budget.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "core/base/error.h"
#include "core/io/image_codec.h"
#include "core/io/image_probe.h"

namespace {

constexpr std::int64_t kMaxDecodedPixels = 1024;
constexpr std::size_t kBudget = 1U << 20U;

/// As read_image does it, but without the checksums, which a fuzzer cannot guess.
void read(std::span<const std::byte> bytes) {
  const auto probe = kinema::io::probe_image(bytes, "fuzz.png", kinema::io::Checksums::kIgnore);
  if (probe.width <= 0 || probe.height <= 0 || probe.orientation < 1 || probe.orientation > 8) {
    std::abort();
  }
  if (probe.width > kMaxDecodedPixels || probe.height > kMaxDecodedPixels ||
      probe.width * probe.height > kMaxDecodedPixels) {
    return;
  }
  const auto header = kinema::io::decode_image_header(bytes);
  if (!header || header->width != probe.width || header->height != probe.height) {
    return;
  }
  const auto image = kinema::io::decode_image(bytes, kBudget);
  const auto expected = image.width * image.height * image.channels;
  if (static_cast<std::size_t>(expected) != image.pixels.size() ||
      image.width * image.height > kMaxDecodedPixels) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const int orientation = kinema::io::exif_orientation(bytes);
  if (orientation < 1 || orientation > 8) {
    std::abort();
  }
  try {
    read(bytes);
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadData) {
      std::abort();
    }
  }
  return 0;
}
