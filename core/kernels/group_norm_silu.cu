// SPDX-License-Identifier: Apache-2.0
// Group norm and SiLU on the device: one block per sample and group reads its channels twice, first
// for the sums, then to write. The order of the sums is fixed, so results are reproducible.
#include <cstdint>

#include "core/kernels/cuda_launch.h"
#include "core/kernels/group_norm_silu.h"

namespace kinema::kernels {
namespace {

constexpr unsigned kThreads = 512;
constexpr unsigned kMaxGridY = 65535;

/// Sum over the block; every thread gets it.
__device__ double block_sum(double value, double* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    __syncthreads();
  }
  const double total = shared[0];
  __syncthreads();
  return total;
}

struct Shape {
  std::int64_t num_samples;
  std::int64_t num_positions;
  std::int64_t channels;
  std::int64_t per_group;
};

__global__ void __launch_bounds__(kThreads) normalise(float* out,
                                                      const float* x,
                                                      Shape shape,
                                                      double eps,
                                                      const float* weight,
                                                      const float* bias,
                                                      bool silu) {
  __shared__ double shared[kThreads];
  const std::int64_t first_channel = blockIdx.x * shape.per_group;
  const std::int64_t count = shape.num_positions * shape.per_group;
  for (std::int64_t sample = blockIdx.y; sample < shape.num_samples; sample += gridDim.y) {
    const std::int64_t base = sample * shape.num_positions * shape.channels + first_channel;
    const float pivot = x[base];
    double sum = 0.0;
    double square = 0.0;
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
      const double d = static_cast<double>(
          x[base + i / shape.per_group * shape.channels + i % shape.per_group] - pivot);
      sum += d;
      square += d * d;
    }
    const double mean = block_sum(sum, shared) / static_cast<double>(count);
    const double mean_square = block_sum(square, shared) / static_cast<double>(count);
    const double variance = mean_square > mean * mean ? mean_square - mean * mean : 0.0;
    const double rstd = 1.0 / sqrt(variance + eps);
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
      const std::int64_t c = first_channel + i % shape.per_group;
      const std::int64_t at = base + i / shape.per_group * shape.channels + i % shape.per_group;
      const float scale = static_cast<float>(rstd) * weight[c];
      const float shift = bias[c] - static_cast<float>(mean + pivot) * scale;
      const float v = x[at] * scale + shift;
      out[at] = silu ? v / (1.0F + expf(-v)) : v;
    }
    // out may be x: nobody may write before all have read the pivot of the next sample.
    __syncthreads();
  }
}

}  // namespace

CudaStatus group_norm_silu_cuda(float* out,
                                const float* x,
                                std::int64_t num_samples,
                                std::int64_t num_positions,
                                std::int64_t channels,
                                std::int64_t num_groups,
                                double eps,
                                const float* weight,
                                const float* bias,
                                bool silu,
                                void* stream) noexcept {
  if (num_samples <= 0 || num_positions <= 0 || num_groups <= 0) {
    return {};
  }
  const dim3 grid(static_cast<unsigned>(num_groups),
                  num_samples < kMaxGridY ? static_cast<unsigned>(num_samples) : kMaxGridY);
  const Shape shape = {num_samples, num_positions, channels, channels / num_groups};
  normalise<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      out, x, shape, eps, weight, bias, silu);
  return launch_status();
}

}  // namespace kinema::kernels
