// SPDX-License-Identifier: Apache-2.0
// Runs a program and collects what it said.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "tests/support/temp_folder.h"

namespace kinema::test {

struct ProcessResult {
  int exit_code = -1;  ///< 128 + signal when killed
  std::string out;
  std::string err;
  double seconds = 0;
};

/// Runs `command` (program and arguments), waits for its end. `stdout_to`: a path that takes stdout
/// instead of `out`.
inline ProcessResult run_process(const std::vector<std::string>& command,
                                 const std::string& stdout_to = "") {
  const TempFolder folder;
  const std::string out = stdout_to.empty() ? folder / "out" : stdout_to;
  const std::string err = folder / "err";
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<char*> arguments;
    for (const auto& argument : command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ProcessResult result;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  const auto slurp = [](const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  };
  if (stdout_to.empty()) {
    result.out = slurp(out);
  }
  result.err = slurp(err);
  return result;
}

}  // namespace kinema::test
