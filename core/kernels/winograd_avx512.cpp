// SPDX-License-Identifier: Apache-2.0
// Minimal filtering for x86-64-v4, sixteen lanes. Compiled with flags of its own: nothing with
// external linkage but the table may be defined here.
#include <cstddef>
#include <cstdint>

#include "core/kernels/winograd_isa.h"

namespace kinema::kernels {
namespace {

constexpr std::int64_t kLanes = 16;
#include "core/kernels/winograd_loops.h"

void block(const WinogradConv& conv,
           const WinogradPicture* frames,
           const float* filter,
           const float* bias,
           const float* const* addends,
           float* const* out,
           std::int64_t first,
           std::int64_t count,
           std::int64_t stored,
           float* scratch) {
  run_block(conv, frames, filter, bias, addends, out, {first, count, stored}, scratch);
}

constexpr WinogradKernels kTable = {kPanel, filter_panels, block};

}  // namespace

const WinogradKernels& avx512_winograd() noexcept {
  return kTable;
}

}  // namespace kinema::kernels
