// SPDX-License-Identifier: Apache-2.0
#include "pipeline/long_video.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace kinema::pipeline {

std::string_view to_string(LongMode mode) noexcept {
  switch (mode) {
    case LongMode::kFused:
      return "fused";
    case LongMode::kFreeNoise:
      return "freenoise";
    case LongMode::kFifo:
      return "fifo";
    case LongMode::kExact:
      break;
  }
  return "exact";
}

LongMode parse_long_mode(std::string_view name) {
  for (const LongMode mode :
       {LongMode::kExact, LongMode::kFused, LongMode::kFreeNoise, LongMode::kFifo}) {
    if (name == to_string(mode)) {
      return mode;
    }
  }
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "request.long",
               .place = "pipeline.request",
               .subject = "--long",
               .expected = "exact, fused, freenoise or fifo",
               .got = "'" + std::string(name) + "'"});
}

LongPlan plan_long_video(LongMode mode,
                         std::int64_t latent_frames,
                         std::int64_t window,
                         std::int64_t steps) {
  LongPlan plan;
  plan.mode = mode;
  const bool fits = window == 0 || latent_frames <= window;
  if (mode == LongMode::kExact || fits) {
    plan.mode = LongMode::kExact;
    plan.window = latent_frames;
    plan.stride = latent_frames;
    plan.windows = diffusion::plan_windows(latent_frames, latent_frames, latent_frames);
    return plan;
  }
  plan.window = window;
  if (mode == LongMode::kFifo) {
    if (steps % window != 0) {
      const std::int64_t below = steps / window * window;
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "request.steps",
                   .place = "pipeline.request",
                   .subject = "--steps with --long fifo",
                   .expected = "a multiple of the " + std::to_string(window) +
                               " latent frames of a window, for example " +
                               (below > 0 ? std::to_string(below) + " or " : "") +
                               std::to_string(below + window),
                   .got = std::to_string(steps)});
    }
    plan.fifo_partitions = steps / window;
    plan.fifo_look_ahead = window % 2 == 0;
    plan.stride = plan.fifo_look_ahead ? window / 2 : window;
    return plan;
  }
  plan.stride = std::max<std::int64_t>(1, window / (mode == LongMode::kFused ? 2 : 4));
  plan.windows = diffusion::plan_windows(latent_frames, window, plan.stride);
  return plan;
}

std::int64_t window_passes(const LongPlan& plan, std::int64_t latent_frames, std::int64_t steps) {
  switch (plan.mode) {
    case LongMode::kFused:
      return steps * static_cast<std::int64_t>(plan.windows.size());
    case LongMode::kFifo: {
      // A clip of one window first; then every iteration looks at the whole queue.
      const std::int64_t iterations = steps - plan.window + latent_frames;
      return steps + iterations * (steps / plan.stride);
    }
    default:
      return steps;
  }
}

}  // namespace kinema::pipeline
