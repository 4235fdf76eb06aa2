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

/// `kinema vae`: a clip there and back, with numbers; the paper's segments against the exact
/// stream.
void vae_roundtrip(const cli::VaeRoundtripOptions& options,
                   const cli::CommonOptions& common,
                   cli::Console& console);
void vae_seam(const cli::VaeSeamOptions& options,
              const cli::CommonOptions& common,
              cli::Console& console);
/// Videos and pictures into latent files, and a latent file into a video.
void vae_encode(const cli::VaeEncodeOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console);
void vae_decode(const cli::VaeDecodeOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console);

/// `kinema world`: scenes of the synthetic world as a video, a picture, a data set.
void world_render(const cli::WorldRenderOptions& options,
                  const cli::CommonOptions& common,
                  cli::Console& console);
void world_show(const cli::WorldShowOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console);
void world_export(const cli::WorldExportOptions& options,
                  const cli::CommonOptions& common,
                  cli::Console& console);
/// Judges a model of the synthetic world.
void eval_world(const cli::EvalWorldOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console);

/// Public checkpoints into a model folder.
void convert(const cli::ConvertOptions& options, cli::Console& console);

/// Trains a video autoencoder.
void train_vae(const cli::TrainVaeOptions& options,
               const cli::CommonOptions& common,
               cli::Console& console);

/// Trains a video transformer with its text encoder.
void train_dit(const cli::TrainDitOptions& options,
               const cli::CommonOptions& common,
               cli::Console& console);

/// Writes captions of the training clips, one a line.
void train_captions(const cli::TrainCaptionsOptions& options, cli::Console& console);

/// Loads every library and measures what decides the speed here: matrix products and memory.
void doctor(const cli::CommonOptions& common, cli::Console& console);

}  // namespace kinema::engine
