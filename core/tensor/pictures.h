// SPDX-License-Identifier: Apache-2.0
// Videos as bytes and as pictures for the eye.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/io/image.h"
#include "core/tensor/tensor.h"

namespace kinema::tensor {

/// @param video_CFHW [3, F, H, W], floating point in 0..1 (clamped).
/// @return frames_FHWC [F, H, W, 3], uint8 on the CPU, rounded to nearest.
[[nodiscard]] Tensor to_bytes(const Tensor& video_CFHW);

/// One row per video, `columns` frames of it at equal distances of time, with thin gaps.
/// @param videos_CFHW each [3, F, H, W] in 0..1, of one height and width.
[[nodiscard]] io::Image contact_sheet(const std::vector<Tensor>& videos_CFHW, std::int64_t columns);

}  // namespace kinema::tensor
