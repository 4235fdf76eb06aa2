// SPDX-License-Identifier: Apache-2.0
#include "core/base/scratch_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/error.h"

namespace kinema {
namespace {

class ScratchMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/scratch.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(ScratchMemory, KeepsWhatWasDropped) {
  constexpr std::size_t kBytes = 1000003;
  const auto memory = map_scratch(folder_, kBytes);
  EXPECT_TRUE(std::all_of(
      memory.get(), memory.get() + kBytes, [](std::byte b) { return b == std::byte{0}; }));
  for (std::size_t i = 0; i < kBytes; ++i) {
    memory.get()[i] = static_cast<std::byte>(i * 7 % 251);
  }
  drop_scratch(memory.get(), kBytes);
  for (std::size_t i = 0; i < kBytes; ++i) {
    ASSERT_EQ(memory.get()[i], static_cast<std::byte>(i * 7 % 251)) << i;
  }
}

TEST_F(ScratchMemory, LeavesNoFile) {
  const auto memory = map_scratch(folder_, 4096);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(ScratchMemory, SaysWhereThereIsNoRoom) {
  try {
    static_cast<void>(map_scratch(folder_ + "/missing", 4096));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "output.unwritable");
    EXPECT_THAT(error.what(), ::testing::HasSubstr("missing"));
  }
  try {
    static_cast<void>(map_scratch(folder_, std::size_t{1} << 60));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "disk_full");
    EXPECT_THAT(error.what(), ::testing::HasSubstr(folder_));
  }
}

}  // namespace
}  // namespace kinema
