// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/protobuf.h"

#include <utility>

#include "core/base/error.h"

namespace kinema::text {

void ProtobufWalker::fail(std::string got) const {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.spm_format",
               .place = "text.tokenizer",
               .subject = subject_,
               .expected = "a SentencePiece model",
               .got = std::move(got),
               .hint = "the file is damaged or not what its name says"});
}

std::optional<ProtobufField> ProtobufWalker::next() {
  if (at_ == bytes_.size()) {
    return std::nullopt;
  }
  const std::uint64_t tag = varint();
  if (tag > UINT32_MAX || (tag >> 3) == 0) {
    fail("a field number out of range");
  }
  ProtobufField field;
  field.number = static_cast<std::uint32_t>(tag >> 3);
  field.wire = static_cast<ProtobufWire>(tag & 7U);
  switch (field.wire) {
    case ProtobufWire::kVarint:
      field.value = varint();
      break;
    case ProtobufWire::kFixed64:
      take(8);
      break;
    case ProtobufWire::kFixed32: {
      const std::string_view bytes = take(4);
      for (std::size_t i = 0; i < 4; ++i) {
        field.value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
      }
      break;
    }
    case ProtobufWire::kBytes:
      field.bytes = take(varint());
      break;
    default:
      fail("an unknown kind of field");
  }
  return field;
}

std::string_view ProtobufWalker::take(std::uint64_t count) {
  const std::size_t left = bytes_.size() - at_;
  if (count > left) {
    fail("a field of " + std::to_string(count) + " bytes where " + std::to_string(left) +
         " are left");
  }
  const std::string_view bytes = bytes_.substr(at_, static_cast<std::size_t>(count));
  at_ += bytes.size();
  return bytes;
}

std::uint64_t ProtobufWalker::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (at_ == bytes_.size()) {
      fail("a number that is cut off");
    }
    const auto byte = static_cast<unsigned char>(bytes_[at_++]);
    if (shift < 64) {
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
    }
    if (byte < 0x80) {
      return value;
    }
  }
  fail("a number of more than ten bytes");
}

}  // namespace kinema::text
