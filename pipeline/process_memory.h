// SPDX-License-Identifier: Apache-2.0
// Memory and time of this process, as Linux tells them.
#pragma once

#include <cstdint>

namespace kinema::pipeline {

/// Resident memory now, mapped files included; 0 where the system does not say.
[[nodiscard]] std::int64_t resident_bytes();
/// The most since the start or the last reset_peak().
[[nodiscard]] std::int64_t peak_resident_bytes();
/// Starts a new peak at what is resident now. @return false where the system does not allow it.
bool reset_peak();
/// Gives memory that the allocator keeps for later back to the system.
void release_free_memory();
/// Seconds that all threads of this process have computed.
[[nodiscard]] double cpu_seconds();

}  // namespace kinema::pipeline
