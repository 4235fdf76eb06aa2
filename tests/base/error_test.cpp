// SPDX-License-Identifier: Apache-2.0
#include "core/base/error.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kinema {
namespace {

TEST(ErrorTest, MessageNamesPlaceSubjectExpectedGotAndHint) {
  const Error error(ErrorKind::kBadCheckpoint,
                    {.code = "a.b",
                     .place = "io.safetensors",
                     .subject = "a.safetensors",
                     .expected = "a header of 10 bytes",
                     .got = "9 bytes",
                     .hint = "download again"});
  EXPECT_STREQ(
      error.what(),
      "[io.safetensors] a.safetensors: expected a header of 10 bytes, got 9 bytes; download again");
  EXPECT_EQ(error.code(), "a.b");
  EXPECT_EQ(error.exit_code(), 3);
  EXPECT_THAT(error.where().file_name(), testing::HasSubstr("error_test.cpp"));
}

TEST(ErrorTest, EmptyPartsLeaveNoTrace) {
  const Error only_subject(ErrorKind::kInternal, {.code = "x", .place = "p", .subject = "s"});
  EXPECT_STREQ(only_subject.what(), "[p] s");
  const Error only_got(ErrorKind::kIo, {.code = "x", .place = "p", .subject = "s", .got = "g"});
  EXPECT_STREQ(only_got.what(), "[p] s: g");
}

TEST(ErrorTest, ExitCodesAreTheDocumentedOnes) {
  EXPECT_EQ(exit_code(ErrorKind::kInternal), 1);
  for (const auto kind : {ErrorKind::kInvalidArgument,
                          ErrorKind::kBadConfig,
                          ErrorKind::kOutput,
                          ErrorKind::kUnsupported}) {
    EXPECT_EQ(exit_code(kind), 2) << to_string(kind);
  }
  for (const auto kind : {ErrorKind::kShapeMismatch,
                          ErrorKind::kBadCheckpoint,
                          ErrorKind::kBadData,
                          ErrorKind::kIo}) {
    EXPECT_EQ(exit_code(kind), 3) << to_string(kind);
  }
  EXPECT_EQ(exit_code(ErrorKind::kOutOfMemory), 4);
  EXPECT_EQ(exit_code(ErrorKind::kDiskFull), 4);
  EXPECT_EQ(exit_code(ErrorKind::kCancelled), 130);
}

TEST(ErrorTest, SystemErrorsTellFullDisksAndMemoryFromTheRest) {
  EXPECT_EQ(system_error(ErrorKind::kOutput, ENOSPC, {}).kind(), ErrorKind::kDiskFull);
  EXPECT_EQ(system_error(ErrorKind::kOutput, EDQUOT, {}).kind(), ErrorKind::kDiskFull);
  EXPECT_EQ(system_error(ErrorKind::kIo, ENOMEM, {}).kind(), ErrorKind::kOutOfMemory);
  const Error other =
      system_error(ErrorKind::kIo, EACCES, {.code = "io.open", .place = "p", .subject = "f"});
  EXPECT_EQ(other.kind(), ErrorKind::kIo);
  EXPECT_STREQ(other.what(), "[p] f: Permission denied");
}

#ifndef NDEBUG
TEST(ErrorDeathTest, BrokenInvariantAborts) {
  EXPECT_DEATH(KINEMA_DCHECK(1 + 1 == 3), "1 \\+ 1 == 3");
}
#endif

}  // namespace
}  // namespace kinema
