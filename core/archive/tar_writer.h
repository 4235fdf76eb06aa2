// SPDX-License-Identifier: Apache-2.0
// Writes tar archives (POSIX ustar) that appear under their name only when they are complete: the
// shards of WebDataset. The same entries give the same bytes: no dates, no owners.
//
//   TarWriter shard("clips-000000.tar");
//   shard.add("00000042.txt", "a red circle moves right");
//   shard.commit();
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace kinema::archive {

class TarWriter {
 public:
  /// Throws kOutput [output.unwritable] like AtomicFile.
  explicit TarWriter(std::string path);
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  /// A regular file. Throws kInvalidArgument [archive.name] for a name that ustar cannot hold,
  /// kDiskFull [disk_full], kOutput [output.write].
  void add(const std::string& name, std::string_view contents);
  /// Completes the archive and gives it its name. Nothing may be added afterwards.
  /// @return its size in bytes.
  std::uint64_t commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::archive
