// SPDX-License-Identifier: Apache-2.0
// Sizes, dispatch and the plain oracle of minimal filtering.
#include "core/kernels/winograd.h"

#include <algorithm>
#include <bit>

#include "core/kernels/winograd_isa.h"

namespace kinema::kernels {
namespace {

constexpr std::int64_t kPoints = 36;
constexpr std::int64_t kTileRows = 6;
/// Tiles per block. A large filter comes from memory once per block, so it wants many tiles; with a
/// small one the block should fit the caches.
constexpr std::int64_t kMinTilesPerBlock = 24;
constexpr std::int64_t kMaxTilesPerBlock = 96;
constexpr std::int64_t kFilterPerTile = 1024;

std::int64_t num_tiles(const WinogradConv& conv) {
  return (conv.rows + 3) / 4 * ((conv.columns + 3) / 4);
}

/// Blocks of nearly equal size, at least four of them where that is not too small.
std::int64_t tiles_per_block(const WinogradConv& conv) {
  const std::int64_t tiles = num_tiles(conv);
  const std::int64_t wanted =
      std::clamp(conv.taps * conv.in_channels * conv.out_channels / kFilterPerTile,
                 kMinTilesPerBlock,
                 kMaxTilesPerBlock);
  const std::int64_t most = std::min(wanted, std::max(tiles / 4, kMinTilesPerBlock));
  const std::int64_t blocks = std::max<std::int64_t>((tiles + most - 1) / most, 1);
  const std::int64_t size = (tiles + blocks - 1) / blocks;
  return (size + kTileRows - 1) / kTileRows * kTileRows;
}

const WinogradKernels& kernels_of(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && is_supported(Isa::kAvx512)) {
    return avx512_winograd();
  }
  if (isa != Isa::kBaseline && is_supported(Isa::kAvx2)) {
    return avx2_winograd();
  }
#endif
  static_cast<void>(isa);
  return baseline_winograd();
}

}  // namespace

std::int64_t winograd_filter_floats(const WinogradConv& conv) noexcept {
  return kPoints * conv.taps * conv.in_channels * conv.out_channels;
}

std::int64_t winograd_panels(const WinogradConv& conv, Isa isa) noexcept {
  return conv.out_channels / kernels_of(isa).panel;
}

void winograd_filter(const WinogradConv& conv,
                     const float* weight,
                     float* filter,
                     std::int64_t first,
                     std::int64_t last,
                     Isa isa) noexcept {
  kernels_of(isa).filter(conv, weight, filter, first, last);
}

std::int64_t winograd_blocks(const WinogradConv& conv) noexcept {
  const std::int64_t size = tiles_per_block(conv);
  return (num_tiles(conv) + size - 1) / size;
}

std::int64_t winograd_scratch_floats(const WinogradConv& conv) noexcept {
  const std::int64_t per_tile = conv.taps * conv.in_channels + conv.out_channels;
  const std::int64_t padding = (conv.taps + 1) * kWinogradPlanePadding;
  return conv.in_channels + kPoints * (tiles_per_block(conv) * per_tile + padding);
}

void winograd_block(const WinogradConv& conv,
                    const WinogradPicture* frames,
                    const float* filter,
                    const float* bias,
                    const float* const* addends,
                    float* const* out,
                    std::int64_t block,
                    float* scratch,
                    Isa isa) noexcept {
  const std::int64_t size = tiles_per_block(conv);
  const std::int64_t first = block * size;
  const std::int64_t count = std::min(size, num_tiles(conv) - first);
  kernels_of(isa).block(conv, frames, filter, bias, addends, out, first, count, size, scratch);
}

namespace reference {
namespace {

float element(const WinogradPicture& picture, std::int64_t at) {
  if (!picture.is_bf16) {
    return static_cast<const float*>(picture.data)[at];
  }
  const std::uint32_t bits = static_cast<const std::uint16_t*>(picture.data)[at];
  return std::bit_cast<float>(bits << 16U);
}

}  // namespace

void winograd_conv(const WinogradConv& conv,
                   const WinogradPicture* frames,
                   const float* weight,
                   const float* bias,
                   float* const* out) {
  const std::int64_t in = conv.in_channels;
  const int shift = conv.doubled ? 1 : 0;
  const std::int64_t row_pixels = conv.columns >> shift;
  for (std::int64_t t = 0; t < conv.num_frames; ++t) {
    for (std::int64_t pixel = 0; pixel < conv.rows * conv.columns; ++pixel) {
      for (std::int64_t o = 0; o < conv.out_channels; ++o) {
        double sum = bias == nullptr ? 0.0 : bias[o];
        for (std::int64_t k = 0; k < conv.taps * 9; ++k) {
          const std::int64_t row = pixel / conv.columns + k % 9 / 3 - 1;
          const std::int64_t column = pixel % conv.columns + k % 3 - 1;
          if (row < 0 || row >= conv.rows || column < 0 || column >= conv.columns) {
            continue;
          }
          const std::int64_t at = ((row >> shift) * row_pixels + (column >> shift)) * in;
          const float* w = weight + (o * conv.taps * 9 + k) * in;
          for (std::int64_t c = 0; c < in; ++c) {
            sum +=
                static_cast<double>(element(frames[t + k / 9], at + c)) * static_cast<double>(w[c]);
          }
        }
        out[t][pixel * conv.out_channels + o] = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace reference

}  // namespace kinema::kernels
