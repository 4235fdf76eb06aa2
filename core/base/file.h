// SPDX-License-Identifier: Apache-2.0
// Files: whole reads with a limit, read-only memory maps, and writes that are atomic.
//
// An output under its final name is complete: AtomicFile writes "<name>.<pid>.part" beside it, and
// commit() flushes, fsyncs, renames and fsyncs the folder. Without commit() the final name is never
// touched and the part file is removed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinema {

/// The whole file as bytes. Throws kIo [io.open] when missing or unreadable (also a folder),
/// kBadData [io.too_large] above `max_bytes`.
[[nodiscard]] std::string read_file(const std::string& path,
                                    std::size_t max_bytes,
                                    std::string_view place);

/// A read-only memory map of a regular file. Copies share the mapping.
class MappedFile {
 public:
  /// Throws kIo [io.open] when missing, unreadable or not a regular file.
  static MappedFile open(const std::string& path, std::string_view place);

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Keeps the mapping alive for as long as the owner lives (for tensors that point into it).
  [[nodiscard]] std::shared_ptr<const void> owner() const noexcept { return owner_; }

 private:
  std::string path_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

/// Path of the part file that stands for `final_path` until it is complete; same folder, so that
/// the rename is atomic. Keeps the extension ("out.mp4" becomes ".out.1234.part.mp4").
[[nodiscard]] std::string part_path(const std::string& final_path);

/// fsync of `part`, rename to `final_path`, fsync of the folder. Throws kOutput [io.rename] or
/// kDiskFull.
void publish_file(const std::string& part, const std::string& final_path);

class AtomicFile {
 public:
  /// Opens the part file. Throws kOutput [output.unwritable] when the folder is missing or not
  /// writable, or `path` is a folder.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Throws kDiskFull [disk_full] or kOutput [output.write].
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Makes the file appear under its final name. Nothing may be written afterwards.
  void commit();

  [[nodiscard]] std::uint64_t bytes_written() const noexcept { return bytes_written_; }

 private:
  std::string path_;
  std::string part_;
  int descriptor_ = -1;
  std::uint64_t bytes_written_ = 0;
};

/// Writes a whole file atomically.
void write_file(const std::string& path, std::string_view contents);

/// Joins `name` to `folder` if the result stays inside: refuses absolute names, "." and "..", empty
/// parts, NUL, backslashes, and symbolic links that lead out of the folder. One exception: a
/// Hugging Face cache folder (snapshots/<commit>) may link into its own ../../blobs. A file that
/// does not exist passes; opening it gives the error. Throws kBadCheckpoint [io.outside_folder].
[[nodiscard]] std::string confined_path(const std::string& folder,
                                        std::string_view name,
                                        std::string_view place);

/// "1.5 GB", "312 bytes".
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

}  // namespace kinema
