// SPDX-License-Identifier: Apache-2.0
// Walks a region row by row, and the plain oracles.
#include "core/kernels/noise.h"

#include "core/kernels/noise_math.h"
#include "core/kernels/philox.h"
#include "core/kernels/row_kernels.h"

namespace kinema::kernels {
namespace {

template <class T>
void fill_region(T* out, const NoiseRegion& region, RowRange rows, DrawRow draw_row) {
  const std::uint64_t end = rows.end < count_rows(region) ? rows.end : count_rows(region);
  RowAddress address{.keys = noise_math::expand_key(region.key.low, region.key.high),
                     .counter = {}};
  for (std::uint64_t index = rows.begin; index < end; ++index) {
    const std::uint64_t row = index % region.num_rows;
    const std::uint64_t plane = index / region.num_rows;
    const std::uint64_t channel = plane % region.num_channels;
    const std::uint64_t frame = plane / region.num_channels;
    address.counter[0] = static_cast<std::uint32_t>(region.first_row + row);
    address.counter[1] = static_cast<std::uint32_t>(region.first_channel + channel);
    address.counter[2] = static_cast<std::uint32_t>(region.first_frame + frame);
    T* const start = out + (static_cast<std::int64_t>(frame) * region.frame_stride) +
                     (static_cast<std::int64_t>(channel) * region.channel_stride) +
                     (static_cast<std::int64_t>(row) * region.row_stride);
    draw_row(start, region.column_stride, address, region.first_column, region.num_columns);
  }
}

/// A flat stream is a grid of rows of 2^34 numbers: the block number's upper half is the row.
template <class T>
void fill_flat(T* out, NoiseKey key, std::uint64_t first, std::uint64_t count, DrawRow draw_row) {
  constexpr std::uint64_t kRowLength = std::uint64_t{1} << 34U;
  RowAddress address{.keys = noise_math::expand_key(key.low, key.high), .counter = {}};
  while (count > 0) {
    const std::uint64_t column = first % kRowLength;
    const std::uint64_t part = count < kRowLength - column ? count : kRowLength - column;
    address.counter[0] = static_cast<std::uint32_t>(first / kRowLength);
    draw_row(out, 1, address, column, part);
    out += part;
    first += part;
    count -= part;
  }
}

float normal_of_block(const PhiloxCounter& words, std::uint64_t column) {
  using noise_math::ScalarOps;
  const auto z = noise_math::normals<ScalarOps>({{words[0], words[1], words[2], words[3]}});
  return z.v[column % 4];
}

}  // namespace

void fill_normal(float* out, const NoiseRegion& region, RowRange rows, Isa isa) noexcept {
  fill_region(out, region, rows, row_kernels(isa).normal);
}

void fill_uniform(float* out, const NoiseRegion& region, RowRange rows, Isa isa) noexcept {
  fill_region(out, region, rows, row_kernels(isa).uniform);
}

void fill_bits(std::uint32_t* out, const NoiseRegion& region, RowRange rows, Isa isa) noexcept {
  fill_region(out, region, rows, row_kernels(isa).bits);
}

void fill_normal_flat(
    float* out, NoiseKey key, std::uint64_t first, std::uint64_t count, Isa isa) noexcept {
  fill_flat(out, key, first, count, row_kernels(isa).normal);
}

void fill_uniform_flat(
    float* out, NoiseKey key, std::uint64_t first, std::uint64_t count, Isa isa) noexcept {
  fill_flat(out, key, first, count, row_kernels(isa).uniform);
}

void fill_bits_flat(
    std::uint32_t* out, NoiseKey key, std::uint64_t first, std::uint64_t count, Isa isa) noexcept {
  fill_flat(out, key, first, count, row_kernels(isa).bits);
}

namespace reference {

std::uint32_t bits_at(NoiseKey key,
                      std::uint32_t frame,
                      std::uint32_t channel,
                      std::uint32_t row,
                      std::uint32_t column) noexcept {
  return philox4x32_10({column / 4, row, channel, frame}, {key.low, key.high})[column % 4];
}

float normal_at(NoiseKey key,
                std::uint32_t frame,
                std::uint32_t channel,
                std::uint32_t row,
                std::uint32_t column) noexcept {
  return normal_of_block(philox4x32_10({column / 4, row, channel, frame}, {key.low, key.high}),
                         column);
}

std::uint32_t bits_at(NoiseKey key, std::uint64_t index) noexcept {
  const std::uint64_t block = index / 4;
  return philox4x32_10(
      {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32U), 0, 0},
      {key.low, key.high})[index % 4];
}

float normal_at(NoiseKey key, std::uint64_t index) noexcept {
  const std::uint64_t block = index / 4;
  return normal_of_block(
      philox4x32_10(
          {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32U), 0, 0},
          {key.low, key.high}),
      index);
}

void fill_normal(float* out, const NoiseRegion& region) noexcept {
  for (std::uint32_t frame = 0; frame < region.num_frames; ++frame) {
    for (std::uint32_t channel = 0; channel < region.num_channels; ++channel) {
      for (std::uint32_t row = 0; row < region.num_rows; ++row) {
        for (std::uint32_t column = 0; column < region.num_columns; ++column) {
          out[(frame * region.frame_stride) + (channel * region.channel_stride) +
              (row * region.row_stride) + (column * region.column_stride)] =
              normal_at(region.key,
                        region.first_frame + frame,
                        region.first_channel + channel,
                        region.first_row + row,
                        region.first_column + column);
        }
      }
    }
  }
}

}  // namespace reference

}  // namespace kinema::kernels
