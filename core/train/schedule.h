// SPDX-License-Identifier: Apache-2.0
// Learning rate over the steps of a run, as a factor on the optimiser's rate.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace kinema::train {

enum class ScheduleKind {
  kConstant,  ///< 1 after the warm-up
  kCosine,    ///< half a cosine from 1 after the warm-up to `final` at the last step
};
inline constexpr std::array<std::string_view, 2> kScheduleNames = {"constant", "cosine"};

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  std::int64_t warmup = 100;  ///< steps of linear rise: (step + 1) / warmup
  std::int64_t steps = 1000;  ///< of the whole run
  double final = 0.1;         ///< factor at the last step of a cosine

  /// For step 0 .. steps - 1.
  [[nodiscard]] double factor(std::int64_t step) const;
};

/// Decay of an exponential moving average that knows little at first:
/// min(decay, (1 + step) / (10 + step)).
[[nodiscard]] double ema_decay(double decay, std::int64_t step);

}  // namespace kinema::train
