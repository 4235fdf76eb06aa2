// SPDX-License-Identifier: Apache-2.0
// Between 8-bit pictures and what autoencoders take and give: x = 2 u / 255 - 1.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::pipeline {

/// One picture for an autoencoder: float32 [1, 3, 1, H', W'] in [-1, 1]. Height and width grow to
/// the next multiples of `multiple` by repeating the last row and column.
/// @param frame_HWC  uint8 RGB.
[[nodiscard]] Tensor pixels_from_frame(const Tensor& frame_HWC, std::int64_t multiple = 1);

/// Decoded pixels [1, 3, F, H, W] as pictures: uint8 [F, H, W, 3] on the CPU, rounded.
[[nodiscard]] Tensor to_images(const Tensor& pixels_BCFHW);
/// The same, cut at the bottom and right to height x width.
[[nodiscard]] Tensor frames_from_pixels(const Tensor& pixels_BCFHW,
                                        std::int64_t height,
                                        std::int64_t width);

/// The picture scaled (bicubic, antialiased) until it covers height x width, and cut to its centre:
/// float32 [3, height, width] in 0..255.
[[nodiscard]] Tensor cover_size(const Tensor& frame_HWC, std::int64_t height, std::int64_t width);

/// The multiple of `step` at or above `size`.
[[nodiscard]] constexpr std::int64_t round_up(std::int64_t size, std::int64_t step) noexcept {
  return (size + step - 1) / step * step;
}

}  // namespace kinema::pipeline
