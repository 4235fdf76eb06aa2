// SPDX-License-Identifier: Apache-2.0
// The commands that need no engine.
#pragma once

#include "apps/cli/console.h"
#include "apps/cli/options.h"

namespace kinema::front {

/// Processor, memory, disk, libraries, cards, without loading any of them.
void doctor(cli::Console& console);

/// What a safetensors file, index, model folder, video or image is made of.
void inspect(const cli::InspectOptions& options, cli::Console& console);

}  // namespace kinema::front
