// SPDX-License-Identifier: Apache-2.0
// Rows of bfloat16 (the upper half of a float32) to float32 and back, on uint16 storage.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/cuda_status.h"
#include "core/kernels/isa.h"

namespace kinema::kernels {

/// Exact. Ranges must not overlap.
void widen_bf16(float* out,
                const std::uint16_t* in,
                std::size_t count,
                Isa isa = best_isa()) noexcept;

/// Round to nearest, ties to even; too large becomes infinite, subnormals are kept. A NaN keeps its
/// sign and the upper payload bits, so narrow(widen(x)) == x for every x; a NaN whose upper payload
/// is zero becomes a quiet NaN. Ranges must not overlap.
void narrow_bf16(std::uint16_t* out,
                 const float* in,
                 std::size_t count,
                 Isa isa = best_isa()) noexcept;

/// The same on the device behind the pointers. `stream` is a cudaStream_t.
CudaStatus widen_bf16_cuda(float* out_device,
                           const std::uint16_t* in_device,
                           std::size_t count,
                           void* stream) noexcept;
CudaStatus narrow_bf16_cuda(std::uint16_t* out_device,
                            const float* in_device,
                            std::size_t count,
                            void* stream) noexcept;

namespace reference {
[[nodiscard]] float widen_bf16(std::uint16_t value) noexcept;
/// By cases on the number itself, in double: an oracle that shares no step with the kernels.
[[nodiscard]] std::uint16_t narrow_bf16(float value) noexcept;
}  // namespace reference

}  // namespace kinema::kernels
