// SPDX-License-Identifier: Apache-2.0
// Clips as one picture: a row per clip, its frames side by side.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::training {

/// Writes every `every`-th frame of clips uint8 [3, F, H, W] of one size as a PNG.
void write_picture_strip(const std::string& path,
                         const std::vector<Tensor>& clips_CFHW,
                         std::int64_t every);

}  // namespace kinema::training
