// SPDX-License-Identifier: Apache-2.0
// Verdict of a ReadReport and the names of its enumerators.
#include "media/video_reader.h"

namespace kinema::media {

std::string_view to_string(HdrKind kind) noexcept {
  switch (kind) {
    case HdrKind::kPq:
      return "pq";
    case HdrKind::kHlg:
      return "hlg";
    case HdrKind::kNone:
      break;
  }
  return "none";
}

std::string_view to_string(ReadStatus status) noexcept {
  switch (status) {
    case ReadStatus::kChanged:
      return "changed";
    case ReadStatus::kTruncated:
      return "truncated";
    case ReadStatus::kCorrupt:
      return "corrupt";
    case ReadStatus::kBadTimestamps:
      return "bad_timestamps";
    case ReadStatus::kOk:
      break;
  }
  return "ok";
}

double ReadReport::corrupt_ratio() const noexcept {
  const std::int64_t all = frames + undecodable_packets;
  return all == 0
             ? 0.0
             : static_cast<double>(corrupt_frames + undecodable_packets) / static_cast<double>(all);
}

ReadStatus ReadReport::status() const noexcept {
  if (changed) {
    return ReadStatus::kChanged;
  }
  if (truncated) {
    return ReadStatus::kTruncated;
  }
  if (corrupt_ratio() > 0.05) {
    return ReadStatus::kCorrupt;
  }
  if (repaired_timestamps * 100 > frames) {
    return ReadStatus::kBadTimestamps;
  }
  return ReadStatus::kOk;
}

}  // namespace kinema::media
