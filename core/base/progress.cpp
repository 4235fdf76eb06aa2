// SPDX-License-Identifier: Apache-2.0
#include "core/base/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <sys/ioctl.h>

#include <fmt/format.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace kinema {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class NullProgress final : public ProgressObserver {
 public:
  void on_stage(std::string_view, std::int64_t, std::string_view) override {}
  void on_step(std::int64_t, const Metrics&) override {}
  void on_stage_end() override {}
};

// Keeps what all styles need: the stage, its clock, and a rate over the recent past.
class StreamProgress : public ProgressObserver {
 public:
  StreamProgress(std::FILE* stream, bool (*cancelled)()) : stream_(stream), cancelled_(cancelled) {}

  void on_stage(std::string_view name, std::int64_t total, std::string_view unit) final {
    if (!stage_.empty()) {
      on_stage_end();
    }
    stage_ = name;
    unit_ = unit;
    total_ = total;
    done_ = 0;
    metrics_.clear();
    start_ = Clock::now();
    last_shown_ = -1e9;
    show(Event::kStage);
  }

  void on_step(std::int64_t done, const Metrics& metrics) final {
    done_ = done;
    metrics_ = metrics;
    const double now = seconds_since(start_);
    if (now - last_shown_ >= interval_seconds() || (total_ > 0 && done_ >= total_)) {
      last_shown_ = now;
      show(Event::kStep);
    }
  }

  void on_stage_end() final {
    if (stage_.empty()) {
      return;
    }
    show(Event::kEnd);
    stage_.clear();
  }

  [[nodiscard]] bool cancelled() const final { return cancelled_ != nullptr && cancelled_(); }

 protected:
  enum class Event { kStage, kStep, kEnd };
  virtual void show(Event event) = 0;
  [[nodiscard]] virtual double interval_seconds() const = 0;

  [[nodiscard]] double elapsed() const { return seconds_since(start_); }
  [[nodiscard]] double rate() const {
    return elapsed() > 0 ? static_cast<double>(done_) / elapsed() : 0;
  }
  /// Seconds left, negative when unknown.
  [[nodiscard]] double time_left() const {
    return total_ > 0 && rate() > 0 ? static_cast<double>(total_ - done_) / rate() : -1;
  }
  [[nodiscard]] std::string count_text() const {
    if (unit_ == "byte") {
      const std::string done = format_bytes(static_cast<std::uint64_t>(done_));
      return total_ > 0 ? done + " of " + format_bytes(static_cast<std::uint64_t>(total_)) : done;
    }
    return total_ > 0 ? fmt::format("{}/{} {}s", done_, total_, unit_)
                      : fmt::format("{} {}s", done_, unit_);
  }
  [[nodiscard]] std::string rate_text() const {
    const double value = rate();
    if (value <= 0) {
      return "";
    }
    if (unit_ == "byte") {
      return ", " + format_bytes(static_cast<std::uint64_t>(value)) + "/s";
    }
    return value >= 1 ? fmt::format(", {:.3g} {}s/s", value, unit_)
                      : fmt::format(", {:.3g} s/{}", 1 / value, unit_);
  }
  [[nodiscard]] std::string metrics_text() const {
    std::string text;
    for (const auto& [name, value] : metrics_) {
      text += fmt::format(", {} {:.4g}", name, value);
    }
    return text;
  }

  std::FILE* stream_;
  bool (*cancelled_)();
  std::string stage_;
  std::string unit_;
  std::int64_t total_ = 0;
  std::int64_t done_ = 0;
  Metrics metrics_;
  Clock::time_point start_ = Clock::now();
  double last_shown_ = -1e9;
};

class BarProgress final : public StreamProgress {
 public:
  using StreamProgress::StreamProgress;

 private:
  [[nodiscard]] double interval_seconds() const override { return 0.1; }

  void show(Event event) override {
    std::string line = stage_ + " ";
    if (total_ > 0) {
      constexpr int kCells = 24;
      const double share =
          std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
      const int full = static_cast<int>(share * kCells);
      line += "[" + std::string(static_cast<std::size_t>(full), '=') +
              std::string(full < kCells ? 1 : 0, '>') +
              std::string(static_cast<std::size_t>(std::max(0, kCells - full - 1)), ' ') + "] ";
    }
    line += count_text() + rate_text();
    if (event == Event::kEnd) {
      line += ", took " + format_duration(elapsed());
    } else if (const double left = time_left(); left >= 0) {
      line += ", " + format_duration(left) + " left";
    }
    line += metrics_text();
    winsize window{};
    if (::ioctl(::fileno(stream_), TIOCGWINSZ, &window) == 0 && window.ws_col > 8 &&
        line.size() >= window.ws_col) {
      line.resize(window.ws_col - 1U);
    }
    std::fprintf(stream_, "\r\033[K%s%s", line.c_str(), event == Event::kEnd ? "\n" : "");
    std::fflush(stream_);
  }
};

class LineProgress final : public StreamProgress {
 public:
  using StreamProgress::StreamProgress;

 private:
  [[nodiscard]] double interval_seconds() const override { return 5.0; }

  void show(Event event) override {
    if (event == Event::kStage || (event == Event::kStep && elapsed() < interval_seconds())) {
      return;  // a short stage prints one line, at its end
    }
    std::string line = stage_ + ": " + count_text() + rate_text();
    if (event == Event::kEnd) {
      line += ", took " + format_duration(elapsed());
    } else if (const double left = time_left(); left >= 0) {
      line += ", " + format_duration(left) + " left";
    }
    std::fprintf(stream_, "%s%s\n", line.c_str(), metrics_text().c_str());
    std::fflush(stream_);
  }
};

class JsonProgress final : public StreamProgress {
 public:
  using StreamProgress::StreamProgress;

 private:
  [[nodiscard]] double interval_seconds() const override { return 0.2; }

  void show(Event event) override {
    static constexpr const char* kNames[] = {"stage", "step", "end"};
    OrderedJson json = {{"event", kNames[static_cast<int>(event)]}, {"stage", stage_}};
    json["done"] = done_;
    if (total_ > 0) {
      json["total"] = total_;
    }
    json["unit"] = unit_;
    json["seconds"] = elapsed();
    if (event != Event::kStage) {
      json["rate"] = rate();
    }
    if (const double left = time_left(); event == Event::kStep && left >= 0) {
      json["seconds_left"] = left;
    }
    for (const auto& [name, value] : metrics_) {
      json["metrics"][name] = value;
    }
    std::fprintf(
        stream_, "%s\n", json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace).c_str());
    std::fflush(stream_);
  }
};

class QuietProgress final : public StreamProgress {
 public:
  using StreamProgress::StreamProgress;

 private:
  [[nodiscard]] double interval_seconds() const override { return 1e9; }
  void show(Event) override {}
};

}  // namespace

void check_cancelled(const ProgressObserver& progress, std::string_view place) {
  if (progress.cancelled()) {
    throw Error(
        ErrorKind::kCancelled,
        {.code = "cancelled", .place = std::string(place), .subject = "stopped on request"});
  }
}

ProgressObserver& null_progress() {
  static NullProgress progress;
  return progress;
}

std::unique_ptr<ProgressObserver> make_progress(ProgressStyle style,
                                                std::FILE* stream,
                                                bool (*cancelled)()) {
  if (style == ProgressStyle::kAuto) {
    const char* term = std::getenv("TERM");
    const bool dumb = term == nullptr || std::string_view(term) == "dumb";
    style = ::isatty(::fileno(stream)) != 0 && !dumb ? ProgressStyle::kBar : ProgressStyle::kLines;
  }
  switch (style) {
    case ProgressStyle::kBar:
      return std::make_unique<BarProgress>(stream, cancelled);
    case ProgressStyle::kJson:
      return std::make_unique<JsonProgress>(stream, cancelled);
    case ProgressStyle::kQuiet:
      return std::make_unique<QuietProgress>(stream, cancelled);
    case ProgressStyle::kAuto:
    case ProgressStyle::kLines:
      break;
  }
  return std::make_unique<LineProgress>(stream, cancelled);
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 3.6e8) {
    return "?";
  }
  if (seconds < 10) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) {
    return fmt::format("{} s", whole);
  }
  if (whole < 3600) {
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
  }
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace kinema
