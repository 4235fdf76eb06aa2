// SPDX-License-Identifier: Apache-2.0
// Runs `kinema` with a tiny model that all tests of a file share.
#pragma once

#include <csignal>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.h"
#include "media/video_reader.h"
#include "tests/pipeline/tiny_model.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace kinema::test {

class GenerateFixture : public testing::Test {
 protected:
  static std::vector<std::string> command(std::vector<std::string> arguments) {
    std::vector<std::string> full = {KINEMA_BINARY_DIR "/apps/kinema"};
    full.insert(full.end(), arguments.begin(), arguments.end());
    return full;
  }
  static ProcessResult kinema(std::vector<std::string> arguments) {
    return run_process(command(std::move(arguments)));
  }
  /// Starts it without waiting; it says nothing.
  static pid_t start(std::vector<std::string> arguments) {
    const std::vector<std::string> full = command(std::move(arguments));
    const pid_t child = ::fork();
    if (child == 0) {
      std::vector<char*> raw;
      for (const auto& argument : full) {
        raw.push_back(const_cast<char*>(argument.c_str()));
      }
      raw.push_back(nullptr);
      ::close(1);
      ::close(2);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    return child;
  }
  static std::string bytes(const std::string& path) { return read_file(path, 1 << 26, "test"); }
  static std::int64_t count_frames(const std::string& path) {
    return media::VideoReader::open(path, {}).count_frames();
  }

  TempFolder folder_;
};

/// The model folder of a test suite.
class SharedModel {
 public:
  explicit SharedModel(dit::Layout layout) { save_tiny_model(path(), layout); }
  [[nodiscard]] std::string path() const { return folder_ / "model"; }

 private:
  TempFolder folder_;
};

}  // namespace kinema::test
