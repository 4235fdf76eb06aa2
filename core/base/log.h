// SPDX-License-Identifier: Apache-2.0
// Logging. Libraries never print: they receive a Logger. A line is an event with a key=value tail:
//   logger.info("loaded weights path=... tensors=412 seconds=3.1");
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace kinema {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

class Logger {
 public:
  virtual ~Logger() = default;
  virtual void log(LogLevel level, std::string_view text) = 0;
  void debug(std::string_view text) { log(LogLevel::kDebug, text); }
  void info(std::string_view text) { log(LogLevel::kInfo, text); }
  void warning(std::string_view text) { log(LogLevel::kWarning, text); }
  void error(std::string_view text) { log(LogLevel::kError, text); }
};

/// Lines on stderr from `threshold` up, coloured when stderr is a terminal.
[[nodiscard]] std::unique_ptr<Logger> make_stderr_logger(LogLevel threshold);

/// Drops everything.
[[nodiscard]] Logger& null_logger();

}  // namespace kinema
