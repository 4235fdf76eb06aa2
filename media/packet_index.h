// SPDX-License-Identifier: Apache-2.0
// Which frame stands where: all packets of a stream, and their presentation order. Internal to
// media/.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "media/demuxer.h"

namespace kinema::media {

/// Built by reading every packet once, without decoding. `trusted()` says that presentation order
/// and frame count follow from the packets; otherwise only decoding can tell.
class PacketIndex {
 public:
  struct Packet {
    std::int64_t pts = 0;
    std::int64_t dts = 0;       ///< AV_NOPTS_VALUE when missing
    std::int64_t position = 0;  ///< bytes; -1 when unknown
    int size = 0;
    bool key = false;
  };

  /// Reads `demuxer` (fresh) to its end.
  static PacketIndex build(Demuxer& demuxer, Watchdog& watchdog);

  [[nodiscard]] bool trusted() const { return trusted_; }
  [[nodiscard]] std::int64_t num_frames() const {
    return static_cast<std::int64_t>(frame_pts_.size());
  }
  /// Time stamp of frame `index`.
  [[nodiscard]] std::int64_t frame_pts(std::int64_t index) const {
    return frame_pts_[static_cast<std::size_t>(index)];
  }
  /// Frame that starts at `pts`, or nothing.
  [[nodiscard]] std::optional<std::int64_t> frame_at(std::int64_t pts) const;
  /// Last frame that starts at or before `pts`, or nothing.
  [[nodiscard]] std::optional<std::int64_t> frame_shown_at(std::int64_t pts) const;
  /// Ordinal (file order) of the last key packet with a stamp of at most `pts`, or nothing.
  [[nodiscard]] std::optional<std::int64_t> key_before(std::int64_t pts) const;
  [[nodiscard]] const Packet& packet(std::int64_t ordinal) const {
    return packets_[static_cast<std::size_t>(ordinal)];
  }
  [[nodiscard]] std::int64_t num_packets() const {
    return static_cast<std::int64_t>(packets_.size());
  }
  /// Ordinal of the packet with these marks, or nothing.
  [[nodiscard]] std::optional<std::int64_t> find(const AVPacket& packet) const;
  /// Frames are not equally spaced (by more than rounding).
  [[nodiscard]] bool variable_rate() const { return variable_rate_; }

 private:
  void order_frames(const std::vector<char>& shown, bool reorders);
  void measure_rate();

  std::vector<Packet> packets_;          ///< file order
  std::vector<std::int64_t> frame_pts_;  ///< ascending
  std::vector<std::int64_t> by_pts_;     ///< ordinals of all packets, by time stamp
  bool trusted_ = false;
  bool variable_rate_ = false;
};

}  // namespace kinema::media
