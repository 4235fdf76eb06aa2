// SPDX-License-Identifier: Apache-2.0
// What a command says: results on stdout (text, or one JSON object under --json), everything else
// on stderr; errors in one shape; cancellation by Ctrl-C and SIGTERM.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/options.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/progress.h"

namespace kinema::cli {

class Console {
 public:
  explicit Console(const CommonOptions& options);

  [[nodiscard]] bool json() const { return options_.json; }
  [[nodiscard]] Logger& logger() { return *logger_; }
  [[nodiscard]] ProgressObserver& progress() { return *progress_; }

  /// Prints `text` for people, or `result` under --json. Once per command, at its end. Throws
  /// kOutput [output.stdout] when stdout is closed or full.
  void finish(const OrderedJson& result, std::string_view text);

 private:
  CommonOptions options_;
  std::unique_ptr<Logger> logger_;
  std::unique_ptr<ProgressObserver> progress_;
};

/// Writes to stdout and flushes. Throws kOutput [output.stdout] or kDiskFull.
void write_stdout(std::string_view text);

/// The error as people read it: one line per fact, on stderr; under `json` also the object
/// {"error":{code,message,place,expected,got,hint}} on stdout.
void report_error(const Error& error, bool json);

/// Runs `body`, turns every exception into a report and returns the exit code. Also ignores SIGPIPE
/// and lets SIGINT and SIGTERM request cancellation (a second one ends the program at once).
int run_main(const std::vector<std::string>& arguments, const std::function<int()>& body);

/// True once SIGINT or SIGTERM came.
[[nodiscard]] bool cancel_requested();

}  // namespace kinema::cli
