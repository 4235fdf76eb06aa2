// SPDX-License-Identifier: Apache-2.0
#include "core/nn/activations.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

namespace kinema::nn {

std::optional<Activation> parse_activation(std::string_view name) noexcept {
  if (name == "relu") {
    return Activation::kRelu;
  }
  if (name == "gelu") {
    return Activation::kGelu;
  }
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return Activation::kGeluTanh;
  }
  if (name == "quick_gelu") {
    return Activation::kQuickGelu;
  }
  if (name == "silu" || name == "swish") {
    return Activation::kSilu;
  }
  return std::nullopt;
}

std::string_view to_string(Activation activation) noexcept {
  switch (activation) {
    case Activation::kRelu:
      return "relu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_new";
    case Activation::kQuickGelu:
      return "quick_gelu";
    case Activation::kSilu:
      return "silu";
  }
  return "";
}

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kQuickGelu:
      return x * at::sigmoid(x * 1.702);
    case Activation::kSilu:
      return at::silu(x);
  }
  return x;
}

void activate_inplace(Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      at::relu_(x);
      return;
    case Activation::kGelu:
      at::gelu_(x);
      return;
    case Activation::kGeluTanh:
      at::gelu_(x, "tanh");
      return;
    case Activation::kQuickGelu:
      x.mul_(at::sigmoid(x * 1.702));
      return;
    case Activation::kSilu:
      at::silu_(x);
      return;
  }
}

}  // namespace kinema::nn
