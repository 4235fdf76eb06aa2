// SPDX-License-Identifier: Apache-2.0
// Flags that many commands share, declared once.
#pragma once

#include "apps/cli/options.h"

namespace CLI {
class App;
}

namespace kinema::cli {

/// --json, -q, --config and the like; with `engine` also --device, --dtype, --threads.
void add_common_flags(CLI::App& command, CommonOptions& options, bool engine);

/// The group `kinema vae` and its commands; what was chosen goes to `invocation`.
void add_vae_commands(CLI::App& root, Invocation& invocation);

void add_convert_command(CLI::App& root, Invocation& invocation);

/// The groups `kinema world` and `kinema eval`.
void add_world_commands(CLI::App& root, Invocation& invocation);

/// The group `kinema train`.
void add_train_commands(CLI::App& root, Invocation& invocation);

}  // namespace kinema::cli
