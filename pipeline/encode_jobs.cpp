// SPDX-License-Identifier: Apache-2.0
// What is to be encoded, and the folder it goes to.
#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>
#include <string_view>
#include <sys/file.h>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "pipeline/vae_encode.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlace = "pipeline.encode";
constexpr std::size_t kMaxListBytes = 1ULL << 30;
constexpr std::string_view kExtension = ".safetensors";
constexpr const char* kIndexName = "latents.jsonl";
constexpr std::array<std::string_view, 20> kMediaExtensions = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts",  ".mts", ".mpg",  ".mpeg",
    ".ogv", ".flv", ".wmv", ".3gp", ".y4m",  ".gif", ".png", ".jpg", ".jpeg", ".bmp"};

struct Found {
  std::string source;
  std::string name;  ///< of the output below the folder, without ".safetensors"
  std::string caption{};
  Json extra = Json::object();
};

bool is_media(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(
      extension, extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return std::ranges::find(kMediaExtensions, extension) != kMediaExtensions.end();
}

void search(const std::string& folder, std::vector<Found>& found) {
  std::vector<fs::path> paths;
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::end(it); ++it) {
    if (it->path().filename().string().starts_with(".")) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file() && is_media(it->path())) {
      paths.push_back(it->path());
    }
  }
  std::ranges::sort(paths);
  for (const auto& path : paths) {
    found.push_back({path.string(), path.lexically_relative(folder).string()});
  }
}

/// The name of an output for a path in a list: the path itself where it stays below the list.
std::string name_of(const std::string& path) {
  const fs::path normal = fs::path(path).lexically_normal();
  const bool inside = normal.is_relative() && !normal.empty() && *normal.begin() != "..";
  return inside ? normal.string() : normal.filename().string();
}

void read_list(const std::string& path, std::vector<Found>& found) {
  const std::string text = read_file(path, kMaxListBytes, kPlace);
  const fs::path folder = fs::path(path).parent_path();
  const bool json_lines = path.ends_with(".jsonl");
  std::size_t start = 0;
  for (std::int64_t number = 1; start < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    start = end + 1;
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (line.empty()) {
      continue;
    }
    Found item;
    std::string given = line;
    if (json_lines) {
      const JsonContext context{.place = kPlace,
                                .subject = path + " line " + std::to_string(number),
                                .kind = ErrorKind::kBadData};
      item.extra = parse_json(line, context);
      JsonReader reader(item.extra, context);
      reader.required("path", given);
      reader.optional("caption", item.caption);
      item.extra.erase("path");
      item.extra.erase("caption");
    }
    item.source = (folder / given).string();
    item.name = name_of(given);
    found.push_back(std::move(item));
  }
}

std::vector<Found> find_sources(const EncodeInputs& inputs) {
  std::vector<Found> found;
  for (const auto& path : inputs.paths) {
    if (!fs::exists(path)) {
      throw Error(ErrorKind::kIo,
                  {.code = "io.open",
                   .place = kPlace,
                   .subject = path,
                   .expected = "a video, a picture or a folder of them",
                   .got = "nothing of that name"});
    }
    if (fs::is_directory(path)) {
      search(path, found);
    } else {
      found.push_back({path, fs::path(path).filename().string()});
    }
  }
  if (!inputs.list.empty()) {
    read_list(inputs.list, found);
  }
  if (found.empty()) {
    throw Error(ErrorKind::kBadData,
                {.code = "encode.no_input",
                 .place = kPlace,
                 .subject = inputs.list.empty() ? inputs.paths.front() : inputs.list,
                 .expected = "at least one video or picture",
                 .got = "none"});
  }
  return found;
}

/// Part files of AtomicFile, ".<name>.<pid>.part.safetensors".
bool is_part_file(const std::string& name) {
  constexpr std::string_view kTail = ".part.safetensors";
  if (!name.starts_with(".") || !name.ends_with(kTail)) {
    return false;
  }
  const std::string stem = name.substr(0, name.size() - kTail.size());
  const std::string pid = stem.substr(stem.find_last_of('.') + 1);
  return !pid.empty() && pid.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

std::vector<EncodeJob> collect_jobs(const EncodeInputs& inputs, const std::string& output) {
  std::vector<Found> found = find_sources(inputs);
  const bool one_file = output.ends_with(kExtension) && !fs::is_directory(output);
  if (one_file && found.size() > 1) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "encode.one_file",
                 .place = kPlace,
                 .subject = output,
                 .expected = "a folder for many sources",
                 .got = "one file for " + std::to_string(found.size()) + " sources"});
  }
  std::vector<EncodeJob> jobs;
  std::map<std::string, std::string> taken;
  for (auto& item : found) {
    const std::string path =
        one_file ? output : (fs::path(output) / (item.name + std::string(kExtension))).string();
    const auto [other, is_new] = taken.emplace(path, item.source);
    if (!is_new) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "encode.same_name",
                   .place = kPlace,
                   .subject = path,
                   .expected = "sources of different names",
                   .got = other->second + " and " + item.source,
                   .hint = "encode them into two folders, or give their common parent folder"});
    }
    jobs.push_back({.source = std::move(item.source),
                    .output = path,
                    .caption = std::move(item.caption),
                    .extra = std::move(item.extra)});
  }
  return jobs;
}

EncodeFolder::EncodeFolder(const std::string& path) : path_(path) {
  std::error_code failed;
  fs::create_directories(path, failed);
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (failed || descriptor_ < 0 || ::access(path.c_str(), W_OK | X_OK) != 0) {
    throw system_error(ErrorKind::kOutput,
                       failed ? failed.value() : errno,
                       {.code = "output.unwritable",
                        .place = kPlace,
                        .subject = path,
                        .expected = "a folder that can be made and written"});
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    throw Error(ErrorKind::kOutput,
                {.code = "encode.busy",
                 .place = kPlace,
                 .subject = path,
                 .expected = "one run at a time in a folder",
                 .got = "another one is writing there"});
  }
  std::vector<fs::path> stale;
  for (const auto& entry : fs::recursive_directory_iterator(path, failed)) {
    if (is_part_file(entry.path().filename().string())) {
      stale.push_back(entry.path());
    }
  }
  for (const auto& part : stale) {
    fs::remove(part, failed);
  }
}

EncodeFolder::~EncodeFolder() {
  ::close(descriptor_);
}

std::string EncodeFolder::write_index(const std::vector<EncodeJob>& jobs) const {
  const std::string path = (fs::path(path_) / kIndexName).string();
  AtomicFile index(path);
  for (const auto& job : jobs) {
    if (!fs::exists(job.output)) {
      continue;
    }
    const LatentFile file = LatentFile::open(job.output);
    const LatentFacts& facts = file.facts();
    const OrderedJson line = {
        {"path", fs::path(job.output).lexically_relative(path_).string()},
        {"source", facts.source.path},
        {"caption", facts.caption},
        {"clips", file.clips()},
        {"frames", facts.frames},
        {"latent_shape", {file.channels(), file.latents(), file.height(), file.width()}},
        {"width", facts.width},
        {"height", facts.height},
        {"fps", facts.fps.value()},
        {"extra", facts.extra}};
    index.write(line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  }
  index.commit();
  return path;
}

}  // namespace kinema::pipeline
