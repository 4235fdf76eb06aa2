// SPDX-License-Identifier: Apache-2.0
// The commands that need LibTorch or FFmpeg.
#pragma once

#include "apps/cli/console.h"
#include "apps/cli/options.h"

namespace kinema::engine {

/// Encodes prompts into a safetensors file.
void embed(const cli::EmbedOptions& options,
           const cli::CommonOptions& common,
           cli::Console& console);

/// Loads every library and measures what decides the speed here: matrix products and memory.
void doctor(const cli::CommonOptions& common, cli::Console& console);

}  // namespace kinema::engine
