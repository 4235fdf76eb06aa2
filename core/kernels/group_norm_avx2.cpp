// SPDX-License-Identifier: Apache-2.0
// Group norm for x86-64-v3, eight lanes. Compiled with flags of its own: nothing with external
// linkage but the table may be defined here.
#include <cstddef>
#include <cstdint>

#include "core/kernels/group_norm_isa.h"

namespace kinema::kernels {
namespace {

constexpr std::int64_t kLanes = 8;
#include "core/kernels/group_norm_loops.h"

constexpr GroupNormKernels kTable = {sums, apply};

}  // namespace

const GroupNormKernels& avx2_group_norm() noexcept {
  return kTable;
}

}  // namespace kinema::kernels
