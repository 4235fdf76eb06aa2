// SPDX-License-Identifier: Apache-2.0
#include "core/base/scratch_memory.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sys/mman.h>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"

namespace kinema {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return number_; }

 private:
  int number_;
};

/// A file that has no name, or loses it at once where the file system cannot do without.
int open_nameless(const std::string& folder) {
  const int nameless = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (nameless >= 0) {
    return nameless;
  }
  std::string name = folder + "/kinema.XXXXXX";
  const int named = ::mkstemp(name.data());
  if (named >= 0) {
    ::unlink(name.c_str());
  }
  return named;
}

std::string folder_or_default(const std::string& folder) {
  if (!folder.empty()) {
    return folder;
  }
  std::error_code failed;
  const auto standard = std::filesystem::temp_directory_path(failed);
  return failed ? "/tmp" : standard.string();
}

[[noreturn]] void throw_failed(
    ErrorKind kind, const char* code, const std::string& folder, std::size_t bytes, int reason) {
  throw Error(kind,
              {.code = code,
               .place = "base.scratch",
               .subject = folder,
               .expected = "room for a temporary file of " + format_bytes(bytes),
               .got = std::strerror(reason),
               .hint = "name another folder"});
}

}  // namespace

std::shared_ptr<std::byte> map_scratch(const std::string& folder, std::size_t bytes) {
  const std::string place = folder_or_default(folder);
  const Descriptor file(open_nameless(place));
  if (file.get() < 0) {
    throw_failed(ErrorKind::kOutput, "output.unwritable", place, bytes, errno);
  }
  const std::size_t size = bytes > 0 ? bytes : 1;
  const int failed = ::posix_fallocate(file.get(), 0, static_cast<off_t>(size));
  if (failed != 0) {
    throw_failed(ErrorKind::kDiskFull, "disk_full", place, bytes, failed);
  }
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) {
    throw_failed(ErrorKind::kDiskFull, "disk_full", place, bytes, errno);
  }
  return {static_cast<std::byte*>(data), [size](std::byte* mapped) { ::munmap(mapped, size); }};
}

void drop_scratch(std::byte* data, std::size_t bytes) noexcept {
  ::madvise(data, bytes, MADV_DONTNEED);
}

}  // namespace kinema
