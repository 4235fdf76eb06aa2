// SPDX-License-Identifier: Apache-2.0
// Kinds of single layers of vae/.
#pragma once

#include <vector>

#include "tests/golden_runner/golden_case.h"

namespace kinema::golden {

[[nodiscard]] std::vector<Kind> vae_layer_kinds();

}  // namespace kinema::golden
