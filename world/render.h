// SPDX-License-Identifier: Apache-2.0
// Draws a scene: signed-distance functions evaluated on the pixel grid, anti-aliased by the
// distance in pixels. Plain LibTorch, so it runs wherever a tensor can live.
#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "core/tensor/tensor.h"
#include "world/scene.h"

namespace kinema::world {

/// Frames first_frame .. first_frame + num_frames - 1 (num_frames < 0: to the end).
/// @return video_CFHW [3, F, H, W], float32 in 0..1.
[[nodiscard]] Tensor render(const Scene& scene,
                            std::int64_t first_frame = 0,
                            std::int64_t num_frames = -1,
                            c10::Device device = c10::Device(c10::kCPU));

/// Signed distance to the outline of `shape`, negative inside, for points in units of the radius
/// (x right, y down, centroid at the origin). Shapes of equal radius have equal area, 0.8 pi.
/// @param x, y any shape, float32.  @return the same shape.
[[nodiscard]] Tensor signed_distance(Shape shape, const Tensor& x, const Tensor& y);

}  // namespace kinema::world
