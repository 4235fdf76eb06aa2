// SPDX-License-Identifier: Apache-2.0
// Where encoded bytes go: a part file that is published at the end, or standard output. Internal to
// media/.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "media/ffmpeg_ptr.h"

namespace kinema::media {

inline constexpr char kWriterPlace[] = "media.writer";

class OutputSink {
 public:
  /// Opens the part file of `path`; "-" is standard output. Throws kOutput [output.unwritable].
  explicit OutputSink(std::string path);
  /// Removes the part file unless publish() was called.
  ~OutputSink();
  OutputSink(const OutputSink&) = delete;
  OutputSink& operator=(const OutputSink&) = delete;

  /// Throws kDiskFull [disk_full], kOutput [output.write], kOutput [output.closed] when the reader
  /// of a pipe went away (no SIGPIPE reaches the program).
  void write(std::span<const std::uint8_t> bytes);
  void write(std::string_view text);
  [[nodiscard]] bool is_stdout() const { return is_stdout_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& part() const { return part_; }

  /// A context for a muxer that writes here, seekable for files. Errors of write() are kept and
  /// thrown by rethrow().
  [[nodiscard]] AVIOContext* io();
  void rethrow();

  /// Flushes and closes the part file; it can then be changed by name.
  void close();
  /// close(), fsync, rename to the final name. @return its bytes.
  std::uint64_t publish();
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  static int write_callback(void* opaque, std::uint8_t* buffer, int size);
  static std::int64_t seek_callback(void* opaque, std::int64_t offset, int whence);
  void write_some(std::span<const std::uint8_t> bytes);

  std::string path_;
  std::string part_;
  bool is_stdout_;
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
  IoContextPtr io_;
  std::exception_ptr error_;
};

}  // namespace kinema::media
