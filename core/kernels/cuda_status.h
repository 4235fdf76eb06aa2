// SPDX-License-Identifier: Apache-2.0
// What a call of a CUDA kernel says: this floor knows no exception type, callers turn it into one.
#pragma once

namespace kinema::kernels {

enum class CudaCode {
  kOk,           ///< the kernel is queued on the stream
  kNotBuilt,     ///< this build has no CUDA kernels
  kDeviceError,  ///< the launch failed; see device_error and message
};

struct [[nodiscard]] CudaStatus {
  CudaCode code = CudaCode::kOk;
  int device_error = 0;      ///< cudaError_t of the launch
  const char* message = "";  ///< static text, never null
};

/// Whether this build holds the CUDA kernels (option KINEMA_CUDA).
[[nodiscard]] bool cuda_built() noexcept;

}  // namespace kinema::kernels
