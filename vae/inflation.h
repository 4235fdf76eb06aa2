// SPDX-License-Identifier: Apache-2.0
// A 2-D convolution kernel becomes a 3-D one, so that a video model starts from an image model.
// Under first-frame padding kTail makes every frame what the image model makes of it; kAverage does
// so for single images only; kCentre is one frame late.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::vae {

enum class Inflation {
  kTail,     ///< the last time tap is the 2-D kernel, the others are zero
  kCentre,   ///< the middle tap
  kAverage,  ///< every tap is the kernel / time_kernel
};

/// [O, I, kh, kw] -> [O, I, time_kernel, kh, kw].
[[nodiscard]] Tensor inflate_kernel(const Tensor& weight_OIHW,
                                    std::int64_t time_kernel,
                                    Inflation rule = Inflation::kTail);

}  // namespace kinema::vae
