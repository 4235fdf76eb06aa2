// SPDX-License-Identifier: Apache-2.0
// Internal to the .cu files: turns the state after a launch into a CudaStatus.
#pragma once

#include <cuda_runtime_api.h>

#include "core/kernels/cuda_status.h"

namespace kinema::kernels {

/// To be called right after a launch, on the same thread.
[[nodiscard]] inline CudaStatus launch_status() noexcept {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) {
    return {};
  }
  return {CudaCode::kDeviceError, static_cast<int>(error), cudaGetErrorString(error)};
}

}  // namespace kinema::kernels
