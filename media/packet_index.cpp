// SPDX-License-Identifier: Apache-2.0
#include "media/packet_index.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kinema::media {
namespace {

// VP8 and VP9 store pictures that only serve as references as packets of their own.
bool shows_frame(AVCodecID codec, const AVPacket& packet) {
  if (packet.size < 1) {
    return false;
  }
  const unsigned head = packet.data[0];
  if (codec == AV_CODEC_ID_VP8) {
    return ((head >> 4) & 1) != 0;  // RFC 6386 9.1
  }
  if (codec == AV_CODEC_ID_VP9) {
    // VP9 bitstream 6.2: frame_marker(2), profile(2), reserved if profile 3, show_existing_frame,
    // frame_type, show_frame. A superframe (marker 110 in its last byte) shows one frame.
    const bool superframe = (packet.data[packet.size - 1] & 0xe0) == 0xc0;
    const unsigned shift = ((head >> 4) & 3) == 3 ? 1 : 0;
    const bool shows_existing = ((head >> (3 - shift)) & 1) != 0;
    return superframe || shows_existing || ((head >> (1 - shift)) & 1) != 0;
  }
  return true;
}

bool reorders_frames(AVCodecID codec) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(codec);
  return descriptor != nullptr && (descriptor->props & AV_CODEC_PROP_REORDER) != 0;
}

}  // namespace

PacketIndex PacketIndex::build(Demuxer& demuxer, Watchdog& watchdog) {
  PacketIndex index;
  const AVCodecID codec = demuxer.stream().codecpar->codec_id;
  const PacketPtr packet = new_packet(kReaderPlace);
  std::vector<char> shown;
  bool whole = !demuxer.has_no_timestamps();
  while (demuxer.read(*packet)) {
    watchdog.renew();
    whole = whole && packet->pts != AV_NOPTS_VALUE && (packet->flags & AV_PKT_FLAG_CORRUPT) == 0;
    index.packets_.push_back({.pts = packet->pts,
                              .dts = packet->dts,
                              .position = packet->pos,
                              .size = packet->size,
                              .key = (packet->flags & AV_PKT_FLAG_KEY) != 0});
    shown.push_back((packet->flags & AV_PKT_FLAG_DISCARD) == 0 && shows_frame(codec, *packet) ? 1
                                                                                              : 0);
  }
  if (whole && !demuxer.truncated()) {
    index.order_frames(shown, reorders_frames(codec));
    index.measure_rate();
  }
  return index;
}

void PacketIndex::order_frames(const std::vector<char>& shown, bool reorders) {
  const auto first_key = std::ranges::find_if(packets_, [](const Packet& p) { return p.key; });
  if (first_key == packets_.end()) {
    return;
  }
  // Nothing before the first key frame decodes, nor do pictures after it that lean on those.
  const std::int64_t start = first_key->pts;
  std::int64_t last_dts = AV_NOPTS_VALUE;
  for (auto i = static_cast<std::size_t>(first_key - packets_.begin()); i < packets_.size(); ++i) {
    const Packet& packet = packets_[i];
    if (packet.dts != AV_NOPTS_VALUE) {
      if (last_dts != AV_NOPTS_VALUE && packet.dts <= last_dts) {
        return;  // the clock jumped
      }
      last_dts = packet.dts;
    }
    if (shown[i] != 0 && packet.pts >= start) {
      if (!reorders && !frame_pts_.empty() && packet.pts <= frame_pts_.back()) {
        return;
      }
      frame_pts_.push_back(packet.pts);
    }
  }
  std::ranges::sort(frame_pts_);
  if (frame_pts_.empty() || std::ranges::adjacent_find(frame_pts_) != frame_pts_.end()) {
    return;
  }
  by_pts_.resize(packets_.size());
  std::iota(by_pts_.begin(), by_pts_.end(), std::int64_t{0});
  std::ranges::sort(by_pts_, {}, [&](std::int64_t i) { return std::pair(packet(i).pts, i); });
  trusted_ = true;
}

void PacketIndex::measure_rate() {
  if (frame_pts_.size() < 3) {
    return;
  }
  std::int64_t shortest = frame_pts_[1] - frame_pts_[0];
  std::int64_t longest = shortest;
  for (std::size_t i = 2; i < frame_pts_.size(); ++i) {
    const std::int64_t step = frame_pts_[i] - frame_pts_[i - 1];
    shortest = std::min(shortest, step);
    longest = std::max(longest, step);
  }
  variable_rate_ = longest - shortest > std::max<std::int64_t>(1, shortest / 50);
}

std::optional<std::int64_t> PacketIndex::frame_at(std::int64_t pts) const {
  const auto found = std::ranges::lower_bound(frame_pts_, pts);
  if (found == frame_pts_.end() || *found != pts) {
    return std::nullopt;
  }
  return found - frame_pts_.begin();
}

std::optional<std::int64_t> PacketIndex::frame_shown_at(std::int64_t pts) const {
  const auto after = std::ranges::upper_bound(frame_pts_, pts);
  if (after == frame_pts_.begin()) {
    return std::nullopt;
  }
  return after - frame_pts_.begin() - 1;
}

std::optional<std::int64_t> PacketIndex::key_before(std::int64_t pts) const {
  auto at =
      std::ranges::upper_bound(by_pts_, pts, {}, [&](std::int64_t i) { return packet(i).pts; });
  while (at != by_pts_.begin()) {
    --at;
    if (packet(*at).key) {
      return *at;
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> PacketIndex::find(const AVPacket& wanted) const {
  auto at = std::ranges::lower_bound(
      by_pts_, wanted.pts, {}, [&](std::int64_t i) { return packet(i).pts; });
  for (; at != by_pts_.end() && packet(*at).pts == wanted.pts; ++at) {
    if (packet(*at).position == wanted.pos && packet(*at).size == wanted.size) {
      return *at;
    }
  }
  return std::nullopt;
}

}  // namespace kinema::media
