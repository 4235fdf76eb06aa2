// SPDX-License-Identifier: Apache-2.0
#include "pipeline/process_memory.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include <malloc.h>

namespace kinema::pipeline {
namespace {

/// The number behind `key` in a file of "key: number kB" lines, in bytes.
std::optional<std::int64_t> kilobytes_in(const char* path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word == key) {
      std::int64_t kilobytes = 0;
      if (file >> kilobytes) {
        return kilobytes * 1024;
      }
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  if (file >> value) {
    return value;
  }
  return std::nullopt;  // missing, or "max"
}

}  // namespace

std::int64_t resident_bytes() {
  return kilobytes_in("/proc/self/status", "VmRSS:").value_or(0);
}

std::int64_t peak_resident_bytes() {
  return kilobytes_in("/proc/self/status", "VmHWM:").value_or(0);
}

bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

void release_free_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::optional<std::int64_t> available_bytes() {
  std::optional<std::int64_t> available = kilobytes_in("/proc/meminfo", "MemAvailable:");
  // Version 2 of control groups, seen from inside a container; cached files can be dropped.
  const auto limit = number_in("/sys/fs/cgroup/memory.max");
  const auto used = number_in("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    std::ifstream file("/sys/fs/cgroup/memory.stat");
    std::string key;
    std::int64_t value = 0;
    std::int64_t cached = 0;
    while (file >> key >> value) {
      cached = key == "inactive_file" || key == "active_file" ? cached + value : cached;
    }
    const std::int64_t left = std::max<std::int64_t>(0, *limit - *used + cached);
    available = available ? std::min(*available, left) : left;
  }
  return available;
}

}  // namespace kinema::pipeline
