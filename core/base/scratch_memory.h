// SPDX-License-Identifier: Apache-2.0
// Large memory that is needed rarely: pages of a temporary file without a name. The kernel writes
// them out and takes them back as it needs room, and the file is gone when its last user is.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace kinema {

/// `bytes` of zeros in a file in `folder`; empty: the system's temporary folder (TMPDIR). Room on
/// the disk is reserved here, so that no later write can fail.
/// Throws kOutput [output.unwritable], kDiskFull [disk_full].
[[nodiscard]] std::shared_ptr<std::byte> map_scratch(const std::string& folder, std::size_t bytes);

/// Takes the pages of map_scratch() out of the memory of this process; what they hold stays in the
/// file and comes back when it is touched.
void drop_scratch(std::byte* data, std::size_t bytes) noexcept;

}  // namespace kinema
