// SPDX-License-Identifier: Apache-2.0
// Metadata of media files: MP4, MOV, Matroska, GIF, PNG and Y4M by their first bytes, and the XMP
// packet. Whatever text comes out must survive being wrapped and unwrapped.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>
#include <tuple>

#include "core/base/error.h"
#include "core/io/container_metadata.h"
#include "core/io/utf8.h"
#include "core/io/xmp.h"

namespace {

void read_container(std::span<const std::byte> bytes) {
  try {
    const auto metadata =
        kinema::io::read_container_metadata(kinema::io::MemorySource(bytes), "fuzz.mp4");
    if (metadata.comment) {
      if (!kinema::io::is_utf8(*metadata.comment) ||
          kinema::io::unwrap_xmp(kinema::io::wrap_xmp(*metadata.comment), "fuzz.mp4") !=
              metadata.comment) {
        std::abort();
      }
    }
    if (metadata.xmp) {
      std::ignore = kinema::io::unwrap_xmp(*metadata.xmp, "fuzz.mp4");
    }
    if ((metadata.duration_seconds && !std::isfinite(*metadata.duration_seconds)) ||
        (metadata.fps && !std::isfinite(*metadata.fps))) {
      std::abort();
    }
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadData) {
      std::abort();
    }
  }
}

void read_packet(std::string_view packet) {
  try {
    const auto text = kinema::io::unwrap_xmp(packet, "fuzz.mp4");
    if (text && kinema::io::unwrap_xmp(kinema::io::wrap_xmp(*text), "fuzz.mp4") != text) {
      std::abort();
    }
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadData) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  read_container(std::as_bytes(std::span(data, size)));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('<')) {
    read_packet(text);
  }
  return 0;
}
