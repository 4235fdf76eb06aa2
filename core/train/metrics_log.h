// SPDX-License-Identifier: Apache-2.0
// Numbers of a run, twice: "metrics.jsonl", one object a line ({"step":100,"seconds":12.5,
// "train/loss":0.31}), and TensorBoard events beside it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/progress.h"
#include "core/train/event_file.h"

namespace kinema::train {

class MetricsLog {
 public:
  /// Goes on with what is in `folder`: lines about steps after `finished_steps` are dropped, so a
  /// resumed run tells every step once. Throws kOutput.
  MetricsLog(const std::string& folder, std::int64_t finished_steps);

  /// @param group  "train" or "validation", the first part of every tag.
  void add(std::int64_t step, std::string_view group, const Metrics& metrics);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  double start_seconds_ = 0;
  double offset_seconds_ = 0;  ///< of the runs before this one
  std::unique_ptr<std::FILE, Close> lines_;
  EventFile events_;
};

}  // namespace kinema::train
