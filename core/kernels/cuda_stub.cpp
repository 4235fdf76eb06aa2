// SPDX-License-Identifier: Apache-2.0
// Stands in for the .cu files in a build without CUDA: every call says so.
#include "core/kernels/bf16.h"
#include "core/kernels/cuda_status.h"
#include "core/kernels/group_norm_silu.h"
#include "core/kernels/noise.h"

namespace kinema::kernels {
namespace {

constexpr CudaStatus kNotBuilt{.code = CudaCode::kNotBuilt,
                               .device_error = 0,
                               .message = "built without CUDA kernels (KINEMA_CUDA=OFF)"};

}  // namespace

bool cuda_built() noexcept {
  return false;
}

CudaStatus fill_normal_cuda(float* /*out_device*/,
                            const NoiseRegion& /*region*/,
                            void* /*stream*/) noexcept {
  return kNotBuilt;
}

CudaStatus fill_normal_flat_cuda(float* /*out_device*/,
                                 NoiseKey /*key*/,
                                 std::uint64_t /*first*/,
                                 std::uint64_t /*count*/,
                                 void* /*stream*/) noexcept {
  return kNotBuilt;
}

CudaStatus widen_bf16_cuda(float* /*out_device*/,
                           const std::uint16_t* /*in_device*/,
                           std::size_t /*count*/,
                           void* /*stream*/) noexcept {
  return kNotBuilt;
}

CudaStatus narrow_bf16_cuda(std::uint16_t* /*out_device*/,
                            const float* /*in_device*/,
                            std::size_t /*count*/,
                            void* /*stream*/) noexcept {
  return kNotBuilt;
}

CudaStatus group_norm_silu_cuda(float* /*out*/,
                                const float* /*x*/,
                                std::int64_t /*num_samples*/,
                                std::int64_t /*num_positions*/,
                                std::int64_t /*channels*/,
                                std::int64_t /*num_groups*/,
                                double /*eps*/,
                                const float* /*weight*/,
                                const float* /*bias*/,
                                bool /*silu*/,
                                void* /*stream*/) noexcept {
  return kNotBuilt;
}

}  // namespace kinema::kernels
