// SPDX-License-Identifier: Apache-2.0
// Shell completion, generated from the command tree so that it is always true.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace kinema::cli {

/// Script for "bash" or "zsh". Throws kInvalidArgument [usage.value].
[[nodiscard]] std::string completion_script(const CLI::App& root, const std::string& shell);

}  // namespace kinema::cli
