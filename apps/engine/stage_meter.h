// SPDX-License-Identifier: Apache-2.0
// Passes progress on and notes what each stage took: seconds, processor seconds, peak memory.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/base/progress.h"

namespace kinema::engine {

class StageMeter final : public ProgressObserver {
 public:
  explicit StageMeter(ProgressObserver& next) : next_(next) {}

  void on_stage(std::string_view name, std::int64_t total, std::string_view unit) override;
  void on_step(std::int64_t done, const Metrics& metrics) override { next_.on_step(done, metrics); }
  void on_stage_end() override;
  [[nodiscard]] bool cancelled() const override { return next_.cancelled(); }

  /// [{"name", "seconds", "cpu_seconds", "peak_bytes"}, ...] of the stages that ended.
  [[nodiscard]] const OrderedJson& stages() const noexcept { return stages_; }

 private:
  ProgressObserver& next_;
  std::string name_;
  std::chrono::steady_clock::time_point start_;
  double cpu_start_ = 0;
  OrderedJson stages_ = OrderedJson::array();
};

}  // namespace kinema::engine
