// SPDX-License-Identifier: Apache-2.0
#include "pipeline/process_memory.h"

#include <fstream>
#include <optional>
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

}  // namespace kinema::pipeline
