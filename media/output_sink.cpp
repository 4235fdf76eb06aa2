// SPDX-License-Identifier: Apache-2.0
#include "media/output_sink.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <sys/stat.h>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"

namespace kinema::media {
namespace {

constexpr int kIoBufferBytes = 64 * 1024;

// Keeps SIGPIPE of our own write from the program, without touching its handlers.
class QuietPipe {
 public:
  QuietPipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~QuietPipe() {
    sigset_t pending;
    sigpending(&pending);
    if (!was_pending_ && sigismember(&pending, SIGPIPE) == 1) {
      const timespec now{};
      sigtimedwait(&pipe_, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  QuietPipe(const QuietPipe&) = delete;
  QuietPipe& operator=(const QuietPipe&) = delete;

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

}  // namespace

OutputSink::OutputSink(std::string path) : path_(std::move(path)), is_stdout_(path_ == "-") {
  if (is_stdout_) {
    descriptor_ = STDOUT_FILENO;
    return;
  }
  part_ = part_path(path_);
  descriptor_ = ::open(part_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.unwritable",
                        .place = kWriterPlace,
                        .subject = path_,
                        .hint = "the folder must exist and be writable"});
  }
}

OutputSink::~OutputSink() {
  if (is_stdout_) {
    return;
  }
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
  if (!part_.empty()) {
    ::unlink(part_.c_str());
  }
}

void OutputSink::write_some(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      const int number = errno;
      const bool full = number == ENOSPC || number == EDQUOT;
      const bool closed = number == EPIPE;
      throw system_error(ErrorKind::kOutput,
                         number,
                         {.code = full     ? "disk_full"
                                  : closed ? "output.closed"
                                           : "output.write",
                          .place = kWriterPlace,
                          .subject = is_stdout_ ? "standard output" : path_,
                          .hint = full ? "free some space and run again; nothing was left behind"
                                  : closed ? "the program that reads the output went away"
                                           : ""});
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    bytes_ += static_cast<std::uint64_t>(count);
  }
}

void OutputSink::write(std::span<const std::uint8_t> bytes) {
  if (is_stdout_) {
    const QuietPipe quiet;
    write_some(bytes);
  } else {
    write_some(bytes);
  }
}

void OutputSink::write(std::string_view text) {
  write(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

int OutputSink::write_callback(void* opaque, std::uint8_t* buffer, int size) {
  auto& sink = *static_cast<OutputSink*>(opaque);
  if (sink.error_) {
    return AVERROR(EIO);
  }
  try {
    sink.write(std::span<const std::uint8_t>(buffer, static_cast<std::size_t>(size)));
  } catch (const std::exception&) {
    sink.error_ = std::current_exception();
    return AVERROR(EIO);
  }
  return size;
}

std::int64_t OutputSink::seek_callback(void* opaque, std::int64_t offset, int whence) {
  auto& sink = *static_cast<OutputSink*>(opaque);
  if ((whence & AVSEEK_SIZE) != 0) {
    struct stat status{};
    return ::fstat(sink.descriptor_, &status) == 0 ? std::int64_t{status.st_size} : AVERROR(errno);
  }
  const off_t at = ::lseek(sink.descriptor_, offset, whence & ~AVSEEK_FORCE);
  return at < 0 ? AVERROR(errno) : at;
}

AVIOContext* OutputSink::io() {
  if (!io_) {
    auto* buffer = static_cast<unsigned char*>(av_malloc(kIoBufferBytes));
    AVIOContext* io = buffer == nullptr ? nullptr
                                        : avio_alloc_context(buffer,
                                                             kIoBufferBytes,
                                                             1,
                                                             this,
                                                             nullptr,
                                                             write_callback,
                                                             is_stdout_ ? nullptr : seek_callback);
    if (io == nullptr) {
      av_free(buffer);
    }
    io_ = checked(io, kWriterPlace);
  }
  return io_.get();
}

void OutputSink::rethrow() {
  if (error_) {
    std::rethrow_exception(error_);
  }
}

void OutputSink::close() {
  if (io_) {
    avio_flush(io_.get());
    rethrow();
    io_.reset();
  }
  if (is_stdout_ || descriptor_ < 0) {
    return;
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.write", .place = kWriterPlace, .subject = path_});
  }
}

std::uint64_t OutputSink::publish() {
  close();
  if (is_stdout_) {
    return bytes_;
  }
  std::error_code ignored;
  const std::uintmax_t size = std::filesystem::file_size(part_, ignored);
  publish_file(part_, path_);
  part_.clear();
  return size;
}

}  // namespace kinema::media
