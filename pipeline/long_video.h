// SPDX-License-Identifier: Apache-2.0
// How a video longer than the model was trained on is put together, in latent frames. Pure
// planning.
//
//   exact      the network sees the whole video at once
//   fused      overlapping windows; their predictions of a frame are averaged at every step
//              (arXiv 2302.08113, 2305.18264)
//   freenoise  one pass over the video whose temporal attention looks through windows, and noise
//              that repeats from window to window (arXiv 2310.15169)
//   fifo       a queue of frames at rising noise levels: frames leave one by one, in constant
//              memory (arXiv 2405.11473)
//
// A video that fits one window is made as by exact, to the last bit, whatever the mode.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/diffusion/windows.h"

namespace kinema::pipeline {

enum class LongMode { kExact, kFused, kFreeNoise, kFifo };
[[nodiscard]] std::string_view to_string(LongMode mode) noexcept;
/// Throws kInvalidArgument [request.long] that lists the names.
[[nodiscard]] LongMode parse_long_mode(std::string_view name);

struct LongPlan {
  LongMode mode = LongMode::kExact;
  std::int64_t window = 0;  ///< latent frames; that of the video for exact
  std::int64_t stride = 0;  ///< fused: half a window, freenoise: a quarter, at least 1
  std::vector<diffusion::Window> windows;  ///< one for exact; of temporal attention for freenoise
  std::int64_t fifo_partitions = 0;
  bool fifo_look_ahead = false;  ///< for windows of an even length
};

/// @param window  latent frames that the network sees at once; 0: all.
/// @param steps   of the sampler; with fifo a multiple of the window, which gives the partitions.
/// Throws kInvalidArgument [request.steps] with the nearest legal numbers of steps.
[[nodiscard]] LongPlan plan_long_video(LongMode mode,
                                       std::int64_t latent_frames,
                                       std::int64_t window,
                                       std::int64_t steps);

/// Network passes over a window (over the video, for exact and freenoise) that sampling makes, each
/// counted once however many prompts it carries.
[[nodiscard]] std::int64_t window_passes(const LongPlan& plan,
                                         std::int64_t latent_frames,
                                         std::int64_t steps);

}  // namespace kinema::pipeline
