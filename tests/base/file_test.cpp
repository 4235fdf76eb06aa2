// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/error.h"
#include "tests/support/temp_folder.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using testing::HasSubstr;

template <typename Call>
Error error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorKind::kInternal, {.code = "nothing was thrown"});
}

TEST(ReadFileTest, ReadsAllBytesUpToALimit) {
  const TempFolder folder;
  write_file(folder / "a", std::string("x\0y\n", 4));
  EXPECT_EQ(read_file(folder / "a", 100, "test"), std::string("x\0y\n", 4));
  EXPECT_EQ(error_of([&] { static_cast<void>(read_file(folder / "a", 3, "test")); }).code(),
            "io.too_large");
}

TEST(ReadFileTest, RefusesFoldersPipesAndMissingFiles) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  for (const auto& path : {folder.path(), folder / "pipe", folder / "none"}) {
    const Error error = error_of([&] { static_cast<void>(read_file(path, 100, "test")); });
    EXPECT_EQ(error.code(), "io.open") << path;
    EXPECT_EQ(error.exit_code(), 3);
    EXPECT_THAT(error.what(), HasSubstr(path));
    EXPECT_EQ(error_of([&] { static_cast<void>(MappedFile::open(path, "test")); }).code(),
              "io.open")
        << path;
  }
}

TEST(MappedFileTest, OutlivesTheObjectThroughItsOwner) {
  const TempFolder folder;
  write_file(folder / "a", "hello");
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
  {
    const MappedFile file = MappedFile::open(folder / "a", "test");
    owner = file.owner();
    bytes = file.bytes();
  }
  ASSERT_EQ(bytes.size(), 5);
  EXPECT_EQ(static_cast<char>(bytes[4]), 'o');
  write_file(folder / "empty", "");
  EXPECT_TRUE(MappedFile::open(folder / "empty", "test").bytes().empty());
}

TEST(AtomicFileTest, AppearsOnlyWhenComplete) {
  const TempFolder folder;
  const std::string path = folder / "out.bin";
  {
    AtomicFile file(path);
    file.write("half");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_EQ(folder.names().size(), 0) << "an abandoned write leaves nothing";
  AtomicFile file(path);
  file.write("whole");
  EXPECT_EQ(file.bytes_written(), 5);
  file.commit();
  EXPECT_EQ(read_file(path, 100, "test"), "whole");
  EXPECT_EQ(folder.names().size(), 1);
}

TEST(AtomicFileTest, OldContentsSurviveAnAbandonedWrite) {
  const TempFolder folder;
  write_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "a", 100, "test"), "old");
}

TEST(AtomicFileTest, KilledInTheMiddleLeavesNoFinalFile) {
  const TempFolder folder;
  const std::string path = folder / "out.bin";
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(path);
    file.write(std::string(1 << 20, 'x'));
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(fs::exists(path));
}

TEST(AtomicFileTest, SaysWhyItCannotWrite) {
  const TempFolder folder;
  const Error missing = error_of([&] { AtomicFile file(folder / "no/out.bin"); });
  EXPECT_EQ(missing.code(), "output.unwritable");
  EXPECT_EQ(missing.exit_code(), 2);
  EXPECT_EQ(error_of([&] { AtomicFile file(folder.path()); }).code(), "output.unwritable");
}

TEST(AtomicFileTest, AFullDiskIsItsOwnError) {
  if (::access("/dev/full", W_OK) != 0) {
    GTEST_SKIP() << "no /dev/full here";
  }
  const TempFolder folder;
  // The part file is a link to a device that is always full.
  const std::string path = folder / "out.bin";
  fs::create_symlink("/dev/full", part_path(path));
  AtomicFile file(path);
  const Error error = error_of([&] { file.write("x"); });
  EXPECT_EQ(error.kind(), ErrorKind::kDiskFull);
  EXPECT_EQ(error.exit_code(), 4);
}

TEST(ConfinedPathTest, StaysInside) {
  const TempFolder folder;
  write_file(folder / "a.bin", "x");
  fs::create_directory(folder / "sub");
  EXPECT_EQ(confined_path(folder.path(), "a.bin", "test"), folder / "a.bin");
  EXPECT_EQ(confined_path(folder.path(), "sub/missing", "test"), folder / "sub/missing");
  for (const std::string& name : {std::string(""),
                                  std::string("/etc/passwd"),
                                  std::string("../x"),
                                  std::string("a/../../x"),
                                  std::string("./a"),
                                  std::string("a//b"),
                                  std::string(".."),
                                  std::string("a\\b"),
                                  std::string("a\0b", 3),
                                  std::string("sub/")}) {
    const Error error =
        error_of([&] { static_cast<void>(confined_path(folder.path(), name, "test")); });
    EXPECT_EQ(error.code(), "io.outside_folder") << name;
    EXPECT_EQ(error.exit_code(), 3);
  }
}

TEST(ConfinedPathTest, LinksMayNotLeaveExceptInsideAHubCache) {
  const TempFolder folder;
  fs::create_directories(folder / "blobs");
  fs::create_directories(folder / "snapshots/abc");
  write_file(folder / "blobs/1", "x");
  write_file(folder / "secret", "x");
  const std::string snapshot = folder / "snapshots/abc";
  fs::create_symlink("../../blobs/1", snapshot + "/model.safetensors");
  fs::create_symlink("../../secret", snapshot + "/evil");
  fs::create_symlink("../../", snapshot + "/up");
  EXPECT_NO_THROW(static_cast<void>(confined_path(snapshot, "model.safetensors", "test")));
  EXPECT_EQ(error_of([&] { static_cast<void>(confined_path(snapshot, "evil", "test")); }).code(),
            "io.outside_folder");
  EXPECT_EQ(
      error_of([&] { static_cast<void>(confined_path(snapshot, "up/secret", "test")); }).code(),
      "io.outside_folder");
}

TEST(FormatBytesTest, ChoosesTheUnit) {
  EXPECT_EQ(format_bytes(0), "0 bytes");
  EXPECT_EQ(format_bytes(1), "1 byte");
  EXPECT_EQ(format_bytes(999), "999 bytes");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(999'999), "1.0 MB");
  EXPECT_EQ(format_bytes(9'524'621'312ULL), "9.5 GB");
  EXPECT_EQ(format_bytes(~0ULL), "18.4 EB");
}

}  // namespace
}  // namespace kinema
