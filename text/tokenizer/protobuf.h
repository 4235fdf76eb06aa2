// SPDX-License-Identifier: Apache-2.0
// Walks the fields of one protobuf message. Groups, which no known file uses, are refused.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kinema::text {

enum class ProtobufWire : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct ProtobufField {
  std::uint32_t number = 0;
  ProtobufWire wire = ProtobufWire::kVarint;
  std::uint64_t value = 0;  ///< of a varint or of a fixed32
  std::string_view bytes;   ///< of a string, of bytes, of a message

  /// The field as that kind, whatever number it has; nothing if it was written as another kind.
  [[nodiscard]] std::optional<std::string_view> text() const {
    return wire == ProtobufWire::kBytes ? std::optional(bytes) : std::nullopt;
  }
  [[nodiscard]] std::optional<std::uint64_t> integer() const {
    return wire == ProtobufWire::kVarint ? std::optional(value) : std::nullopt;
  }
  [[nodiscard]] std::optional<float> real() const {
    return wire == ProtobufWire::kFixed32
               ? std::optional(std::bit_cast<float>(static_cast<std::uint32_t>(value)))
               : std::nullopt;
  }
};

class ProtobufWalker {
 public:
  /// `subject`: the file, for the message. Both must outlive the walker.
  ProtobufWalker(std::string_view bytes, const std::string& subject)
      : bytes_(bytes), subject_(subject) {}

  /// The next field; nothing at the end. Throws kBadCheckpoint [tokenizer.spm_format].
  std::optional<ProtobufField> next();

  /// Throws kBadCheckpoint [tokenizer.spm_format].
  [[noreturn]] void fail(std::string got) const;

 private:
  std::uint64_t varint();
  std::string_view take(std::uint64_t count);

  std::string_view bytes_;
  const std::string& subject_;
  std::size_t at_ = 0;
};

}  // namespace kinema::text
