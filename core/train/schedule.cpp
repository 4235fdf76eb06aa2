// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kinema::train {

double Schedule::factor(std::int64_t step) const {
  if (step < warmup) {
    return static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const std::int64_t length = steps - 1 - warmup;
  if (kind == ScheduleKind::kConstant || length <= 0) {
    return 1.0;
  }
  const double part =
      std::min(static_cast<double>(step - warmup) / static_cast<double>(length), 1.0);
  return final + (1.0 - final) * 0.5 * (1.0 + std::cos(std::numbers::pi * part));
}

double ema_decay(double decay, std::int64_t step) {
  return std::min(decay, static_cast<double>(1 + step) / static_cast<double>(10 + step));
}

}  // namespace kinema::train
