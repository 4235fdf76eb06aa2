// SPDX-License-Identifier: Apache-2.0
// Internal: the table of functions that every instruction set provides for winograd.h.
#pragma once

#include <cstdint>

#include "core/kernels/isa.h"
#include "core/kernels/winograd.h"

namespace kinema::kernels {

/// Floats between the points of a block in scratch memory, beyond their size.
inline constexpr std::int64_t kWinogradPlanePadding = 16;

struct WinogradKernels {
  std::int64_t panel = 0;  ///< output channels per panel
  void (*filter)(const WinogradConv&, const float*, float*, std::int64_t, std::int64_t) = nullptr;
  /// first tile, number of tiles, number stored
  void (*block)(const WinogradConv&,
                const WinogradPicture*,
                const float*,
                const float*,
                const float* const*,
                float* const*,
                std::int64_t,
                std::int64_t,
                std::int64_t,
                float*) = nullptr;
};

[[nodiscard]] const WinogradKernels& baseline_winograd() noexcept;
#if defined(__x86_64__)
[[nodiscard]] const WinogradKernels& avx2_winograd() noexcept;
[[nodiscard]] const WinogradKernels& avx512_winograd() noexcept;
#endif

}  // namespace kinema::kernels
