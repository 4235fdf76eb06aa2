// SPDX-License-Identifier: Apache-2.0
// Configs of public checkpoints: Open-Sora STDiT2 and STDiT3, diffusers PixArt and Latte.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "dit/vdit_config.h"

namespace kinema::dit {

/// See VDitConfig::from_json. The result is not validated.
[[nodiscard]] VDitConfig read_public_config(const Json& json,
                                            const std::string& subject,
                                            std::vector<std::string>& unknown_keys);

}  // namespace kinema::dit
