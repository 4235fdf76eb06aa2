// SPDX-License-Identifier: Apache-2.0
// How much memory this process may still take, so that work which cannot fit is refused before it
// starts.
#pragma once

#include <cstdint>

namespace kinema {

struct MachineMemory {
  std::uint64_t total_bytes = 0;      ///< of the machine, or of the control group when that is less
  std::uint64_t available_bytes = 0;  ///< without pushing others out; 0: unknown
};

/// From /proc/meminfo and the limits of the process's control groups (versions 1 and 2).
[[nodiscard]] MachineMemory machine_memory();

}  // namespace kinema
