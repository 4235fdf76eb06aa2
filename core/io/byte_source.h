// SPDX-License-Identifier: Apache-2.0
// Bytes at any offset, of a file or of memory, for parsers that jump about and read little.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kinema::io {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  /// Copies bytes from `offset` on; fewer than asked for only at the end. @return how many.
  virtual std::size_t read(std::uint64_t offset, std::span<std::byte> into) const = 0;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size() const override { return bytes_.size(); }
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const override;

 private:
  std::span<const std::byte> bytes_;
};

/// A regular file, read with pread. Throws kIo [io.open] or [io.read].
class FileSource final : public ByteSource {
 public:
  FileSource(const std::string& path, std::string_view place);
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  [[nodiscard]] std::uint64_t size() const override { return size_; }
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const override;

 private:
  std::string path_;
  std::string place_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace kinema::io
