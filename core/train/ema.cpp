// SPDX-License-Identifier: Apache-2.0
#include "core/train/ema.h"

#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::train {

Ema::Ema(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    entries_.push_back({item.key(), item.value(), item.value().detach().to(at::kFloat).clone()});
  }
}

void Ema::update(double decay) {
  const at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    entry.average.lerp_(entry.parameter.to(at::kFloat), 1.0 - decay);
  }
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    const Tensor parameter = entry.parameter.clone();
    entry.parameter.copy_(entry.average);
    entry.average.copy_(parameter);
  }
}

TensorMap Ema::state() const {
  TensorMap state;
  for (const Entry& entry : entries_) {
    state[entry.name] = entry.average;
  }
  return state;
}

void Ema::load_state(const TensorMap& state) {
  const at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    const auto found = state.find(entry.name);
    if (found == state.end() || found->second.sizes() != entry.average.sizes()) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "train.state",
                   .place = "train.ema",
                   .subject = entry.name,
                   .expected = "shape " + tensor::shape_text(entry.average),
                   .got = found == state.end() ? "nothing of that name"
                                               : "shape " + tensor::shape_text(found->second)});
    }
    entry.average.copy_(found->second);
  }
}

}  // namespace kinema::train
