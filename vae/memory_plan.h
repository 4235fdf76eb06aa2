// SPDX-License-Identifier: Apache-2.0
// How much memory and work an encoding or decoding will take, said before anything is loaded: the
// network is walked layer by layer with sizes instead of tensors.
//
//   const MemoryPlan plan = plan_memory(config_json, {.direction = Direction::kDecode,
//                                                     .frames = 33, .rows = 720, .columns = 1280});
//   plan.peak_bytes;   // of the process
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/json.h"
#include "core/tensor/place.h"
#include "vae/autoencoder.h"

namespace kinema::vae {

/// A clip and how it is to go through the model. Fields as in EncodeOptions and DecodeOptions.
struct MemoryRequest {
  Direction direction = Direction::kDecode;
  std::int64_t frames = 1;   ///< pixel frames of the clip, a legal count
  std::int64_t rows = 0;     ///< pixels
  std::int64_t columns = 0;  ///< pixels
  std::int64_t batch = 1;
  tensor::Place place{};
  std::optional<TilingOptions> tiling{};
  std::optional<SegmentOptions> segments{};
  std::optional<std::int64_t> per_step{};  ///< frames or latents; nothing: the default
  bool compact_state = false;
  StateMemory state_memory{};
  bool holds_clip = false;   ///< all pixels are one tensor; else frames come and go with the steps
  std::int64_t threads = 0;  ///< 0: as many as LibTorch uses
};

/// Bytes and floating point operations. What is in `peak_bytes` is in memory; the caches in the
/// temporary file are not.
struct MemoryPlan {
  std::int64_t weight_bytes = 0;      ///< weights that this direction reads
  std::int64_t state_bytes = 0;       ///< caches in memory
  std::int64_t file_bytes = 0;        ///< caches in the temporary file
  std::int64_t activation_bytes = 0;  ///< the most that a step holds beside weights and caches
  std::int64_t clip_bytes = 0;        ///< latents, and pixels with holds_clip
  std::int64_t process_bytes = 0;     ///< the program and its libraries, doing nothing
  std::int64_t peak_bytes = 0;        ///< all of the above but file_bytes
  double flops = 0.0;                 ///< of the whole clip, as direct convolutions
};

/// @param config  config.json of the model.
/// Throws kBadCheckpoint [config.*, vae.config, vae.class], kInvalidArgument [vae.frames, vae.size,
/// vae.tiling, vae.segments].
[[nodiscard]] MemoryPlan plan_memory(const Json& config, const MemoryRequest& request);
/// The same for a model that is there.
[[nodiscard]] MemoryPlan plan_memory(const Autoencoder& vae, const MemoryRequest& request);

}  // namespace kinema::vae
