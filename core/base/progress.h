// SPDX-License-Identifier: Apache-2.0
// Progress of long work: the library reports to a ProgressObserver; bars, plain lines and JSON
// lines are observers.
//
//   progress.on_stage("denoise", 30, "step");
//   for (...) { progress.on_step(i + 1, {{"loss", 0.31}}); check_cancelled(progress, "denoise"); }
//   progress.on_stage_end();
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kinema {

/// Named values shown beside the bar, in order.
using Metrics = std::vector<std::pair<std::string, double>>;

class ProgressObserver {
 public:
  virtual ~ProgressObserver() = default;
  /// A stage begins. `total` steps (0: unknown), `unit` in the singular ("frame", "step", "byte").
  virtual void on_stage(std::string_view name, std::int64_t total, std::string_view unit) = 0;
  /// `done` steps of the stage are finished (not an index).
  virtual void on_step(std::int64_t done, const Metrics& metrics) = 0;
  virtual void on_stage_end() = 0;
  /// True once the user asked to stop (Ctrl-C, SIGTERM); work stops at the next step.
  [[nodiscard]] virtual bool cancelled() const { return false; }
};

/// Throws kCancelled [cancelled] when the observer says so.
void check_cancelled(const ProgressObserver& progress, std::string_view place);

/// Reports to nobody, is never cancelled.
[[nodiscard]] ProgressObserver& null_progress();

enum class ProgressStyle {
  kAuto,   ///< a bar on a terminal, otherwise plain lines
  kBar,    ///< one line that is redrawn: bar, count, rate, time left
  kLines,  ///< one line at most every 5 seconds and at the end of a stage
  kJson,   ///< one JSON object a line: {"event":"step","stage":..,"done":..,"total":..,...}
  kQuiet,  ///< nothing; still answers cancelled()
};

/// Observer that writes to `stream` (stderr for the command line). `cancelled` is polled; may be
/// null.
[[nodiscard]] std::unique_ptr<ProgressObserver> make_progress(ProgressStyle style,
                                                              std::FILE* stream,
                                                              bool (*cancelled)() = nullptr);

/// "1:02:03", "4:05", "7 s", "0.3 s".
[[nodiscard]] std::string format_duration(double seconds);

}  // namespace kinema
