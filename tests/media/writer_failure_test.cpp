// SPDX-License-Identifier: Apache-2.0
// A writer that is killed, runs out of disk, or loses the reader of its pipe.
#include <csignal>
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "core/base/file.h"
#include "tests/media/media_test_support.h"

namespace kinema::media {
namespace {

using ::testing::HasSubstr;

// Runs `work` in a child process; its result is the exit status.
int run_in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 99;
    try {
      status = work();
    } catch (const std::exception&) {
      status = 98;
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(WriterFailureTest, KilledInTheMiddleLeavesNothingUnderTheName) {
  for (const char* name : {"a.mp4", "a.webm", "a.mkv", "a.gif", "a.y4m", "frames/"}) {
    SCOPED_TRACE(name);
    const test::TempFolder folder;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const std::string path = folder / name;
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        VideoWriter writer = VideoWriter::open(path, {.width = 64, .height = 48});
        for (std::int64_t i = 0;; ++i) {
          const auto rgb = moving_picture(64, 48, i % 20);
          writer.add({.rgb_HWC = rgb, .width = 64, .height = 48});
          if (i == 5 && ::write(ready[1], "x", 1) != 1) {
            ::_exit(1);
          }
        }
      } catch (const std::exception&) {
        ::_exit(1);
      }
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_FALSE(std::filesystem::exists(path));
    // What is left is hidden and named as a part; the next run is not in its way.
    for (const std::string& left : folder.names()) {
      EXPECT_TRUE(left.starts_with(".")) << left;
      EXPECT_THAT(left, HasSubstr(".part"));
    }
    write_clip(path, {.width = 64, .height = 48}, 2);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
}

TEST(WriterFailureTest, FileSizeLimitIsAnErrorAndLeavesNothing) {
  for (const char* name : {"a.mp4", "a.mkv", "a.y4m", "a.gif", "frames/"}) {
    SCOPED_TRACE(name);
    const test::TempFolder folder;
    const std::string path = folder / name;
    const int status = run_in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{1500, 1500};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      try {
        VideoWriter writer = VideoWriter::open(path, {.width = 160, .height = 120, .crf = {}});
        for (std::int64_t i = 0; i < 40; ++i) {
          const auto rgb = moving_picture(160, 120, i);
          writer.add({.rgb_HWC = rgb, .width = 160, .height = 120});
        }
        (void)writer.finish();
      } catch (const Error& error) {
        return error.kind() == ErrorKind::kOutput && error.code() == "output.write" ? 0 : 2;
      }
      return 1;
    });
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(folder.names().empty());
  }
}

TEST(WriterFailureTest, FullDiskIsNamed) {
  for (const VideoFormat format :
       {VideoFormat::kY4m, VideoFormat::kMkv, VideoFormat::kMp4, VideoFormat::kGif}) {
    const int status = run_in_child([&] {
      ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO);
      try {
        VideoWriter writer = VideoWriter::open("-", {.width = 64, .height = 48, .format = format});
        for (std::int64_t i = 0; i < 8; ++i) {
          const auto rgb = moving_picture(64, 48, i);
          writer.add({.rgb_HWC = rgb, .width = 64, .height = 48});
        }
        (void)writer.finish();
      } catch (const Error& error) {
        return error.kind() == ErrorKind::kDiskFull && error.code() == "disk_full" ? 0 : 2;
      }
      return 1;
    });
    EXPECT_EQ(status, 0) << to_string(format);
  }
}

TEST(WriterFailureTest, ClosedPipeIsAnErrorAndNoSignal) {
  const int status = run_in_child([] {
    int ends[2];
    if (::pipe(ends) != 0) {
      return 3;
    }
    ::close(ends[0]);
    ::dup2(ends[1], STDOUT_FILENO);
    try {
      write_clip("-", {.width = 64, .height = 48}, 3);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kOutput && error.code() == "output.closed" ? 0 : 2;
    }
    return 1;
  });
  EXPECT_EQ(status, 0);
}

TEST(WriterFailureTest, StandardOutputCarriesAWholeVideo) {
  for (const VideoFormat format : {VideoFormat::kAuto,
                                   VideoFormat::kMkv,
                                   VideoFormat::kMp4,
                                   VideoFormat::kWebm,
                                   VideoFormat::kGif}) {
    SCOPED_TRACE(to_string(format));
    const test::TempFolder folder;
    const std::string path = folder / "captured";
    const int status = run_in_child([&] {
      // A pipe, so that nothing can seek back.
      int ends[2];
      if (::pipe(ends) != 0) {
        return 3;
      }
      const pid_t copier = ::fork();
      if (copier == 0) {
        ::close(ends[1]);
        const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        char buffer[4096];
        for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof(buffer))) > 0;) {
          if (::write(file, buffer, static_cast<std::size_t>(n)) != n) {
            ::_exit(1);
          }
        }
        ::_exit(0);
      }
      ::close(ends[0]);
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[1]);
      VideoWriter writer = VideoWriter::open("-", {.width = 64, .height = 48, .format = format});
      for (std::int64_t i = 0; i < 9; ++i) {
        const auto rgb = moving_picture(64, 48, i);
        writer.add({.rgb_HWC = rgb, .width = 64, .height = 48});
      }
      (void)writer.finish();
      ::close(STDOUT_FILENO);
      int copied = 0;
      ::waitpid(copier, &copied, 0);
      return copied == 0 ? 0 : 4;
    });
    ASSERT_EQ(status, 0);
    const auto frames = read_all(path);
    ASSERT_EQ(frames.size(), 9U);
    EXPECT_GE(psnr(frames[8].rgb_HWC, moving_picture(64, 48, 8)), 28.0);
  }
}

}  // namespace
}  // namespace kinema::media
