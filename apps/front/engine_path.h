// SPDX-License-Identifier: Apache-2.0
// Where kinema-engine lies: beside kinema in a build tree, in ../libexec/kinema when installed.
#pragma once

#include <string>

namespace kinema::front {

[[nodiscard]] std::string engine_path();

}  // namespace kinema::front
