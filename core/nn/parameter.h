// SPDX-License-Identifier: Apache-2.0
// How layers allocate their parameters: never initialised, because weights come from a file or from
// an initialiser of the model, and drawing a billion numbers first would cost minutes.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include "core/tensor/tensor.h"

namespace kinema::nn {

struct ParameterOptions {
  c10::ScalarType dtype = c10::kFloat;
  c10::Device device = c10::Device(c10::kCPU);
  /// The parameter has its shape but no memory until load_weights() fills it: reads give one
  /// repeated value, in-place arithmetic throws. For models that only ever read their weights from
  /// a file.
  bool deferred = false;
};

/// An uninitialised tensor of `shape`, to be registered as a parameter.
[[nodiscard]] Tensor make_parameter(c10::IntArrayRef shape, const ParameterOptions& options);

}  // namespace kinema::nn
