// SPDX-License-Identifier: Apache-2.0
#include "media/timeline.h"

#include <limits>

namespace kinema::media {
namespace {

std::int64_t saturating_add(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<std::int64_t>::max() : sum;
}

}  // namespace

Timeline::Stamp Timeline::next(std::optional<std::int64_t> raw) {
  Stamp stamp;
  if (!last_) {
    stamp = {.pts = raw.value_or(0), .repaired = !raw};
  } else if (raw && *raw > *last_) {
    stamp = {.pts = *raw, .repaired = false};
  } else {
    std::int64_t distance = step_;
    std::int64_t raw_distance = 0;
    if (raw && last_raw_ && !__builtin_sub_overflow(*raw, *last_raw_, &raw_distance) &&
        raw_distance > 0) {
      distance = raw_distance;
    }
    stamp = {.pts = saturating_add(*last_, distance), .repaired = true};
  }
  last_ = stamp.pts;
  if (raw) {
    last_raw_ = raw;
  }
  return stamp;
}

}  // namespace kinema::media
