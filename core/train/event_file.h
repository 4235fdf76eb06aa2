// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files: TFRecord framing (length, masked CRC-32C of the length, bytes, masked
// CRC-32C of the bytes) around protobuf messages of type Event with scalar summaries.
//
//   EventFile events(folder, /*unix_seconds=*/now);
//   events.add_scalar("train/loss", 0.31, step, now);
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace kinema::train {

/// CRC-32 with the Castagnoli polynomial (RFC 3720, appendix B.4).
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);
/// TFRecord's mask: rotated right by 15 bits, plus 0xA282EAD8.
[[nodiscard]] std::uint32_t masked_crc32c(std::string_view bytes);
/// One framed record.
[[nodiscard]] std::string tf_record(std::string_view payload);
/// The first Event of a file: wall time and "brain.Event:2".
[[nodiscard]] std::string version_event(double unix_seconds);
/// An Event with one scalar.
[[nodiscard]] std::string scalar_event(std::string_view tag,
                                       float value,
                                       std::int64_t step,
                                       double unix_seconds);

/// Appends to "events.out.tfevents.SECONDS.kinema.PID" in a folder. Records are flushed as they are
/// added, so a killed run loses none.
class EventFile {
 public:
  /// Throws kOutput [output.unwritable].
  EventFile(const std::string& folder, double unix_seconds);
  void add_scalar(std::string_view tag, double value, std::int64_t step, double unix_seconds);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void append(const std::string& payload);

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace kinema::train
