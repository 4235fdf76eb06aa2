// SPDX-License-Identifier: Apache-2.0
#include "core/base/machine_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace kinema {
namespace {

namespace fs = std::filesystem;

/// The number after `name` at the start of a line; of the whole file when `name` is empty. Nothing
/// for a missing file or field, or the word "max".
std::optional<std::uint64_t> number_in(const fs::path& path, const std::string& name = "") {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(name)) {
      std::uint64_t value = 0;
      std::istringstream text(line.substr(name.size()));
      return text >> value ? std::optional(value) : std::nullopt;
    }
  }
  return std::nullopt;
}

void apply_limit(MachineMemory& memory,
                 std::optional<std::uint64_t> limit,
                 std::optional<std::uint64_t> used,
                 std::uint64_t reclaimable) {
  if (!limit.has_value() || *limit == 0) {
    return;
  }
  memory.total_bytes = std::min(memory.total_bytes, *limit);
  const std::uint64_t taken = std::min(used.value_or(0), *limit);
  const std::uint64_t left = *limit - taken + std::min(reclaimable, taken);
  memory.available_bytes = std::min(memory.available_bytes, left);
}

/// Path of this process in the one hierarchy of version 2, "/a/b".
std::string group_path() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("0::")) {
      return line.substr(3);
    }
  }
  return "";
}

void apply_groups(MachineMemory& memory) {
  const fs::path root = "/sys/fs/cgroup";
  fs::path folder = (root.string() + group_path());
  while (folder.string().size() >= root.string().size()) {
    apply_limit(memory,
                number_in(folder / "memory.max"),
                number_in(folder / "memory.current"),
                number_in(folder / "memory.stat", "inactive_file ").value_or(0));
    if (!folder.has_parent_path() || folder == folder.parent_path()) {
      break;
    }
    folder = folder.parent_path();
  }
  const fs::path old = root / "memory";
  apply_limit(memory,
              number_in(old / "memory.limit_in_bytes"),
              number_in(old / "memory.usage_in_bytes"),
              number_in(old / "memory.stat", "total_inactive_file ").value_or(0));
}

}  // namespace

MachineMemory machine_memory() {
  constexpr std::uint64_t kKibibyte = 1024;
  MachineMemory memory;
  memory.total_bytes = number_in("/proc/meminfo", "MemTotal:").value_or(0) * kKibibyte;
  memory.available_bytes = number_in("/proc/meminfo", "MemAvailable:").value_or(0) * kKibibyte;
  apply_groups(memory);
  return memory;
}

}  // namespace kinema
