// SPDX-License-Identifier: Apache-2.0
// What the stages of a generation cost: memory and arithmetic from shapes alone, time from a short
// measurement of the layers that do the work, at the sizes of the request, on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/place.h"
#include "dit/vdit_config.h"
#include "pipeline/long_video.h"
#include "pipeline/model_folder.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

struct StageCost {
  std::string name;                     ///< "text", "denoise", "decode"
  double gflop = 0;                     ///< multiplications and additions, 1e9
  std::int64_t mapped_bytes = 0;        ///< weights used in place from their files
  std::int64_t working_bytes = 0;       ///< everything else that the stage allocates
  std::int64_t program_bytes = 0;       ///< resident before any stage: libraries
  std::optional<double> seconds{};      ///< once measured
  std::optional<double> cpu_seconds{};  ///< of all threads

  /// Resident memory at the stage's peak.
  [[nodiscard]] std::int64_t peak_bytes() const noexcept {
    return program_bytes + mapped_bytes + working_bytes;
  }
  [[nodiscard]] OrderedJson to_json() const;
};

/// What the costs depend on besides the model.
struct CostInput {
  LongPlan plan;
  std::int64_t latent_frames = 0;
  std::int64_t latent_height = 0;
  std::int64_t latent_width = 0;
  std::int64_t num_frames = 0;  ///< decoded
  std::int64_t steps = 0;
  bool guided = false;
  std::vector<std::int64_t> text_tokens{};  ///< of every prompt that is encoded
  std::int64_t max_length = 0;              ///< rows of the text features
  std::int64_t num_scenes = 1;
  std::int64_t program_bytes = 0;  ///< resident before any model: the program and its libraries
};

/// The config.json of a transformer. Throws kBadCheckpoint, kIo.
[[nodiscard]] dit::VDitConfig read_transformer_config(const std::string& folder);

/// Arithmetic of one forward pass in 1e9: `frames` x `positions` tokens of `batch` samples.
/// @param temporal_span  frames that a token sees in temporal attention, on average.
[[nodiscard]] double forward_gflop(const dit::VDitConfig& config,
                                   std::int64_t batch,
                                   std::int64_t frames,
                                   std::int64_t positions,
                                   double temporal_span,
                                   std::int64_t prompt_tokens);

/// Costs of the stages "text" and "denoise", without times.
[[nodiscard]] StageCost text_cost(const ModelFolder& model,
                                  const CostInput& input,
                                  const tensor::Place& place);
[[nodiscard]] StageCost denoise_cost(const ModelFolder& model,
                                     const CostInput& input,
                                     const tensor::Place& place);

/// Cost of the stage "decode", the writer's buffers included.
[[nodiscard]] StageCost decode_cost(const vae::Autoencoder& vae,
                                    const CostInput& input,
                                    const tensor::Place& place);

/// Measures for a few seconds and fills `seconds`. The layers are made anew with arbitrary weights:
/// the model itself is not read, only its share of bytes that are not in memory yet is added at the
/// measured rate of the disk.
void measure_text(StageCost& cost,
                  const ModelFolder& model,
                  const CostInput& input,
                  const tensor::Place& place);
void measure_denoise(StageCost& cost,
                     const ModelFolder& model,
                     const CostInput& input,
                     const tensor::Place& place);
/// Decodes a small picture with the model itself.
void measure_decode(StageCost& cost,
                    const ModelFolder& model,
                    const vae::Autoencoder& vae,
                    const CostInput& input,
                    const tensor::Place& place);

}  // namespace kinema::pipeline
