// SPDX-License-Identifier: Apache-2.0
#include "core/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace kinema {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

class StderrLogger final : public Logger {
 public:
  explicit StderrLogger(LogLevel threshold)
      : logger_("kinema", std::make_shared<spdlog::sinks::stderr_color_sink_mt>()) {
    logger_.set_level(to_spdlog(threshold));
    logger_.set_pattern("%^%l%$: %v");
  }
  void log(LogLevel level, std::string_view text) override {
    logger_.log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
  }

 private:
  spdlog::logger logger_;
};

class NullLogger final : public Logger {
 public:
  void log(LogLevel, std::string_view) override {}
};

}  // namespace

std::unique_ptr<Logger> make_stderr_logger(LogLevel threshold) {
  return std::make_unique<StderrLogger>(threshold);
}

Logger& null_logger() {
  static NullLogger logger;
  return logger;
}

}  // namespace kinema
