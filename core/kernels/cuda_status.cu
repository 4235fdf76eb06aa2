// SPDX-License-Identifier: Apache-2.0
// Says that this build holds the CUDA kernels.
#include "core/kernels/cuda_status.h"

namespace kinema::kernels {

bool cuda_built() noexcept {
  return true;
}

}  // namespace kinema::kernels
