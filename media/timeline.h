// SPDX-License-Identifier: Apache-2.0
// Frame times that always rise, from time stamps that may be missing or jump. Internal to media/.
#pragma once

#include <cstdint>
#include <optional>

namespace kinema::media {

/// Gives each frame, in presentation order, a time stamp above the one before.
///
/// A missing stamp becomes "one step after the frame before". A stamp that is not above the last
/// one is replaced too: by the distance to the raw stamp before it if that is positive (so a part
/// whose clock restarted keeps its rhythm), otherwise by one step. As soon as a raw stamp is above
/// the last given time again, raw stamps are used as they are.
class Timeline {
 public:
  struct Stamp {
    std::int64_t pts = 0;
    bool repaired = false;
  };

  /// @param step  usual distance of two frames, at least 1
  explicit Timeline(std::int64_t step) : step_(step < 1 ? 1 : step) {}

  [[nodiscard]] Stamp next(std::optional<std::int64_t> raw);

  /// Goes on after a frame with the (raw, unrepaired) stamp `pts`; nothing: before the first frame.
  void resume_after(std::optional<std::int64_t> pts) {
    last_ = pts;
    last_raw_ = pts;
  }

 private:
  std::int64_t step_;
  std::optional<std::int64_t> last_;
  std::optional<std::int64_t> last_raw_;
};

}  // namespace kinema::media
