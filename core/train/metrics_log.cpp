// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_log.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace kinema::train {
namespace {

constexpr std::size_t kMaxLogBytes = std::size_t{1} << 32;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Drops lines of steps after `finished_steps` and damaged ones. @return seconds of the last line.
double trim_lines(const std::string& path, std::int64_t finished_steps) {
  if (!std::filesystem::exists(path)) {
    return 0;
  }
  std::istringstream lines(read_file(path, kMaxLogBytes, "train.metrics"));
  std::string kept;
  std::string line;
  double seconds = 0;
  while (std::getline(lines, line)) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() &&
        json["step"].get<std::int64_t>() <= finished_steps) {
      kept += line + '\n';
      if (json.contains("seconds") && json["seconds"].is_number()) {
        seconds = json["seconds"].get<double>();
      }
    }
  }
  write_file(path, kept);
  return seconds;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& folder, std::int64_t finished_steps)
    : path_(folder + "/metrics.jsonl"),
      start_seconds_(unix_seconds()),
      offset_seconds_(trim_lines(path_, finished_steps)),
      lines_(std::fopen(path_.c_str(), "ab")),
      events_(folder, start_seconds_) {
  if (lines_ == nullptr) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.unwritable", .place = "train.metrics", .subject = path_});
  }
}

void MetricsLog::add(std::int64_t step, std::string_view group, const Metrics& metrics) {
  const double now = unix_seconds();
  const double seconds = offset_seconds_ + now - start_seconds_;
  OrderedJson line = {{"step", step}, {"seconds", std::round(seconds * 100) / 100}};
  for (const auto& [name, value] : metrics) {
    const std::string tag = std::string(group) + "/" + name;
    line[tag] = value;
    events_.add_scalar(tag, value, step, now);
  }
  const std::string text = line.dump() + '\n';
  if (std::fwrite(text.data(), 1, text.size(), lines_.get()) != text.size() ||
      std::fflush(lines_.get()) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.write", .place = "train.metrics", .subject = path_});
  }
}

}  // namespace kinema::train
