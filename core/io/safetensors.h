// SPDX-License-Identifier: Apache-2.0
// safetensors files: a strict reader that maps the file and copies nothing, and an atomic writer.
//
// Layout: u64 little-endian header length N, N bytes of JSON, then the data. The rules are those of
// the Rust reference (huggingface/safetensors): N <= 100 MB, header starts with '{', may be padded
// with spaces at its end, tensors cover the data without holes or overlap, byte count = shape x
// dtype, no repeated key. Nothing is allocated from a size that was not checked against the file.
//
//   const auto file = SafetensorsFile::open("model.safetensors");
//   for (const auto& [name, tensor] : file.tensors()) { use(tensor.dtype, tensor.shape,
//   tensor.bytes); }
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/io/dtype.h"

namespace kinema::io {

using Shape = std::vector<std::int64_t>;

/// One tensor of a mapped file. `bytes` points into the map; `owner` keeps the map alive. The
/// format promises no alignment: data of files by other writers may start at any byte.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
  std::string file;  ///< path it came from, for messages
};

/// Sorted by name.
using TensorViews = std::map<std::string, TensorView, std::less<>>;

struct SafetensorsHeader {
  struct Entry {
    DType dtype = DType::kF32;
    Shape shape;
    std::uint64_t begin = 0;  ///< first byte, relative to the data section
    std::uint64_t end = 0;    ///< one past the last byte
  };
  std::map<std::string, Entry, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> metadata;
  std::uint64_t data_offset = 0;  ///< where the data section starts in the file
};

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  ///< bytes

/// Parses and checks the header at the start of a file of `file_size` bytes. `prefix` needs to hold
/// the header only. Throws kBadCheckpoint; `subject` names the file in messages. One code per rule:
/// safetensors.{too_short, header_too_large, header_truncated, header_start, header_json, entry,
/// dtype, shape, offsets, size_mismatch, overlap, hole, data_truncated, trailing_data, metadata,
/// duplicate_name, overflow}.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix,
                                                         std::uint64_t file_size,
                                                         std::string_view subject);

class SafetensorsFile {
 public:
  /// Throws kIo [io.open] when missing, kBadCheckpoint when a rule is broken.
  static SafetensorsFile open(const std::string& path);

  [[nodiscard]] const TensorViews& tensors() const noexcept { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const noexcept {
    return metadata_;
  }

 private:
  TensorViews tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// What to write: bytes in row-major order, little endian.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// Writes a file atomically; tensors are laid out by dtype (falling element size) then name, and
/// the data section is aligned to 8 bytes, so that the bytes equal those of the reference. Throws
/// kInvalidArgument safetensors.{size_mismatch, shape, overflow, duplicate_name, name, utf8,
/// header_too_large}, kOutput or kDiskFull when it cannot be written.
void write_safetensors(const std::string& path,
                       std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// A tensor whose bytes come later.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

/// Writes a file larger than memory: the header first, then the bytes of all tensors in the order
/// given, in pieces of any size. The file appears under its name at commit(). Same errors as
/// write_safetensors; too many or too few bytes: kInvalidArgument [safetensors.size_mismatch].
class SafetensorsStream {
 public:
  SafetensorsStream(const std::string& path,
                    std::span<const TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  void append(std::span<const std::byte> bytes);
  void commit();

 private:
  std::string path_;
  AtomicFile file_;
  std::uint64_t end_ = 0;  ///< size of the finished file
};

}  // namespace kinema::io
