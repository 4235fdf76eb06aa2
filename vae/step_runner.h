// SPDX-License-Identifier: Apache-2.0
// Internal: runs the steps of one clip through a codec, whole or in spatial tiles, each tile with a
// stream state of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "core/tensor/tensor.h"
#include "vae/autoencoder.h"
#include "vae/codec.h"
#include "vae/stream_state.h"

namespace kinema::vae {

class StepRunner {
 public:
  StepRunner(const Codec& codec,
             Direction direction,
             std::optional<TilingOptions> tiling,
             bool compact_state = false,
             StateMemory state_memory = {})
      : codec_(codec),
        direction_(direction),
        tiling_(std::move(tiling)),
        compact_state_(compact_state),
        state_memory_(std::move(state_memory)),
        store_(std::make_shared<StateStore>(state_memory_)) {}

  /// Moments of frames, or pixels of latents. @param fresh  forget the past first.
  [[nodiscard]] Tensor run(const Tensor& x_BCTHW, const StepContext& step, bool fresh);

  [[nodiscard]] std::int64_t state_bytes() const;

 private:
  [[nodiscard]] StreamState& state_of(std::size_t tile);
  [[nodiscard]] Tensor run_one(const Tensor& x_BCTHW, const StepContext& step, StreamState& state);

  const Codec& codec_;
  Direction direction_;
  std::optional<TilingOptions> tiling_;
  bool compact_state_;
  StateMemory state_memory_;
  std::shared_ptr<StateStore> store_;
  std::deque<StreamState> states_;  ///< one per tile
};

/// The steps of a whole clip and how their outputs join.
struct TimePlan {
  enum class Join { kConcat, kDropFirst, kMean };
  std::vector<Span> spans;
  bool fresh = false;  ///< every step starts a new state
  Join join = Join::kConcat;
};

[[nodiscard]] TimePlan plan_time(const Codec& codec,
                                 Direction direction,
                                 std::int64_t total,
                                 const std::optional<TilingOptions>& tiling,
                                 const std::optional<SegmentOptions>& segments,
                                 std::int64_t per_step);

/// Joins step outputs in time; kMean needs the last output of a step until the next one comes.
class TimeJoiner {
 public:
  explicit TimeJoiner(TimePlan::Join join) : join_(join) {}
  /// What is final after this step; may be empty (undefined).
  [[nodiscard]] Tensor add(Tensor output_BCTHW);
  [[nodiscard]] Tensor finish() { return std::move(held_); }

 private:
  TimePlan::Join join_;
  bool is_first_ = true;
  Tensor held_;
};

}  // namespace kinema::vae
