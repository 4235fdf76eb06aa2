// SPDX-License-Identifier: Apache-2.0
// Picks the table of row kernels.
#include "core/kernels/row_kernels.h"

namespace kinema::kernels {

const RowKernels& row_kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && is_supported(Isa::kAvx512)) {
    return avx512_rows();
  }
  if (isa != Isa::kBaseline && is_supported(Isa::kAvx2)) {
    return avx2_rows();
  }
#else
  static_cast<void>(isa);
#endif
  return baseline_rows();
}

}  // namespace kinema::kernels
