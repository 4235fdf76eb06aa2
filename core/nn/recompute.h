// SPDX-License-Identifier: Apache-2.0
// Gradient checkpointing (Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174): a part
// of a network that remembers its inputs only and is computed again for its gradients.
#pragma once

#include <functional>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::nn {

using RecomputedBody = std::function<Tensor(const std::vector<Tensor>& inputs)>;

/// body(inputs), with gradients for `inputs` and for every parameter that the body uses. The body
/// must give the same result each time, read no other tensor that needs a gradient through another
/// graph, and stay valid until the gradients are done. Undefined inputs stay undefined.
/// Without gradients it is a plain call.
[[nodiscard]] Tensor recompute(RecomputedBody body, const std::vector<Tensor>& inputs);

}  // namespace kinema::nn
