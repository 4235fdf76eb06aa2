// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a training run: one safetensors file each, "step-000001000.safetensors", written
// atomically, so that a killed run always finds a complete one. Tensors are named
// "model.NAME", "ema.NAME", "optimizer.NAME.MOMENT" and "task.NAME"; the metadata holds format,
// step and the run's configuration. Random numbers have addresses (core/tensor/noise.h), so the
// step is the whole state of the noise and of the data order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::train {

inline constexpr std::string_view kCheckpointFormat = "kinema.train/1";

struct Checkpoint {
  std::int64_t step = 0;  ///< steps that are finished
  OrderedJson config;     ///< what the run was started with
  TensorMap tensors;

  /// Tensors whose name starts with `prefix`, without it.
  [[nodiscard]] TensorMap part(std::string_view prefix) const;
  void add(std::string_view prefix, const TensorMap& part);
};

/// Writes into `folder` (made if missing) and removes all but the newest `keep` files.
/// Throws kOutput, kDiskFull.
void save_checkpoint(const std::string& folder, const Checkpoint& checkpoint, std::int64_t keep);

/// Path of the newest checkpoint in `folder`; nothing if there is none.
[[nodiscard]] std::optional<std::string> latest_checkpoint(const std::string& folder);

/// Throws kIo [io.open], kBadCheckpoint [train.checkpoint, safetensors.*].
[[nodiscard]] Checkpoint load_checkpoint(const std::string& path);

}  // namespace kinema::train
