// SPDX-License-Identifier: Apache-2.0
// Conversions of bfloat16 rows on the device, by the integer steps of the CPU kernels: the
// hardware conversion would replace the payload of a NaN.
#include <cstdint>

#include "core/kernels/bf16.h"
#include "core/kernels/bf16_bits.h"
#include "core/kernels/cuda_launch.h"

namespace kinema::kernels {
namespace {

constexpr unsigned kThreads = 256;

__global__ void widen(float* out, const std::uint16_t* in, std::size_t count) {
  for (std::size_t i = (std::size_t{blockIdx.x} * blockDim.x) + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    out[i] = __uint_as_float(widen_bf16_bits(in[i]));
  }
}

__global__ void narrow(std::uint16_t* out, const float* in, std::size_t count) {
  for (std::size_t i = (std::size_t{blockIdx.x} * blockDim.x) + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    out[i] = narrow_bf16_bits(__float_as_uint(in[i]));
  }
}

unsigned grid_size(std::size_t count) {
  const std::size_t blocks = (count + kThreads - 1) / kThreads;
  return blocks < 0x7FFFFFFFU ? static_cast<unsigned>(blocks) : 0x7FFFFFFFU;
}

}  // namespace

CudaStatus widen_bf16_cuda(float* out_device,
                           const std::uint16_t* in_device,
                           std::size_t count,
                           void* stream) noexcept {
  if (count == 0) {
    return {};
  }
  widen<<<grid_size(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      out_device, in_device, count);
  return launch_status();
}

CudaStatus narrow_bf16_cuda(std::uint16_t* out_device,
                            const float* in_device,
                            std::size_t count,
                            void* stream) noexcept {
  if (count == 0) {
    return {};
  }
  narrow<<<grid_size(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      out_device, in_device, count);
  return launch_status();
}

}  // namespace kinema::kernels
