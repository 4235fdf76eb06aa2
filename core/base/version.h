// SPDX-License-Identifier: Apache-2.0
// The version lives in its own translation unit, so that a new commit rebuilds one file.
#pragma once

#include <string_view>

namespace kinema {

[[nodiscard]] std::string_view version();        ///< "0.1.0"
[[nodiscard]] std::string_view build_options();  ///< "Release, clang 19.1.7, media on, cuda off"

}  // namespace kinema
