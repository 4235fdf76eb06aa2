// SPDX-License-Identifier: Apache-2.0
#include "core/train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <vector>

#include "core/base/error.h"
#include "core/io/safetensors.h"
#include "core/tensor/from_view.h"

namespace kinema::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::size_t kDigits = 9;

std::string file_name(std::int64_t step) {
  const std::string digits = std::to_string(step);
  const std::string zeros(kDigits - std::min(kDigits, digits.size()), '0');
  return std::string(kPrefix) + zeros + digits + std::string(kSuffix);
}

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  const char* const begin = name.data() + kPrefix.size();
  const char* const end = name.data() + name.size() - kSuffix.size();
  std::int64_t step = 0;
  const auto result = std::from_chars(begin, end, step);
  return result.ec == std::errc() && result.ptr == end ? std::optional(step) : std::nullopt;
}

/// Newest first.
std::vector<std::pair<std::int64_t, fs::path>> checkpoints_in(const std::string& folder) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    if (const auto step = step_of(entry.path().filename().string())) {
      found.emplace_back(*step, entry.path());
    }
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

Error bad_checkpoint(const std::string& path, std::string expected, std::string got) {
  return Error(ErrorKind::kBadCheckpoint,
               {.code = "train.checkpoint",
                .place = "train.checkpoint",
                .subject = path,
                .expected = std::move(expected),
                .got = std::move(got)});
}

}  // namespace

TensorMap Checkpoint::part(std::string_view prefix) const {
  TensorMap part;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) {
      part[name.substr(prefix.size())] = tensor;
    }
  }
  return part;
}

void Checkpoint::add(std::string_view prefix, const TensorMap& part) {
  for (const auto& [name, tensor] : part) {
    tensors[std::string(prefix) + name] = tensor;
  }
}

void save_checkpoint(const std::string& folder, const Checkpoint& checkpoint, std::int64_t keep) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  const std::string path = (fs::path(folder) / file_name(checkpoint.step)).string();
  tensor::save_tensors(path,
                       checkpoint.tensors,
                       {{"format", std::string(kCheckpointFormat)},
                        {"step", std::to_string(checkpoint.step)},
                        {"config", checkpoint.config.dump()}});
  const auto all = checkpoints_in(folder);
  for (std::size_t i = static_cast<std::size_t>(std::max<std::int64_t>(keep, 1)); i < all.size();
       ++i) {
    fs::remove(all[i].second, failed);
  }
}

std::optional<std::string> latest_checkpoint(const std::string& folder) {
  const auto all = checkpoints_in(folder);
  return all.empty() ? std::nullopt : std::optional(all.front().second.string());
}

Checkpoint load_checkpoint(const std::string& path) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  const auto text_of = [&](std::string_view key) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) {
      throw bad_checkpoint(path, "metadata '" + std::string(key) + "'", "none");
    }
    return found->second;
  };
  if (text_of("format") != kCheckpointFormat) {
    throw bad_checkpoint(path, "format " + std::string(kCheckpointFormat), text_of("format"));
  }
  Checkpoint checkpoint;
  const std::string step = text_of("step");
  const auto result = std::from_chars(step.data(), step.data() + step.size(), checkpoint.step);
  if (result.ec != std::errc() || result.ptr != step.data() + step.size() || checkpoint.step < 0) {
    throw bad_checkpoint(path, "a number of steps", "'" + step + "'");
  }
  checkpoint.config = parse_json(text_of("config"), {.place = "train.checkpoint", .subject = path});
  for (const auto& [name, view] : file.tensors()) {
    checkpoint.tensors[name] = tensor::tensor_from_view(view);
  }
  return checkpoint;
}

}  // namespace kinema::train
