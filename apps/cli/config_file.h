// SPDX-License-Identifier: Apache-2.0
// --config FILE: a TOML file whose keys are the long options of a command. Keys at the top hold for
// every command, a table [embed] only for that command; flags on the command line win.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kinema::cli {

/// Finds --config in `arguments` (whose first `depth` words name the command) and inserts what the
/// file says for options that the command line does not give. A command of a group has a table of
/// both names, [vae.encode]; [vae] holds for all commands of the group. Throws kIo [io.open],
/// kBadConfig [config.syntax, config.unknown_key, config.type].
void merge_config_file(const CLI::App& command,
                       std::vector<std::string>& arguments,
                       std::ptrdiff_t depth);

}  // namespace kinema::cli
