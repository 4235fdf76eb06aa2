// SPDX-License-Identifier: Apache-2.0
// The rows of token_rows.h on the device: a block for each row or position, warps for heads.
// Arithmetic is float32; storage is float32 or bfloat16.
#include <cstddef>
#include <cstdint>

#include "core/kernels/bf16_bits.h"
#include "core/kernels/cuda_launch.h"
#include "core/kernels/token_rows.h"

namespace kinema::kernels {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarp = 32;
constexpr std::int64_t kMaxBlocks = 0x7FFFFFFF;

__device__ float load(const float* from, std::int64_t i) {
  return from[i];
}
__device__ float load(const std::uint16_t* from, std::int64_t i) {
  return __uint_as_float(widen_bf16_bits(from[i]));
}
__device__ void store(float* to, std::int64_t i, float value) {
  to[i] = value;
}
__device__ void store(std::uint16_t* to, std::int64_t i, float value) {
  to[i] = narrow_bf16_bits(__float_as_uint(value));
}

__device__ float warp_sum(float value) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, static_cast<int>(step));
  }
  return value;
}

/// Sum over the block, in every thread.
__device__ float block_sum(float value) {
  __shared__ float parts[kThreads / kWarp];
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) {
    parts[threadIdx.x / kWarp] = value;
  }
  __syncthreads();
  float total = 0.0F;
  for (unsigned i = 0; i < kThreads / kWarp; ++i) {
    total += parts[i];
  }
  return total;
}

__device__ std::int64_t vector_of(const GroupVectors& vectors, std::int64_t outer) {
  return (vectors.first_outer + outer) / vectors.outer_per_vector * vectors.stride;
}

template <typename T>
__global__ void modulate(ModulateRows<T> work) {
  for (std::int64_t row = blockIdx.x; row < work.slab.outer * work.slab.inner; row += gridDim.x) {
    const std::int64_t outer = row / work.slab.inner;
    const T* x = work.x + outer * work.x_stride + row % work.slab.inner * work.width;
    const std::int64_t vector = vector_of(work.vectors, outer);
    float sum = 0.0F;
    for (std::int64_t i = threadIdx.x; i < work.width; i += kThreads) {
      sum += load(x, i);
    }
    const float mean = block_sum(sum) / static_cast<float>(work.width);
    float squares = 0.0F;
    for (std::int64_t i = threadIdx.x; i < work.width; i += kThreads) {
      const float d = load(x, i) - mean;
      squares += d * d;
    }
    const float variance = block_sum(squares) / static_cast<float>(work.width);
    const float factor = 1.0F / sqrtf(variance + work.eps);
    for (std::int64_t i = threadIdx.x; i < work.width; i += kThreads) {
      const float normed = (load(x, i) - mean) * factor;
      store(work.out,
            row * work.width + i,
            normed * (1.0F + load(work.scale, vector + i)) + load(work.shift, vector + i));
    }
  }
}

template <typename T>
__global__ void add_gated(AddGatedRows<T> work) {
  const std::int64_t count = work.slab.outer * work.slab.inner * work.width;
  for (std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; at < count;
       at += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = at / work.width;
    const std::int64_t i = at % work.width;
    const std::int64_t outer = row / work.slab.inner;
    const std::int64_t to = outer * work.x_stride + row % work.slab.inner * work.width + i;
    const float gate =
        work.gate == nullptr ? 1.0F : load(work.gate, vector_of(work.vectors, outer) + i);
    store(work.x, to, load(work.x, to) + gate * load(work.y, at));
  }
}

/// A warp takes one head of the queries or keys of one row. Pairs stay within a lane.
template <typename T>
__global__ void norm_rotate(NormRotateRows<T> work) {
  const std::int64_t pairs = work.head_width / 2;
  const std::int64_t count = work.rows * 2 * work.heads;
  const unsigned lane = threadIdx.x % kWarp;
  const std::int64_t warps = std::int64_t{gridDim.x} * (kThreads / kWarp);
  for (std::int64_t item = std::int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
       item < count;
       item += warps) {
    const std::int64_t row = item / (2 * work.heads);
    const std::int64_t part = item / work.heads % 2;
    T* head = work.qkv + ((row * 3 + part) * work.heads + item % work.heads) * work.head_width;
    const T* weight = part == 0 ? work.query_weight : work.key_weight;
    const std::int64_t position = row / work.rows_per_position % work.num_positions;
    // A rotation keeps the sum of squares, so it may be taken before either order.
    float squares = 0.0F;
    for (std::int64_t i = lane; i < work.head_width; i += kWarp) {
      squares += load(head, i) * load(head, i);
    }
    squares = warp_sum(squares);
    const float factor =
        weight == nullptr ? 1.0F
                          : 1.0F / sqrtf(squares / static_cast<float>(work.head_width) + work.eps);
    const auto weight_of = [&](std::int64_t i) {
      return weight == nullptr ? 1.0F : factor * load(weight, i);
    };
    for (std::int64_t j = lane; j < pairs; j += kWarp) {
      const float c = work.cosine == nullptr ? 1.0F : work.cosine[position * pairs + j];
      const float s = work.cosine == nullptr ? 0.0F : work.sine[position * pairs + j];
      const float before_a = work.rotate_first ? 1.0F : weight_of(2 * j);
      const float before_b = work.rotate_first ? 1.0F : weight_of(2 * j + 1);
      const float a = load(head, 2 * j) * before_a;
      const float b = load(head, 2 * j + 1) * before_b;
      const float after_a = work.rotate_first ? weight_of(2 * j) : 1.0F;
      const float after_b = work.rotate_first ? weight_of(2 * j + 1) : 1.0F;
      store(head, 2 * j, (a * c - b * s) * after_a);
      store(head, 2 * j + 1, (b * c + a * s) * after_b);
    }
    // An odd last channel is normalised only.
    if (work.head_width % 2 == 1 && lane == 0) {
      const std::int64_t last = work.head_width - 1;
      store(head, last, load(head, last) * weight_of(last));
    }
  }
}

/// A warp takes one query: logits of up to kMaxFrameAttention frames in shared memory.
template <typename T>
__global__ void attend(FrameAttention<T> work) {
  __shared__ float logits[kThreads / kWarp][kMaxFrameAttention];
  const unsigned lane = threadIdx.x % kWarp;
  float* mine = logits[threadIdx.x / kWarp];
  const std::int64_t out_row = work.heads * work.head_width;
  const std::int64_t row = 3 * out_row;
  const std::int64_t count = work.batch * work.frames * work.positions * work.heads;
  const std::int64_t warps = std::int64_t{gridDim.x} * (kThreads / kWarp);
  for (std::int64_t item = std::int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
       item < count;
       item += warps) {
    const std::int64_t head = item % work.heads;
    const std::int64_t token = item / work.heads;
    const std::int64_t position = token % work.positions;
    const std::int64_t sample = token / (work.positions * work.frames);
    const std::int64_t first = sample * work.frames * work.positions + position;
    const T* query = work.qkv + token * row + head * work.head_width;
    const T* keys = work.qkv + first * row + out_row + head * work.head_width;
    const T* values = keys + out_row;
    float largest = -INFINITY;
    for (std::int64_t t = lane; t < work.frames; t += kWarp) {
      float logit = 0.0F;
      for (std::int64_t k = 0; k < work.head_width; ++k) {
        logit += load(query, k) * load(keys, t * work.positions * row + k);
      }
      mine[t] = logit * work.scale;
      largest = fmaxf(largest, mine[t]);
    }
    for (unsigned step = kWarp / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, static_cast<int>(step)));
    }
    float total = 0.0F;
    for (std::int64_t t = lane; t < work.frames; t += kWarp) {
      mine[t] = expf(mine[t] - largest);
      total += mine[t];
    }
    total = warp_sum(total);
    __syncwarp();
    for (std::int64_t k = lane; k < work.head_width; k += kWarp) {
      float sum = 0.0F;
      for (std::int64_t t = 0; t < work.frames; ++t) {
        sum += mine[t] * load(values, t * work.positions * row + k);
      }
      store(work.out, token * out_row + head * work.head_width + k, sum / total);
    }
    __syncwarp();
  }
}

unsigned blocks_for(std::int64_t units, std::int64_t units_per_block) {
  const std::int64_t blocks = (units + units_per_block - 1) / units_per_block;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

cudaStream_t stream_of(void* stream) {
  return static_cast<cudaStream_t>(stream);
}

}  // namespace

template <typename T>
CudaStatus modulate_rows_cuda(const ModulateRows<T>& work, void* stream) noexcept {
  const std::int64_t rows = work.slab.rows();
  if (rows == 0) {
    return {};
  }
  modulate<T><<<blocks_for(rows, 1), kThreads, 0, stream_of(stream)>>>(work);
  return launch_status();
}

template <typename T>
CudaStatus add_gated_rows_cuda(const AddGatedRows<T>& work, void* stream) noexcept {
  const std::int64_t count = work.slab.rows() * work.width;
  if (count == 0) {
    return {};
  }
  add_gated<T><<<blocks_for(count, kThreads), kThreads, 0, stream_of(stream)>>>(work);
  return launch_status();
}

template <typename T>
CudaStatus norm_rotate_rows_cuda(const NormRotateRows<T>& work, void* stream) noexcept {
  const std::int64_t count = work.rows * 2 * work.heads;
  if (count == 0) {
    return {};
  }
  norm_rotate<T><<<blocks_for(count, kThreads / kWarp), kThreads, 0, stream_of(stream)>>>(work);
  return launch_status();
}

template <typename T>
CudaStatus attend_frames_cuda(const FrameAttention<T>& work, void* stream) noexcept {
  const std::int64_t count = work.batch * work.frames * work.positions * work.heads;
  if (count == 0) {
    return {};
  }
  attend<T><<<blocks_for(count, kThreads / kWarp), kThreads, 0, stream_of(stream)>>>(work);
  return launch_status();
}

template CudaStatus modulate_rows_cuda(const ModulateRows<float>&, void*) noexcept;
template CudaStatus modulate_rows_cuda(const ModulateRows<std::uint16_t>&, void*) noexcept;
template CudaStatus add_gated_rows_cuda(const AddGatedRows<float>&, void*) noexcept;
template CudaStatus add_gated_rows_cuda(const AddGatedRows<std::uint16_t>&, void*) noexcept;
template CudaStatus norm_rotate_rows_cuda(const NormRotateRows<float>&, void*) noexcept;
template CudaStatus norm_rotate_rows_cuda(const NormRotateRows<std::uint16_t>&, void*) noexcept;
template CudaStatus attend_frames_cuda(const FrameAttention<float>&, void*) noexcept;
template CudaStatus attend_frames_cuda(const FrameAttention<std::uint16_t>&, void*) noexcept;

}  // namespace kinema::kernels
