// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

int open_regular(const std::string& path, std::string_view place, struct stat& status) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw system_error(
        ErrorKind::kIo, errno, {.code = "io.open", .place = std::string(place), .subject = path});
  }
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw Error(ErrorKind::kIo,
                {.code = "io.open",
                 .place = std::string(place),
                 .subject = path,
                 .expected = "a regular file",
                 .got = S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe"});
  }
  return descriptor;
}

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

std::string read_file(const std::string& path, std::size_t max_bytes, std::string_view place) {
  struct stat status{};
  const Descriptor file(open_regular(path, place, status));
  if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    throw Error(ErrorKind::kBadData,
                {.code = "io.too_large",
                 .place = std::string(place),
                 .subject = path,
                 .expected = "at most " + format_bytes(max_bytes),
                 .got = format_bytes(static_cast<std::uint64_t>(status.st_size))});
  }
  std::string contents(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < contents.size()) {
    const ssize_t n = ::read(file.get(), contents.data() + done, contents.size() - done);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      throw system_error(
          ErrorKind::kIo, errno, {.code = "io.read", .place = std::string(place), .subject = path});
    }
    if (n == 0) {
      break;
    }
    done += static_cast<std::size_t>(n);
  }
  contents.resize(done);
  return contents;
}

MappedFile MappedFile::open(const std::string& path, std::string_view place) {
  struct stat status{};
  const Descriptor file(open_regular(path, place, status));
  MappedFile mapped;
  mapped.path_ = path;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) {
    return mapped;
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) {
    throw system_error(
        ErrorKind::kIo, errno, {.code = "io.map", .place = std::string(place), .subject = path});
  }
  mapped.owner_ = std::shared_ptr<const void>(
      data, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  mapped.bytes_ = {static_cast<const std::byte*>(data), size};
  return mapped;
}

std::string part_path(const std::string& final_path) {
  const fs::path path(final_path);
  const std::string name = "." + path.stem().string() + "." + std::to_string(::getpid()) + ".part" +
                           path.extension().string();
  return (path.parent_path() / name).string();
}

void publish_file(const std::string& part, const std::string& final_path) {
  {
    const Descriptor file(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0 || ::fsync(file.get()) != 0) {
      throw system_error(ErrorKind::kOutput,
                         errno,
                         {.code = "output.sync", .place = "io.file", .subject = final_path});
    }
  }
  if (::rename(part.c_str(), final_path.c_str()) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.rename", .place = "io.file", .subject = final_path});
  }
  const Descriptor folder(
      ::open(folder_of(final_path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) {
    ::fsync(folder.get());
  }
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), part_(part_path(path_)) {
  std::error_code ignored;
  if (fs::is_directory(path_, ignored)) {
    throw Error(ErrorKind::kOutput,
                {.code = "output.unwritable",
                 .place = "io.file",
                 .subject = path_,
                 .expected = "a file name",
                 .got = "a folder"});
  }
  descriptor_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.unwritable",
                        .place = "io.file",
                        .subject = path_,
                        .hint = "the folder must exist and be writable"});
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(part_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  KINEMA_DCHECK(descriptor_ >= 0);
  const std::byte* data = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t n = ::write(descriptor_, data, left);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      const bool full = errno == ENOSPC || errno == EDQUOT;
      throw system_error(
          ErrorKind::kOutput,
          errno,
          {.code = full ? "disk_full" : "output.write",
           .place = "io.file",
           .subject = path_,
           .hint = full ? "free some space and run again; nothing was left behind" : ""});
    }
    data += n;
    left -= static_cast<std::size_t>(n);
    bytes_written_ += static_cast<std::uint64_t>(n);
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  KINEMA_DCHECK(descriptor_ >= 0);
  const int descriptor = std::exchange(descriptor_, -1);
  const bool synced = ::fsync(descriptor) == 0;
  const int sync_error = errno;
  const bool closed = ::close(descriptor) == 0;
  const int close_error = errno;
  if (!synced || !closed) {
    ::unlink(part_.c_str());
    throw system_error(ErrorKind::kOutput,
                       synced ? close_error : sync_error,
                       {.code = "output.sync", .place = "io.file", .subject = path_});
  }
  try {
    publish_file(part_, path_);
  } catch (...) {
    ::unlink(part_.c_str());
    throw;
  }
}

void write_file(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

std::string confined_path(const std::string& folder,
                          std::string_view name,
                          std::string_view place) {
  const auto refuse = [&](const char* got) {
    return Error(ErrorKind::kBadCheckpoint,
                 {.code = "io.outside_folder",
                  .place = std::string(place),
                  .subject = folder + ": '" + std::string(name.substr(0, 200)) + "'",
                  .expected = "a file inside the folder",
                  .got = got});
  };
  if (name.empty()) {
    throw refuse("an empty name");
  }
  if (name.find('\0') != std::string_view::npos || name.find('\\') != std::string_view::npos) {
    throw refuse("a name with NUL or backslash");
  }
  if (name.front() == '/') {
    throw refuse("an absolute path");
  }
  std::size_t start = 0;
  while (start <= name.size()) {
    const std::size_t end = std::min(name.find('/', start), name.size());
    const std::string_view part = name.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") {
      throw refuse("a path with '.', '..' or an empty part");
    }
    start = end + 1;
  }
  const fs::path joined = fs::path(folder) / name;
  std::error_code failed;
  const fs::path real = fs::canonical(joined, failed);
  if (failed) {
    return joined.string();  // missing: opening it gives the clearer error
  }
  const fs::path root = fs::canonical(folder, failed);
  const auto inside = [&](const fs::path& base) {
    const auto relative = real.lexically_relative(base);
    return !relative.empty() && *relative.begin() != "..";
  };
  // The Hugging Face cache keeps snapshots/<commit>/file as links to ../../blobs/<hash>.
  const bool hub_snapshot = root.parent_path().filename() == "snapshots";
  const fs::path blobs = root.parent_path().parent_path() / "blobs";
  if (!failed && (inside(root) || (hub_snapshot && inside(blobs)))) {
    return joined.string();
  }
  throw refuse("a link that leads out of the folder");
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1000) {
    return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
  }
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  int unit = -1;
  while (value >= 999.95 && unit < 5) {
    value /= 1000.0;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace kinema
