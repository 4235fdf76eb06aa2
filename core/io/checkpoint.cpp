// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/io/checkpoint_index.h"
#include "core/io/message_text.h"

namespace kinema::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPlace = "io.checkpoint";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";

Error checkpoint_error(ErrorKind kind,
                       std::string_view code,
                       std::string subject,
                       std::string expected,
                       std::string got,
                       std::string hint = "") {
  return Error(kind,
               {.code = "checkpoint." + std::string(code),
                .place = std::string(kPlace),
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

bool is_pickle(std::string_view name) {
  static constexpr std::array<std::string_view, 6> kSuffixes = {
      ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"};
  return std::any_of(kSuffixes.begin(), kSuffixes.end(), [&](std::string_view suffix) {
    return name.ends_with(suffix);
  });
}

Error pickle_error(std::string subject, std::string got) {
  return checkpoint_error(ErrorKind::kBadCheckpoint,
                          "pickle",
                          std::move(subject),
                          "a *.safetensors file",
                          std::move(got),
                          "pickle files can run code and are not read; convert the weights to "
                          "safetensors");
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < 8; ++i) {
    text += (i == 0 ? "" : ", ") + printable(names[i]);
  }
  return names.size() > 8 ? text + ", ..." : text;
}

void add_file(Checkpoint& checkpoint, const std::string& path) {
  SafetensorsFile file = SafetensorsFile::open(path);
  checkpoint.tensors = file.tensors();
  checkpoint.metadata = file.metadata();
  checkpoint.files.push_back(path);
}

void add_index(Checkpoint& checkpoint, const std::string& index_path) {
  const CheckpointIndex index =
      parse_checkpoint_index(read_file(index_path, kMaxIndexBytes, kPlace), index_path);
  std::string folder = fs::path(index_path).parent_path().string();
  if (folder.empty()) {
    folder = ".";
  }
  const auto shards = index.shards();
  std::vector<std::string> paths;  // all are judged before one is opened
  for (const auto& shard : shards) {
    if (is_pickle(shard)) {
      throw pickle_error(index_path, "the shard '" + printable(shard) + "'");
    }
    paths.push_back(confined_path(folder, shard, kPlace));
  }
  ShardContents contents;
  std::vector<SafetensorsFile> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    std::error_code ignored;
    if (!fs::exists(paths[i], ignored)) {
      continue;  // the check below names it and a tensor that needs it
    }
    files.push_back(SafetensorsFile::open(paths[i]));
    auto& names = contents[shards[i]];
    for (const auto& [name, tensor] : files.back().tensors()) {
      names.push_back(name);
    }
    checkpoint.files.push_back(paths[i]);
  }
  check_checkpoint_index(index, contents, index_path);
  for (const auto& file : files) {
    checkpoint.tensors.insert(file.tensors().begin(), file.tensors().end());
  }
}

/// What stands for a whole folder; the index or file to open.
std::string choose_in_folder(const std::string& folder) {
  static constexpr std::array<std::string_view, 4> kNames = {
      "model.safetensors.index.json",
      "diffusion_pytorch_model.safetensors.index.json",
      "model.safetensors",
      "diffusion_pytorch_model.safetensors"};
  std::vector<std::string> indexes;
  std::vector<std::string> weights;
  std::vector<std::string> pickles;
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(kIndexSuffix)) {
      indexes.push_back(name);
    } else if (name.ends_with(".safetensors") && !name.starts_with('.')) {
      weights.push_back(name);
    } else if (is_pickle(name)) {
      pickles.push_back(name);
    }
  }
  if (failed) {
    throw system_error(ErrorKind::kIo,
                       failed.value(),
                       {.code = "io.open", .place = std::string(kPlace), .subject = folder});
  }
  for (auto* names : {&indexes, &weights, &pickles}) {
    std::sort(names->begin(), names->end());
  }
  for (const auto name : kNames) {
    const auto& names = name.ends_with(kIndexSuffix) ? indexes : weights;
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      return confined_path(folder, name, kPlace);
    }
  }
  const auto& candidates = indexes.empty() ? weights : indexes;
  if (candidates.size() == 1) {
    return confined_path(folder, candidates.front(), kPlace);
  }
  if (candidates.size() > 1) {
    throw checkpoint_error(ErrorKind::kBadCheckpoint,
                           "ambiguous",
                           folder,
                           indexes.empty() ? "one *.safetensors file, or an index of all"
                                           : "one *.safetensors.index.json",
                           list_of(candidates),
                           "name the file instead of the folder");
  }
  if (!pickles.empty()) {
    throw pickle_error(folder, list_of(pickles));
  }
  throw checkpoint_error(ErrorKind::kIo,
                         "none",
                         folder,
                         "model.safetensors, its index, or another *.safetensors file",
                         "a folder without any");
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  std::error_code ignored;
  const std::string chosen = fs::is_directory(path, ignored) ? choose_in_folder(path) : path;
  if (chosen.ends_with(".index.json")) {
    add_index(checkpoint, chosen);
  } else if (is_pickle(chosen) && fs::exists(chosen, ignored)) {
    throw pickle_error(chosen, "a pickle file");
  } else {
    add_file(checkpoint, chosen);
  }
  return checkpoint;
}

std::uint64_t Checkpoint::num_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    bytes += tensor.bytes.size();
  }
  return bytes;
}

}  // namespace kinema::io
