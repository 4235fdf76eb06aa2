// SPDX-License-Identifier: Apache-2.0
#include "core/archive/tar_writer.h"

#include <cerrno>
#include <exception>
#include <span>
#include <utility>

#include <archive.h>
#include <archive_entry.h>

#include "core/base/error.h"
#include "core/base/file.h"

namespace kinema::archive {

struct TarWriter::Impl {
  explicit Impl(std::string name) : path(std::move(name)), file(path) {
    writer = archive_write_new();
    if (writer == nullptr) {
      throw Error(ErrorKind::kOutOfMemory, {.code = "out_of_memory", .place = "archive"});
    }
    archive_write_set_format_ustar(writer);
    archive_write_set_bytes_per_block(writer, 10240);
    check(archive_write_open2(writer, this, nullptr, &Impl::receive, nullptr, nullptr));
  }
  ~Impl() { archive_write_free(writer); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // libarchive is C: an exception waits here until its functions have returned.
  static la_ssize_t receive(::archive*, void* self, const void* data, std::size_t size) {
    auto* impl = static_cast<Impl*>(self);
    try {
      impl->file.write(std::span(static_cast<const std::byte*>(data), size));
      return static_cast<la_ssize_t>(size);
    } catch (...) {
      impl->failure = std::current_exception();
      archive_set_error(impl->writer, EIO, "the file could not be written");
      return -1;
    }
  }

  void check(la_ssize_t status) {
    if (failure) {
      std::rethrow_exception(std::exchange(failure, nullptr));
    }
    if (status < 0) {
      throw Error(ErrorKind::kOutput,
                  {.code = "output.write",
                   .place = "archive",
                   .subject = path,
                   .got = archive_error_string(writer)});
    }
  }

  std::string path;
  AtomicFile file;
  ::archive* writer = nullptr;
  std::exception_ptr failure;
};

TarWriter::TarWriter(std::string path) : impl_(std::make_unique<Impl>(std::move(path))) {}
TarWriter::~TarWriter() = default;

void TarWriter::add(const std::string& name, std::string_view contents) {
  if (name.empty() || name.size() > 100 || name.front() == '/') {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "archive.name",
                 .place = "archive",
                 .subject = impl_->path,
                 .expected = "a relative name of 1 to 100 bytes",
                 .got = "'" + name + "'"});
  }
  const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(),
                                                                            &archive_entry_free);
  archive_entry_set_pathname(entry.get(), name.c_str());
  archive_entry_set_size(entry.get(), static_cast<la_int64_t>(contents.size()));
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  archive_entry_set_perm(entry.get(), 0644);
  archive_entry_set_mtime(entry.get(), 0, 0);
  impl_->check(archive_write_header(impl_->writer, entry.get()));
  impl_->check(archive_write_data(impl_->writer, contents.data(), contents.size()));
  impl_->check(archive_write_finish_entry(impl_->writer));
}

std::uint64_t TarWriter::commit() {
  impl_->check(archive_write_close(impl_->writer));
  impl_->file.commit();
  return impl_->file.bytes_written();
}

}  // namespace kinema::archive
