// SPDX-License-Identifier: Apache-2.0
// --config FILE: a TOML file whose keys are the long options of a command. Keys at the top hold for
// every command, a table [embed] only for that command; flags on the command line win.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kinema::cli {

/// Finds --config in `arguments` (the command's name first) and inserts what the file says for
/// options that the command line does not give. Throws kIo [io.open], kBadConfig [config.syntax,
/// config.unknown_key, config.type].
void merge_config_file(const CLI::App& command, std::vector<std::string>& arguments);

}  // namespace kinema::cli
