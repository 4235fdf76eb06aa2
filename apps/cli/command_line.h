// SPDX-License-Identifier: Apache-2.0
// The command tree of kinema: flags, help texts, TOML configuration, shell completion. No LibTorch,
// so that parsing, --help and errors answer at once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/cli/options.h"

namespace kinema::cli {

class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Parses the arguments after the program's name; --config is merged (flags win). `-h` anywhere
  /// gives Command::kHelp. Throws kInvalidArgument [usage.*] or kBadConfig [config.*].
  [[nodiscard]] Invocation parse(std::vector<std::string> arguments);

  /// Help of `command` (names from the root down; empty: of kinema itself). Throws kInvalidArgument
  /// [usage.command].
  [[nodiscard]] std::string help(const std::vector<std::string>& command) const;

  /// A completion script for "bash" or "zsh". Throws kInvalidArgument [usage.value].
  [[nodiscard]] std::string completion(const std::string& shell) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::cli
