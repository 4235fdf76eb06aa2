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

/// Makes a video, with a journal beside the output until it is complete.
void generate(const cli::GenerateOptions& options,
              const cli::CommonOptions& common,
              cli::Console& console);
/// Goes on with the journal of an output.
void resume(const cli::ResumeOptions& options,
            const cli::CommonOptions& common,
            cli::Console& console);
/// Makes a video again from the provenance in a file.
void rerun(const cli::RerunOptions& options,
           const cli::CommonOptions& common,
           cli::Console& console);

/// Loads every library and measures what decides the speed here: matrix products and memory.
void doctor(const cli::CommonOptions& common, cli::Console& console);

}  // namespace kinema::engine
