// SPDX-License-Identifier: Apache-2.0
#include "apps/engine/stage_meter.h"

#include "pipeline/process_memory.h"

namespace kinema::engine {

void StageMeter::on_stage(std::string_view name, std::int64_t total, std::string_view unit) {
  name_ = name;
  pipeline::release_free_memory();
  static_cast<void>(pipeline::reset_peak());
  start_ = std::chrono::steady_clock::now();
  cpu_start_ = pipeline::cpu_seconds();
  next_.on_stage(name, total, unit);
}

void StageMeter::on_stage_end() {
  next_.on_stage_end();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  stages_.push_back({{"name", name_},
                     {"seconds", seconds.count()},
                     {"cpu_seconds", pipeline::cpu_seconds() - cpu_start_},
                     {"peak_bytes", pipeline::peak_resident_bytes()}});
}

}  // namespace kinema::engine
