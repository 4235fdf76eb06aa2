// SPDX-License-Identifier: Apache-2.0
// Small random models as folders, for the tests of the text encoders.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/tensor/from_view.h"
#include "core/tensor/tensor.h"

namespace kinema::test {

/// Random values for every parameter of `module`, of a size that keeps activations near 1.
inline TensorMap random_weights(const torch::nn::Module& module, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  TensorMap weights;
  for (const auto& item : module.named_parameters()) {
    const Tensor& shape_of = item.value();
    const double scale =
        shape_of.dim() < 2 ? 1.0 : 0.8 / std::sqrt(static_cast<double>(shape_of.size(1)));
    weights.emplace(item.key(), at::randn(shape_of.sizes(), generator) * scale);
  }
  return weights;
}

inline void write_model(const std::string& folder, const Json& config, const TensorMap& weights) {
  write_file(folder + "/config.json", config.dump());
  tensor::save_tensors(folder + "/model.safetensors", weights);
}

/// "code message" of the kinema::Error that `action` throws.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "nothing thrown";
}

class CapturedLog final : public Logger {
 public:
  void log(LogLevel level, std::string_view line) override {
    if (level == LogLevel::kWarning) {
      warnings += std::string(line) + "\n";
    }
  }
  std::string warnings;
};

}  // namespace kinema::test
