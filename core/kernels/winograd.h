// SPDX-License-Identifier: Apache-2.0
// 3x3 convolution of channels-last pictures on the CPU with a quarter of the multiplications:
// minimal filtering F(4x4, 3x3) after Winograd (Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks", arXiv 1509.09308), here with the points 0, +-3/4, +-3/2, which keep the error
// near 1e-5 of the standard deviation of the result (direct fp32 sums: 2e-6). A kernel with several
// taps in time adds up in the same products.
//
// Work is cut into blocks of tiles of one picture position; a block is computed the same way
// whatever the number of threads or frames. Results of different instruction sets differ in
// rounding.
//
//   WinogradConv conv{.in_channels = 128, .out_channels = 128, .taps = 1, .rows = 64, .columns =
//   64}; std::vector<float> filter(winograd_filter_floats(conv)); winograd_filter(conv, weight,
//   filter.data(), 0, winograd_panels(conv)); std::vector<float>
//   scratch(winograd_scratch_floats(conv)); for (block ...) winograd_block(conv, frames,
//   filter.data(), bias, out, block, scratch.data());
#pragma once

#include <cstdint>

#include "core/kernels/isa.h"

namespace kinema::kernels {

struct WinogradConv {
  std::int64_t in_channels = 0;   ///< multiple of kWinogradChannels
  std::int64_t out_channels = 0;  ///< multiple of kWinogradChannels
  std::int64_t taps = 1;          ///< kernel size in time
  std::int64_t rows = 0;          ///< of the result; one zero row and column around the input
  std::int64_t columns = 0;
  std::int64_t num_frames = 1;  ///< of the result; the input has taps - 1 more
  /// The input has half the rows and columns, and every pixel of it stands for 2 x 2 (nearest
  /// neighbour upsampling). rows and columns are even then.
  bool doubled = false;
};

inline constexpr std::int64_t kWinogradChannels = 32;

/// An input picture [rows, columns, I]: float, or bfloat16 (the upper halves of floats).
struct WinogradPicture {
  const void* data = nullptr;
  bool is_bf16 = false;
};

/// Floats of the transformed filter.
[[nodiscard]] std::int64_t winograd_filter_floats(const WinogradConv& conv) noexcept;
/// Panels of output channels that winograd_filter() can work on one by one.
[[nodiscard]] std::int64_t winograd_panels(const WinogradConv& conv, Isa isa = best_isa()) noexcept;
/// Transforms panels first .. last - 1 of a kernel.
/// @param weight  [O, taps, 3, 3, I] in memory (a channels-last kernel).
void winograd_filter(const WinogradConv& conv,
                     const float* weight,
                     float* filter,
                     std::int64_t first,
                     std::int64_t last,
                     Isa isa = best_isa()) noexcept;

/// Blocks of tiles; each goes through all frames.
[[nodiscard]] std::int64_t winograd_blocks(const WinogradConv& conv) noexcept;
/// Scratch floats of one call of winograd_block().
[[nodiscard]] std::int64_t winograd_scratch_floats(const WinogradConv& conv) noexcept;
/// @param frames   taps - 1 + num_frames pictures [rows, columns, I].
/// @param bias     [O] or null.
/// @param addends  null, or pictures [rows, columns, O] to be added to the results.
/// @param out      num_frames pictures [rows, columns, O]; may be the addends.
void winograd_block(const WinogradConv& conv,
                    const WinogradPicture* frames,
                    const float* filter,
                    const float* bias,
                    const float* const* addends,
                    float* const* out,
                    std::int64_t block,
                    float* scratch,
                    Isa isa = best_isa()) noexcept;

namespace reference {
/// The same convolution by its definition, summed in double.
void winograd_conv(const WinogradConv& conv,
                   const WinogradPicture* frames,
                   const float* weight,
                   const float* bias,
                   float* const* out);
}  // namespace reference

}  // namespace kinema::kernels
