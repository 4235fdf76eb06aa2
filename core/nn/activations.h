// SPDX-License-Identifier: Apache-2.0
// Activation functions under the names that Hugging Face configs use for them.
#pragma once

#include <optional>
#include <string_view>

#include "core/tensor/tensor.h"

namespace kinema::nn {

enum class Activation {
  kRelu,       ///< max(x, 0)
  kGelu,       ///< x Phi(x) with erf (arXiv 1606.08415)
  kGeluTanh,   ///< its tanh approximation
  kQuickGelu,  ///< x sigmoid(1.702 x)
  kSilu,       ///< x sigmoid(x)
};

/// "relu", "gelu", "gelu_new" / "gelu_pytorch_tanh" / "gelu_fast" (one formula), "quick_gelu",
/// "silu" / "swish"; nothing for other names.
[[nodiscard]] std::optional<Activation> parse_activation(std::string_view name) noexcept;
[[nodiscard]] std::string_view to_string(Activation activation) noexcept;

/// Same shape and dtype as x.
[[nodiscard]] Tensor activate(const Tensor& x, Activation activation);
/// The same into x itself, for intermediate results that nobody else holds. No autograd.
void activate_inplace(Tensor& x, Activation activation);

}  // namespace kinema::nn
