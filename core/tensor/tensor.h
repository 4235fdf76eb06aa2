// SPDX-License-Identifier: Apache-2.0
// The tensor type of kinema. Facades include this header and nothing heavier of LibTorch.
#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace kinema {

using Tensor = at::Tensor;
using TensorMap = std::map<std::string, Tensor, std::less<>>;  ///< sorted by name

}  // namespace kinema
