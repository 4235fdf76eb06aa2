// SPDX-License-Identifier: Apache-2.0
#include "core/train/event_file.h"

#include <array>
#include <bit>
#include <cerrno>

#include <unistd.h>

#include "core/base/error.h"

namespace kinema::train {
namespace {

constexpr std::uint32_t kCastagnoli = 0x82F63B78U;  // bits reversed

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t word = i;
    for (int bit = 0; bit < 8; ++bit) {
      word = (word >> 1U) ^ ((word & 1U) != 0 ? kCastagnoli : 0U);
    }
    table[i] = word;
  }
  return table;
}
constexpr auto kTable = make_table();

template <typename T>
void append_little_endian(std::string& out, T word) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>((word >> (8 * i)) & 0xFFU));
  }
}

void append_varint(std::string& out, std::uint64_t word) {
  while (word >= 0x80U) {
    out.push_back(static_cast<char>((word & 0x7FU) | 0x80U));
    word >>= 7U;
  }
  out.push_back(static_cast<char>(word));
}

enum class Wire : std::uint32_t { kVarint = 0, k64 = 1, kBytes = 2, k32 = 5 };

void append_key(std::string& out, std::uint32_t field, Wire wire) {
  append_varint(out, (field << 3U) | static_cast<std::uint32_t>(wire));
}

void append_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
  append_key(out, field, Wire::kBytes);
  append_varint(out, bytes.size());
  out.append(bytes);
}

/// Event.wall_time (1).
std::string event_at(double unix_seconds) {
  std::string event;
  append_key(event, 1, Wire::k64);
  append_little_endian(event, std::bit_cast<std::uint64_t>(unix_seconds));
  return event;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc = (crc >> 8U) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU];
  }
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U;
}

std::string tf_record(std::string_view payload) {
  std::string record;
  append_little_endian(record, static_cast<std::uint64_t>(payload.size()));
  append_little_endian(record, masked_crc32c(record));
  record.append(payload);
  append_little_endian(record, masked_crc32c(payload));
  return record;
}

std::string version_event(double unix_seconds) {
  std::string event = event_at(unix_seconds);
  append_bytes(event, 3, "brain.Event:2");  // Event.file_version
  return event;
}

std::string scalar_event(std::string_view tag,
                         float value,
                         std::int64_t step,
                         double unix_seconds) {
  std::string scalar;  // Summary.Value: tag (1), simple_value (2)
  append_bytes(scalar, 1, tag);
  append_key(scalar, 2, Wire::k32);
  append_little_endian(scalar, std::bit_cast<std::uint32_t>(value));
  std::string summary;  // Summary.value (1)
  append_bytes(summary, 1, scalar);
  std::string event = event_at(unix_seconds);
  append_key(event, 2, Wire::kVarint);  // Event.step
  append_varint(event, static_cast<std::uint64_t>(step));
  append_bytes(event, 5, summary);  // Event.summary
  return event;
}

EventFile::EventFile(const std::string& folder, double unix_seconds)
    : path_(folder + "/events.out.tfevents." +
            std::to_string(static_cast<std::int64_t>(unix_seconds)) + ".kinema." +
            std::to_string(::getpid())),
      file_(std::fopen(path_.c_str(), "ab")) {
  if (file_ == nullptr) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.unwritable", .place = "train.events", .subject = path_});
  }
  append(version_event(unix_seconds));
}

void EventFile::add_scalar(std::string_view tag,
                           double value,
                           std::int64_t step,
                           double unix_seconds) {
  append(scalar_event(tag, static_cast<float>(value), step, unix_seconds));
}

void EventFile::append(const std::string& payload) {
  const std::string record = tf_record(payload);
  if (std::fwrite(record.data(), 1, record.size(), file_.get()) != record.size() ||
      std::fflush(file_.get()) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.write", .place = "train.events", .subject = path_});
  }
}

}  // namespace kinema::train
