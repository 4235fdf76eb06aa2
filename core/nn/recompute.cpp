// SPDX-License-Identifier: Apache-2.0
#include "core/nn/recompute.h"

#include <cstddef>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace kinema::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the backward pass needs beside the saved inputs.
struct Call final : torch::CustomClassHolder {
  RecomputedBody body;
  std::vector<bool> defined;  ///< which inputs are tensors at all
};

std::vector<Tensor> with_gaps(const Call& call, const std::vector<Tensor>& tensors) {
  std::vector<Tensor> inputs;
  std::size_t next = 0;
  for (const bool defined : call.defined) {
    inputs.push_back(defined ? tensors[next++] : Tensor());
  }
  return inputs;
}

class Recomputed final : public torch::autograd::Function<Recomputed> {
 public:
  static Tensor forward(AutogradContext* context,
                        const at::TensorList& tensors,
                        const c10::intrusive_ptr<Call>& call) {
    context->save_for_backward(tensors.vec());
    context->saved_data["call"] = at::IValue::make_capsule(call);
    return call->body(with_gaps(*call, tensors.vec()));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto call =
        c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    std::vector<Tensor> tensors;
    for (const Tensor& saved : context->get_saved_variables()) {
      tensors.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    }
    {
      const at::AutoGradMode with_gradients(true);
      const Tensor result = call->body(with_gaps(*call, tensors));
      torch::autograd::backward({result}, {gradients.front()});
    }
    variable_list result;
    for (const Tensor& tensor : tensors) {
      result.push_back(tensor.grad());
    }
    result.emplace_back();  // the call itself
    return result;
  }
};

}  // namespace

Tensor recompute(RecomputedBody body, const std::vector<Tensor>& inputs) {
  if (!at::GradMode::is_enabled()) {
    return body(inputs);
  }
  auto call = c10::make_intrusive<Call>();
  std::vector<Tensor> tensors;
  for (const Tensor& input : inputs) {
    call->defined.push_back(input.defined());
    if (input.defined()) {
      tensors.push_back(input);
    }
  }
  call->body = std::move(body);
  return Recomputed::apply(at::TensorList(tensors), call);
}

}  // namespace kinema::nn
