// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/common_flags.h"

#include <string>

#include <CLI/CLI.hpp>

namespace kinema::cli {

void add_common_flags(CLI::App& command, CommonOptions& options, bool engine) {
  const std::string group = "Common options";
  command
      .add_flag("--json", options.json, "Print one JSON object on stdout and nothing else there")
      ->group(group);
  command
      .add_flag("--json-progress", options.json_progress, "Print progress as JSON lines on stderr")
      ->group(group);
  command.add_flag("-q,--quiet", options.quiet, "Errors only")->group(group);
  command.add_flag("-v,--verbose", options.verbose, "Say more")->group(group);
  command
      .add_option("--config",
                  options.config,
                  "TOML file with the same names as the long options; flags win")
      ->option_text("FILE")
      ->group(group);
  if (engine) {
    command.add_option("--device", options.device, "auto, cpu or cuda:N")
        ->option_text("NAME")
        ->group(group);
    command.add_option("--dtype", options.dtype, "auto (the fastest here), fp32 or bf16")
        ->option_text("NAME")
        ->group(group);
    command.add_option("--threads", options.threads, "CPU threads; 0: all cores")
        ->option_text("N")
        ->group(group);
  }
}

}  // namespace kinema::cli
