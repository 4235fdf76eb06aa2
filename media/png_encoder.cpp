// SPDX-License-Identifier: Apache-2.0
// A folder of numbered PNG pictures. They are written into a hidden folder beside, which takes the
// final name at the end.
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <linux/fs.h>
#include <optional>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/io/image.h"
#include "media/encoder.h"
#include "media/output_sink.h"

namespace kinema::media {
namespace {

namespace fs = std::filesystem;

// Folder, and file name as text before and after a number of at least `digits` digits.
struct PngTarget {
  fs::path folder;
  std::string before;
  std::string after;
  int digits = 0;

  [[nodiscard]] std::string name(std::int64_t index) const {
    char number[32];
    std::snprintf(number, sizeof(number), "%0*lld", digits, static_cast<long long>(index));
    return before + number + after;
  }
  [[nodiscard]] bool matches(const std::string& file) const {
    if (file.size() < before.size() + after.size() + 1 || !file.starts_with(before) ||
        !file.ends_with(after)) {
      return false;
    }
    const std::string number =
        file.substr(before.size(), file.size() - before.size() - after.size());
    return number.find_first_not_of("0123456789") == std::string::npos;
  }
};

PngTarget parse_target(const std::string& path) {
  PngTarget target;
  if (path.ends_with('/')) {
    target.folder = fs::path(path.substr(0, path.find_last_not_of('/') + 1));
    if (target.folder.empty()) {
      target.folder = "/";
    }
    target.before = "frame_";
    target.after = ".png";
    target.digits = 6;
    return target;
  }
  const fs::path whole(path);
  const std::string pattern = whole.filename().string();
  target.folder = whole.parent_path();
  const std::size_t percent = pattern.find('%');
  std::size_t at = percent == std::string::npos ? pattern.size() : percent + 1;
  int digits = 0;
  while (at < pattern.size() && pattern[at] >= '0' && pattern[at] <= '9' && digits < 100) {
    digits = digits * 10 + (pattern[at] - '0');
    ++at;
  }
  if (at >= pattern.size() || pattern[at] != 'd' || digits > 18 ||
      pattern.find('%', at) != std::string::npos) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "media.unknown_format",
         .place = kWriterPlace,
         .subject = path,
         .expected = "one number like %05d in the file name, or a folder that ends with '/'",
         .got = "'" + pattern + "'"});
  }
  target.before = pattern.substr(0, percent);
  target.after = pattern.substr(at + 1);
  target.digits = digits;
  return target;
}

bool is_current_folder(const fs::path& folder) {
  return folder.empty() || folder == ".";
}

void require_replaceable(const PngTarget& target, const std::string& path) {
  const auto refuse = [&](const std::string& got) {
    return Error(ErrorKind::kOutput,
                 {.code = "output.not_empty",
                  .place = kWriterPlace,
                  .subject = path,
                  .expected = "a folder that is new, empty, or holds only such pictures",
                  .got = got,
                  .hint = "name a new folder: it gets its name when it is complete"});
  };
  if (is_current_folder(target.folder)) {
    throw refuse("the current folder");
  }
  std::error_code failed;
  const fs::file_status status = fs::status(target.folder, failed);
  if (!fs::exists(status)) {
    return;
  }
  if (!fs::is_directory(status)) {
    throw refuse("a file of that name");
  }
  for (const auto& entry : fs::directory_iterator(target.folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (!target.matches(name) || !entry.is_regular_file(failed)) {
      throw refuse("'" + name + "' in it");
    }
  }
}

void sync_path(const fs::path& path, int flags) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  const int number = errno;
  if (file >= 0) {
    ::close(file);
  }
  if (!synced) {
    throw system_error(ErrorKind::kOutput,
                       number,
                       {.code = "output.sync", .place = kWriterPlace, .subject = path.string()});
  }
}

class PngEncoder final : public Encoder {
 public:
  PngEncoder(const std::string& path, const WriteOptions& options)
      : path_(path), options_(options), target_(parse_target(path)) {
    require_replaceable(target_, path_);
    part_ = part_path(target_.folder.string());
    std::error_code failed;
    fs::remove_all(part_, failed);
    if (!fs::create_directory(part_, failed) || failed) {
      throw system_error(ErrorKind::kOutput,
                         failed.value(),
                         {.code = "output.unwritable",
                          .place = kWriterPlace,
                          .subject = path_,
                          .hint = "the folder above must exist and be writable"});
    }
  }

  ~PngEncoder() override {
    if (!part_.empty()) {
      std::error_code ignored;
      fs::remove_all(part_, ignored);
    }
  }

  void add(const FrameView& view) override {
    io::Image image{.width = view.width, .height = view.height, .channels = 3, .pixels = {}};
    const auto row = static_cast<std::size_t>(view.width) * 3;
    image.pixels.reserve(row * static_cast<std::size_t>(view.height));
    for (std::int64_t y = 0; y < view.height; ++y) {
      const auto line = view.rgb_HWC.subspan(static_cast<std::size_t>(y * view.stride), row);
      image.pixels.insert(image.pixels.end(), line.begin(), line.end());
    }
    std::map<std::string, std::string> text;
    if (!options_.provenance.empty()) {
      text["Comment"] = options_.provenance;
    }
    const std::string bytes = io::encode_png_file(image, text);
    write_picture((fs::path(part_) / target_.name(frames_++)).string(), bytes);
    bytes_ += bytes.size();
  }

  std::uint64_t finish() override {
    for (std::int64_t i = 0; i < frames_; ++i) {
      sync_path(fs::path(part_) / target_.name(i), 0);
    }
    sync_path(part_, O_DIRECTORY);
    require_replaceable(target_, path_);  // somebody may have put something there meanwhile
    if (fs::exists(target_.folder)) {
      replace();
    } else if (::rename(part_.c_str(), target_.folder.c_str()) != 0) {
      throw rename_error();
    }
    const fs::path above = target_.folder.parent_path();
    sync_path(above.empty() ? fs::path(".") : above, O_DIRECTORY);
    part_.clear();
    return bytes_;
  }

 private:
  [[nodiscard]] Error rename_error() const {
    return system_error(ErrorKind::kOutput,
                        errno,
                        {.code = "output.rename", .place = kWriterPlace, .subject = path_});
  }

  void write_picture(const std::string& name, const std::string& bytes) const {
    const int file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    std::size_t done = 0;
    int number = file < 0 ? errno : 0;
    while (number == 0 && done < bytes.size()) {
      const ssize_t count = ::write(file, bytes.data() + done, bytes.size() - done);
      if (count >= 0) {
        done += static_cast<std::size_t>(count);
      } else if (errno != EINTR) {
        number = errno;
      }
    }
    if (file >= 0 && ::close(file) != 0 && number == 0) {
      number = errno;
    }
    if (number != 0) {
      const bool full = number == ENOSPC || number == EDQUOT;
      throw system_error(
          ErrorKind::kOutput,
          number,
          {.code = full ? "disk_full" : "output.write",
           .place = kWriterPlace,
           .subject = path_,
           .hint = full ? "free some space and run again; nothing was left behind" : ""});
    }
  }

  // Swaps the folders in one step where the file system can, then removes the old pictures.
  void replace() {
    const long swapped = ::syscall(SYS_renameat2,
                                   AT_FDCWD,
                                   part_.c_str(),
                                   AT_FDCWD,
                                   target_.folder.c_str(),
                                   static_cast<unsigned>(RENAME_EXCHANGE));
    std::error_code ignored;
    if (swapped == 0) {
      fs::remove_all(part_, ignored);
      return;
    }
    const std::string old = part_ + ".old";
    if (::rename(target_.folder.c_str(), old.c_str()) != 0) {
      throw rename_error();
    }
    if (::rename(part_.c_str(), target_.folder.c_str()) != 0) {
      const Error error = rename_error();
      ::rename(old.c_str(), target_.folder.c_str());
      throw error;
    }
    fs::remove_all(old, ignored);
  }

  std::string path_;
  WriteOptions options_;
  PngTarget target_;
  std::string part_;
  std::int64_t frames_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

void validate_png_target(const std::string& path) {
  require_replaceable(parse_target(path), path);
}

std::unique_ptr<Encoder> make_png_encoder(const std::string& path, const WriteOptions& options) {
  return std::make_unique<PngEncoder>(path, options);
}

}  // namespace kinema::media
