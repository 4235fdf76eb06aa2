// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/console.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <new>

#include <unistd.h>

namespace kinema::cli {
namespace {

// Signal handlers can reach nothing but a global.
volatile std::sig_atomic_t g_cancel_requested = 0;

extern "C" void on_cancel_signal(int signal) {
  if (g_cancel_requested != 0) {
    ::_exit(128 + signal);
  }
  g_cancel_requested = 1;
}

void install_signal_handlers() {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action{};
  action.sa_handler = on_cancel_signal;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

LogLevel threshold_of(const CommonOptions& options) {
  if (options.quiet) {
    return LogLevel::kError;
  }
  return options.verbose > 0 ? LogLevel::kDebug : LogLevel::kInfo;
}

ProgressStyle style_of(const CommonOptions& options) {
  if (options.json_progress) {
    return ProgressStyle::kJson;
  }
  return options.quiet ? ProgressStyle::kQuiet : ProgressStyle::kAuto;
}

}  // namespace

Console::Console(const CommonOptions& options)
    : options_(options),
      logger_(make_stderr_logger(threshold_of(options))),
      progress_(make_progress(style_of(options), stderr, cancel_requested)) {}

void Console::finish(const OrderedJson& result, std::string_view text) {
  if (options_.json) {
    write_stdout(result.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  } else {
    write_stdout(text);
  }
}

void write_stdout(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.stdout", .place = "cli", .subject = "standard output"});
  }
}

void report_error(const Error& error, bool json) {
  const ErrorDetails& details = error.details();
  if (json) {
    const OrderedJson object = {{"error",
                                 {{"code", details.code},
                                  {"kind", to_string(error.kind())},
                                  {"exit_code", error.exit_code()},
                                  {"message", error.what()},
                                  {"place", details.place},
                                  {"subject", details.subject},
                                  {"expected", details.expected},
                                  {"got", details.got},
                                  {"hint", details.hint}}}};
    const std::string text =
        object.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  std::string text = "error: " + details.subject + "\n";
  const auto row = [&](const char* name, const std::string& value) {
    if (!value.empty()) {
      text += name + value + "\n";
    }
  };
  row("  expected  ", details.expected);
  row("  got       ", details.got);
  row("  hint      ", details.hint);
  text += "  place     " + details.place + " (" + details.code + ")\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

bool cancel_requested() {
  return g_cancel_requested != 0;
}

int run_main(const std::vector<std::string>& arguments, const std::function<int()>& body) {
  install_signal_handlers();
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    return body();
  } catch (const Error& error) {
    report_error(error, json);
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    const Error error(ErrorKind::kOutOfMemory,
                      {.code = "out_of_memory", .place = "cli", .subject = "memory ran out"});
    report_error(error, json);
    return error.exit_code();
  } catch (const std::exception& exception) {
    const Error error(ErrorKind::kInternal,
                      {.code = "internal",
                       .place = "cli",
                       .subject = exception.what(),
                       .hint = "this is a bug in kinema; please report it with `kinema "
                               "doctor --full --json`"});
    report_error(error, json);
    return error.exit_code();
  }
}

}  // namespace kinema::cli
