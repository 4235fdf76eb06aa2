// SPDX-License-Identifier: Apache-2.0
// Bytes of TensorBoard event files: checksums by published vectors, records and messages by hand.
#include "core/train/event_file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temp_folder.h"

namespace kinema::train {
namespace {

using namespace std::string_literals;

TEST(Crc32c, PublishedVectors) {
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  std::string rising;
  for (char c = 0; c < 32; ++c) {
    rising.push_back(c);
  }
  EXPECT_EQ(crc32c(rising), 0x46DD794EU);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(Crc32c, Mask) {
  const std::uint32_t crc = crc32c("123456789");
  EXPECT_EQ(masked_crc32c("123456789"), ((crc >> 15U) | (crc << 17U)) + 0xA282EAD8U);
}

TEST(EventFile, RecordFramesItsPayload) {
  const std::string record = tf_record("abc");
  ASSERT_EQ(record.size(), 8U + 4U + 3U + 4U);
  EXPECT_EQ(record.substr(0, 8), "\x03\0\0\0\0\0\0\0"s);
  EXPECT_EQ(record.substr(12, 3), "abc");
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      value |= static_cast<std::uint32_t>(static_cast<unsigned char>(record[at + i])) << (8 * i);
    }
    return value;
  };
  EXPECT_EQ(word(8), masked_crc32c(record.substr(0, 8)));
  EXPECT_EQ(word(15), masked_crc32c("abc"));
}

TEST(EventFile, ScalarMessage) {
  // wall_time 1.0, step 300, summary { value { tag "a/b" simple_value 0.5 } }.
  const std::string expected =
      "\x09\0\0\0\0\0\0\xF0\x3F"s
      "\x10\xAC\x02"s
      "\x2A\x0C\x0A\x0A\x0A\x03"s
      "a/b"s
      "\x15\0\0\0\x3F"s;
  EXPECT_EQ(scalar_event("a/b", 0.5F, 300, 1.0), expected);
  EXPECT_EQ(version_event(1.0), "\x09\0\0\0\0\0\0\xF0\x3F\x1A\x0D"s + "brain.Event:2");
}

TEST(EventFile, FileHoldsTheRecordsInOrder) {
  const test::TempFolder folder;
  {
    EventFile events(folder.path(), 1000.0);
    events.add_scalar("loss", 0.25, 7, 1001.0);
  }
  const auto entry = *std::filesystem::directory_iterator(folder.path());
  EXPECT_THAT(entry.path().filename().string(), testing::StartsWith("events.out.tfevents.1000."));
  EXPECT_EQ(read_file(entry.path().string(), 1 << 20, "test"),
            tf_record(version_event(1000.0)) + tf_record(scalar_event("loss", 0.25F, 7, 1001.0)));
  EXPECT_THROW(EventFile(folder / "missing", 1.0), Error);
}

}  // namespace
}  // namespace kinema::train
