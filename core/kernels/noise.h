// SPDX-License-Identifier: Apache-2.0
// Random numbers with an address: a number is a function of (seed, stream name, frame, channel,
// row, column), or of (seed, stream name, index), and of nothing else. Batch, window, tile, thread,
// instruction set and device do not change a bit of it.
//
// Address: the 64-bit Philox key comes from seed, name and use (noise_key); the counter is
// {column / 4, row, channel, frame} and its four words serve columns 4k .. 4k + 3. A flat index i
// has the counter {low and high half of i / 4, 0, 0} under a key of its own.
//
//   NoiseRegion region{.key = noise_key(seed, "latents", Draw::kNormal, Addressing::kGrid), ...};
//   fill_normal(out, region);
#pragma once

#include <cstdint>
#include <string_view>

#include "core/kernels/cuda_status.h"
#include "core/kernels/isa.h"

namespace kinema::kernels {

/// What is drawn. A part of the key: two uses of one stream name do not share random words.
enum class Draw : std::uint32_t { kNormal = 1, kUniform = 2, kBits = 3 };
/// How numbers are addressed. A part of the key as well.
enum class Addressing : std::uint32_t { kGrid = 1, kFlat = 2 };

struct NoiseKey {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  bool operator==(const NoiseKey&) const = default;
};

/// SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014; constants: Stafford's variant 13).
/// A bijection of 64-bit words.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t word) noexcept {
  word = (word ^ (word >> 30U)) * 0xBF58476D1CE4E5B9U;
  word = (word ^ (word >> 27U)) * 0x94D049BB133111EBU;
  return word ^ (word >> 31U);
}

/// 64-bit FNV-1a of the bytes of `name`.
[[nodiscard]] constexpr std::uint64_t stream_hash(std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char byte : name) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3U;
  }
  return hash;
}

/// Key = mix64(mix64(seed + g) + mix64(stream_hash(name) + g * (16 * draw + addressing))) with
/// g = 0x9E3779B97F4A7C15. For one stream, different seeds never share a key.
[[nodiscard]] constexpr NoiseKey noise_key(std::uint64_t seed,
                                           std::string_view name,
                                           Draw draw,
                                           Addressing addressing) noexcept {
  constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;
  const std::uint64_t use =
      (static_cast<std::uint64_t>(draw) * 16U) + static_cast<std::uint64_t>(addressing);
  const std::uint64_t key =
      mix64(mix64(seed + kGolden) + mix64(stream_hash(name) + (kGolden * use)));
  return {.low = static_cast<std::uint32_t>(key), .high = static_cast<std::uint32_t>(key >> 32U)};
}

/// A box of the grid and where its numbers go. first + num must not exceed 2^32 on any axis.
/// Strides are in elements of the output and may be negative; `out` points at the first number.
struct NoiseRegion {
  NoiseKey key{};
  std::uint32_t first_frame = 0;
  std::uint32_t first_channel = 0;
  std::uint32_t first_row = 0;
  std::uint32_t first_column = 0;
  std::uint32_t num_frames = 0;
  std::uint32_t num_channels = 0;
  std::uint32_t num_rows = 0;
  std::uint32_t num_columns = 0;
  std::int64_t frame_stride = 0;
  std::int64_t channel_stride = 0;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;
};

/// Part of a region's rows, so that callers can split it over threads. A row is one (frame,
/// channel, row); rows are counted with the frame outermost. `end` is cut to the number of rows.
struct RowRange {
  std::uint64_t begin = 0;
  std::uint64_t end = UINT64_MAX;
};

/// num_frames * num_channels * num_rows; must be below 2^64.
[[nodiscard]] constexpr std::uint64_t count_rows(const NoiseRegion& region) noexcept {
  return std::uint64_t{region.num_frames} * region.num_channels * region.num_rows;
}

/// Standard normal float32, |z| <= 6.77, relative error below 1e-6. Nothing is spawned or
/// allocated. An `isa` that this CPU lacks runs the best one that it has, with the same bits.
void fill_normal(float* out,
                 const NoiseRegion& region,
                 RowRange rows = {},
                 Isa isa = best_isa()) noexcept;
/// Uniform float32 in [0, 1), multiples of 2^-24.
void fill_uniform(float* out,
                  const NoiseRegion& region,
                  RowRange rows = {},
                  Isa isa = best_isa()) noexcept;
/// Uniform 32-bit words.
void fill_bits(std::uint32_t* out,
               const NoiseRegion& region,
               RowRange rows = {},
               Isa isa = best_isa()) noexcept;

/// Numbers first .. first + count - 1 of a flat stream, contiguous. first + count <= 2^64.
void fill_normal_flat(float* out,
                      NoiseKey key,
                      std::uint64_t first,
                      std::uint64_t count,
                      Isa isa = best_isa()) noexcept;
void fill_uniform_flat(float* out,
                       NoiseKey key,
                       std::uint64_t first,
                       std::uint64_t count,
                       Isa isa = best_isa()) noexcept;
void fill_bits_flat(std::uint32_t* out,
                    NoiseKey key,
                    std::uint64_t first,
                    std::uint64_t count,
                    Isa isa = best_isa()) noexcept;

/// The same numbers, written by the device behind `out_device`. `stream` is a cudaStream_t; the
/// call returns when the kernel is queued. kNotBuilt in a build without CUDA.
CudaStatus fill_normal_cuda(float* out_device, const NoiseRegion& region, void* stream) noexcept;
CudaStatus fill_normal_flat_cuda(float* out_device,
                                 NoiseKey key,
                                 std::uint64_t first,
                                 std::uint64_t count,
                                 void* stream) noexcept;

/// Number by number, in plain code: the oracles of the functions above.
namespace reference {
[[nodiscard]] std::uint32_t bits_at(NoiseKey key,
                                    std::uint32_t frame,
                                    std::uint32_t channel,
                                    std::uint32_t row,
                                    std::uint32_t column) noexcept;
[[nodiscard]] float normal_at(NoiseKey key,
                              std::uint32_t frame,
                              std::uint32_t channel,
                              std::uint32_t row,
                              std::uint32_t column) noexcept;
[[nodiscard]] std::uint32_t bits_at(NoiseKey key, std::uint64_t index) noexcept;
[[nodiscard]] float normal_at(NoiseKey key, std::uint64_t index) noexcept;
void fill_normal(float* out, const NoiseRegion& region) noexcept;
}  // namespace reference

}  // namespace kinema::kernels
