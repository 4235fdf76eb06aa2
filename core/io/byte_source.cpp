// SPDX-License-Identifier: Apache-2.0
#include "core/io/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/stat.h>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"

namespace kinema::io {

std::size_t MemorySource::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset >= bytes_.size() || into.empty()) {
    return 0;
  }
  const auto part = bytes_.subspan(static_cast<std::size_t>(offset));
  const std::size_t count = std::min(part.size(), into.size());
  std::memcpy(into.data(), part.data(), count);
  return count;
}

FileSource::FileSource(const std::string& path, std::string_view place)
    : path_(path), place_(place) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status{};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
    throw system_error(
        ErrorKind::kIo, error, {.code = "io.open", .place = place_, .subject = path_});
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(ErrorKind::kIo,
                {.code = "io.open",
                 .place = place_,
                 .subject = path_,
                 .expected = "a regular file",
                 .got = S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe"});
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

FileSource::~FileSource() {
  ::close(descriptor_);
}

std::size_t FileSource::read(std::uint64_t offset, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size() && offset + done < size_) {
    const ssize_t n = ::pread(
        descriptor_, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      throw system_error(
          ErrorKind::kIo, errno, {.code = "io.read", .place = place_, .subject = path_});
    }
    if (n == 0) {
      break;
    }
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace kinema::io
