// SPDX-License-Identifier: Apache-2.0
#include "core/archive/tar_writer.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temp_folder.h"

namespace kinema::archive {
namespace {

std::string contents(const std::string& path) {
  return read_file(path, 1U << 24U, "test");
}

TEST(TarWriter, OtherToolsReadIt) {
  const test::TempFolder folder;
  const std::string path = folder / "a.tar";
  TarWriter tar(path);
  const std::string big(100'000, 'x');
  tar.add("00000001.txt", "a red circle");
  tar.add("00000001.mp4", big);
  tar.add("empty.json", "");
  EXPECT_EQ(tar.commit(), std::filesystem::file_size(path));
  ASSERT_EQ(std::system(("tar -C " + folder.path() + " -xf " + path).c_str()), 0);
  EXPECT_EQ(contents(folder / "00000001.txt"), "a red circle");
  EXPECT_EQ(contents(folder / "00000001.mp4"), big);
  EXPECT_EQ(contents(folder / "empty.json"), "");
}

TEST(TarWriter, SameEntriesGiveSameBytes) {
  const test::TempFolder folder;
  for (const char* name : {"a.tar", "b.tar"}) {
    TarWriter tar(folder / name);
    tar.add("x.txt", "one");
    tar.commit();
  }
  EXPECT_EQ(contents(folder / "a.tar"), contents(folder / "b.tar"));
}

TEST(TarWriter, NothingIsLeftWithoutCommit) {
  const test::TempFolder folder;
  {
    TarWriter tar(folder / "a.tar");
    tar.add("x.txt", "one");
  }
  EXPECT_EQ(folder.names().size(), 0U);
}

TEST(TarWriter, NamesThatUstarCannotHoldAreRefused) {
  const test::TempFolder folder;
  TarWriter tar(folder / "a.tar");
  for (const std::string& name : {std::string(), std::string("/etc/x"), std::string(101, 'n')}) {
    try {
      tar.add(name, "x");
      ADD_FAILURE() << "'" << name << "' was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "archive.name");
    }
  }
}

TEST(TarWriter, FolderThatIsNotThere) {
  try {
    const TarWriter tar("/nowhere/at/all/a.tar");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "output.unwritable");
  }
}

}  // namespace
}  // namespace kinema::archive
