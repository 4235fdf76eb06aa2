// SPDX-License-Identifier: Apache-2.0
// Decoded, de-interlaced frames of one file in presentation order, with their damage. Internal to
// media/: VideoReader adds times, pixels and random access.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>

#include "media/deinterlacer.h"
#include "media/demuxer.h"

namespace kinema::media {

struct DecodedFrame {
  FramePtr frame;
  std::optional<std::int64_t> pts;  ///< stream time base, as stored; nothing when missing
  std::int64_t duration = 0;
  Rational aspect{1, 1};  ///< of the pixels
  bool key = false;
  bool corrupt = false;
  bool interlaced = false;
  bool deinterlaced = false;
};

class FrameSource {
 public:
  FrameSource(const std::string& path, const ReadOptions& options, Watchdog& watchdog);

  /// False at the end.
  [[nodiscard]] bool next(DecodedFrame& frame);

  /// Opens the file again at its first frame.
  void restart();
  /// Moves to packet `ordinal` by seeking to `timestamp`. `ordinal_of(packet)` gives a packet's
  /// place in the file, if it is known. False when the seek led past it or to unknown packets: then
  /// call skip_to_packet(). Damage of packets with a stamp below `ignore_before` leaves no mark.
  template <typename Position>
  [[nodiscard]] bool seek_to_packet(std::int64_t timestamp,
                                    std::int64_t ordinal,
                                    std::int64_t ignore_before,
                                    Position&& ordinal_of);
  /// Opens the file again and drops the packets before `ordinal` undecoded.
  void skip_to_packet(std::int64_t ordinal, std::int64_t ignore_before);

  [[nodiscard]] const Demuxer& demuxer() const { return *demuxer_; }
  [[nodiscard]] const LogCapture& codec_log() const { return codec_log_; }
  [[nodiscard]] const LogCapture& file_log() const { return file_log_; }
  /// Packets that could not be decoded, before and after the first frame.
  [[nodiscard]] std::int64_t leading_packets() const { return leading_packets_; }
  [[nodiscard]] std::int64_t undecodable_packets() const { return undecodable_packets_; }
  /// Earliest stamp of a packet that gave no frame; INT64_MAX: none.
  [[nodiscard]] std::int64_t first_loss() const { return first_loss_; }
  /// An interlaced frame was seen.
  [[nodiscard]] bool interlaced() const { return interlaced_; }

 private:
  void open_decoder();
  void clear();
  [[nodiscard]] bool decode(DecodedFrame& decoded);
  void send_packet();
  void note_damage(bool lost);
  void describe(DecodedFrame& decoded);
  void route(DecodedFrame decoded);
  void start_deinterlacer(const AVFrame& like);
  void collect_deinterlaced();
  void finish_deinterlacer();

  std::string path_;
  const ReadOptions options_;
  Watchdog& watchdog_;
  LogCapture file_log_;
  LogCapture codec_log_;
  std::unique_ptr<Demuxer> demuxer_;
  CodecContextPtr decoder_;
  PacketPtr packet_;
  bool packet_waits_ = false;  ///< packet_ was read by a seek and not yet sent
  bool input_ended_ = false;
  bool decoder_ended_ = false;
  bool intra_only_ = false;

  bool any_frame_ = false;
  bool tainted_ = false;  ///< something that later packets lean on is damaged
  std::int64_t ignore_before_ = INT64_MIN;
  std::int64_t lines_seen_ = 0;
  std::deque<std::int64_t> recent_;  ///< stamps of the packets that may be in the decoder's threads
  std::set<std::int64_t> damaged_;   ///< stamps of packets whose frames are damaged
  std::int64_t first_loss_ = INT64_MAX;
  std::int64_t leading_packets_ = 0;
  std::int64_t undecodable_packets_ = 0;

  bool interlaced_ = false;
  std::optional<Deinterlacer> deinterlacer_;
  bool drop_first_deinterlaced_ = false;
  FramePtr previous_;
  std::deque<DecodedFrame> in_deinterlacer_;
  std::deque<DecodedFrame> ready_;
};

template <typename Position>
bool FrameSource::seek_to_packet(std::int64_t timestamp,
                                 std::int64_t ordinal,
                                 std::int64_t ignore_before,
                                 Position&& ordinal_of) {
  clear();
  ignore_before_ = ignore_before;
  if (!demuxer_->seek(timestamp)) {
    return false;
  }
  std::optional<std::int64_t> at;
  while (demuxer_->read(*packet_)) {
    at = ordinal_of(*packet_);
    if (!at || *at > ordinal) {
      return false;
    }
    if (*at == ordinal) {
      packet_waits_ = true;
      return true;
    }
  }
  return false;
}

}  // namespace kinema::media
