// SPDX-License-Identifier: Apache-2.0
// Noise tensors whose numbers depend on their address alone (see core/kernels/noise.h): a window of
// a longer video is the crop of the whole, whatever the batch, tile, thread count or device. Always
// drawn in float32; LibTorch's global generator is never touched.
//
//   const Tensor latents_CTHW = normal_noise({.seed = 7, .name = "latents"},
//                                            {.channels = 16, .frames = 21, .height = 60, .width =
//                                            104});
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <c10/core/Device.h>
#include <c10/util/ArrayRef.h>

#include "core/tensor/tensor.h"

namespace kinema::tensor {

/// A source of noise. One name, one purpose: "latents", "latents/window", "dropout", ...
struct NoiseStream {
  std::uint64_t seed = 0;
  std::string_view name;
};

/// How many numbers on each axis of the grid; 0 gives an empty tensor.
struct NoiseSize {
  std::int64_t channels = 0;
  std::int64_t frames = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

/// Address of the first number; first + size may reach 2^32 on each axis.
struct NoiseWindow {
  std::int64_t first_channel = 0;
  std::int64_t first_frame = 0;
  std::int64_t first_row = 0;
  std::int64_t first_column = 0;
};

/// Standard normal float32 [C, T, H, W], drawn on the CPU by LibTorch's number of threads, then
/// moved to `device`. Throws kInvalidArgument [noise.size] for negative or too large sizes.
[[nodiscard]] Tensor normal_noise(const NoiseStream& stream,
                                  const NoiseSize& size,
                                  const NoiseWindow& window = {},
                                  c10::Device device = c10::Device(c10::kCPU));

/// The same for a batch, one stream per sample: [B, C, T, H, W].
[[nodiscard]] Tensor normal_noise(std::span<const NoiseStream> streams,
                                  const NoiseSize& size,
                                  const NoiseWindow& window = {},
                                  c10::Device device = c10::Device(c10::kCPU));

/// The same bits as normal_noise(), drawn by a GPU into its own memory. Throws kUnsupported
/// [cuda.not_built] in a build without CUDA kernels, [cuda.device] if `device` is not a GPU.
[[nodiscard]] Tensor normal_noise_on_device(const NoiseStream& stream,
                                            const NoiseSize& size,
                                            const NoiseWindow& window,
                                            c10::Device device);

/// Standard normal float32 of shape `sizes`: numbers first, first + 1, ... of a flat stream in
/// row-major order. A tensor drawn in parts equals the tensor drawn at once.
[[nodiscard]] Tensor normal_noise_flat(const NoiseStream& stream,
                                       c10::IntArrayRef sizes,
                                       std::uint64_t first = 0,
                                       c10::Device device = c10::Device(c10::kCPU));

/// Uniform float32 in [0, 1), for masks and timesteps; addressed like normal_noise_flat() but
/// independent of it.
[[nodiscard]] Tensor uniform_noise_flat(const NoiseStream& stream,
                                        c10::IntArrayRef sizes,
                                        std::uint64_t first = 0,
                                        c10::Device device = c10::Device(c10::kCPU));

}  // namespace kinema::tensor
