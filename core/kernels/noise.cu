// SPDX-License-Identifier: Apache-2.0
// Normal numbers on the device: noise_math.h with one lane, four numbers per thread. The bits are
// those of the CPU kernels.
#include <cstdint>

#include "core/kernels/cuda_launch.h"
#include "core/kernels/noise.h"
#include "core/kernels/noise_math.h"

namespace kinema::kernels {
namespace {

using noise_math::Floats;
using noise_math::RoundKeys;
using noise_math::ScalarOps;
using noise_math::Words;

/// Numbers 4 * block + 0..3 of a row; those in [first, end) are written.
__device__ void write_block(float* row_out,
                            std::int64_t stride,
                            const Words<ScalarOps>& counter,
                            const RoundKeys& keys,
                            std::uint64_t column,
                            std::uint64_t first,
                            std::uint64_t end) {
  const Floats<ScalarOps> z =
      noise_math::normals<ScalarOps>(noise_math::philox<ScalarOps>(counter, keys));
  if (stride == 1 && column >= first && end - column >= 4) {
    float* const to = row_out + (column - first);
    if (reinterpret_cast<std::uintptr_t>(to) % sizeof(float4) == 0) {
      *reinterpret_cast<float4*>(to) = make_float4(z.v[0], z.v[1], z.v[2], z.v[3]);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + i >= first && column + i < end) {
      row_out[static_cast<std::int64_t>(column + i - first) * stride] = z.v[i];
    }
  }
}

/// x: blocks of four columns; y: rows; z: planes (frame, channel). Each axis loops over the grid.
__global__ void normal_region(float* out, NoiseRegion region) {
  const RoundKeys keys = noise_math::expand_key(region.key.low, region.key.high);
  const std::uint64_t first = region.first_column;
  const std::uint64_t end = first + region.num_columns;
  const std::uint64_t planes = std::uint64_t{region.num_frames} * region.num_channels;
  const std::uint64_t x_step = std::uint64_t{4} * gridDim.x * blockDim.x;
  const std::uint64_t x_begin =
      (first & ~std::uint64_t{3}) +
      (std::uint64_t{4} * ((std::uint64_t{blockIdx.x} * blockDim.x) + threadIdx.x));
  for (std::uint64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
    const std::uint64_t frame = plane / region.num_channels;
    const std::uint64_t channel = plane % region.num_channels;
    for (std::uint64_t row = (std::uint64_t{blockIdx.y} * blockDim.y) + threadIdx.y;
         row < region.num_rows;
         row += std::uint64_t{gridDim.y} * blockDim.y) {
      float* const row_out = out + (static_cast<std::int64_t>(frame) * region.frame_stride) +
                             (static_cast<std::int64_t>(channel) * region.channel_stride) +
                             (static_cast<std::int64_t>(row) * region.row_stride);
      for (std::uint64_t column = x_begin; column < end; column += x_step) {
        const Words<ScalarOps> counter{{static_cast<std::uint32_t>(column / 4),
                                        static_cast<std::uint32_t>(region.first_row + row),
                                        static_cast<std::uint32_t>(region.first_channel + channel),
                                        static_cast<std::uint32_t>(region.first_frame + frame)}};
        write_block(row_out, region.column_stride, counter, keys, column, first, end);
      }
    }
  }
}

__global__ void normal_flat(float* out, NoiseKey key, std::uint64_t first, std::uint64_t count) {
  const RoundKeys keys = noise_math::expand_key(key.low, key.high);
  // Positions are counted from the first block, so that the end of the stream cannot overflow.
  const std::uint64_t lead = first % 4;
  const std::uint64_t first_block = first / 4;
  const std::uint64_t num_blocks = ((lead + count - 1) / 4) + 1;
  for (std::uint64_t i = (std::uint64_t{blockIdx.x} * blockDim.x) + threadIdx.x; i < num_blocks;
       i += std::uint64_t{gridDim.x} * blockDim.x) {
    const std::uint64_t block = first_block + i;
    const Words<ScalarOps> counter{
        {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32U), 0, 0}};
    write_block(out, 1, counter, keys, 4 * i, lead, lead + count);
  }
}

unsigned grid_size(std::uint64_t work, unsigned per_block, unsigned limit) {
  const std::uint64_t blocks = (work + per_block - 1) / per_block;
  return blocks < limit ? static_cast<unsigned>(blocks) : limit;
}

}  // namespace

CudaStatus fill_normal_cuda(float* out_device, const NoiseRegion& region, void* stream) noexcept {
  const std::uint64_t planes = std::uint64_t{region.num_frames} * region.num_channels;
  if (planes == 0 || region.num_rows == 0 || region.num_columns == 0) {
    return {};
  }
  const dim3 threads(32, 8);
  const std::uint64_t column_blocks =
      ((region.first_column % 4) + std::uint64_t{region.num_columns} + 3) / 4;
  const dim3 grid(grid_size(column_blocks, threads.x, 0x7FFFFFFFU),
                  grid_size(region.num_rows, threads.y, 0xFFFFU),
                  grid_size(planes, 1, 0xFFFFU));
  normal_region<<<grid, threads, 0, static_cast<cudaStream_t>(stream)>>>(out_device, region);
  return launch_status();
}

CudaStatus fill_normal_flat_cuda(float* out_device,
                                 NoiseKey key,
                                 std::uint64_t first,
                                 std::uint64_t count,
                                 void* stream) noexcept {
  if (count == 0) {
    return {};
  }
  constexpr unsigned kThreads = 256;
  const std::uint64_t num_blocks = (((first % 4) + count - 1) / 4) + 1;
  normal_flat<<<grid_size(num_blocks, kThreads, 0x7FFFFFFFU),
                kThreads,
                0,
                static_cast<cudaStream_t>(stream)>>>(out_device, key, first, count);
  return launch_status();
}

}  // namespace kinema::kernels
