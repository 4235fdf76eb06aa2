// SPDX-License-Identifier: Apache-2.0
// The safetensors header. The bytes stand for the start of a file; its claimed size comes from them
// too, so that lies about the data section are tried without data.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "core/base/error.h"
#include "core/io/safetensors.h"

namespace {

/// What every accepted header must promise.
void check(const kinema::io::SafetensorsHeader& header, std::uint64_t file_size) {
  std::uint64_t covered = 0;
  for (const auto& [name, entry] : header.tensors) {
    if (entry.begin > entry.end || entry.end > file_size - header.data_offset) {
      std::abort();
    }
    covered += entry.end - entry.begin;
  }
  if (covered != file_size - header.data_offset) {
    std::abort();
  }
}

void parse(std::span<const std::byte> bytes, std::uint64_t file_size) {
  try {
    check(kinema::io::parse_safetensors_header(bytes, file_size, "fuzz.safetensors"), file_size);
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadCheckpoint) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  parse(bytes, size);
  if (size > 8) {  // as a file whose last 8 bytes name the size of its data section
    std::uint64_t data_size = 0;
    std::memcpy(&data_size, data + size - 8, 8);
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, data, 8);
    if (header_size <= size - 8 && data_size <= UINT64_MAX - 8 - header_size) {
      parse(bytes, 8 + header_size + data_size);
    }
  }
  return 0;
}
