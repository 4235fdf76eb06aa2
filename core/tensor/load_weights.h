// SPDX-License-Identifier: Apache-2.0
// The one loader of weights for every model: parameter names are checkpoint names, foreign names
// come in through a KeyMap, and everything that does not fit is reported at once.
//
//   MyModel model(config, {.deferred = true});
//   const LoadReport report = load_weights(*model, checkpoint.tensors, keymap, {.place = "vae",
//   ...});
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "core/io/checkpoint.h"
#include "core/io/safetensors.h"
#include "core/tensor/keymap.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace kinema::tensor {

struct LoadOptions {
  /// Float tensors become this type; nothing: they keep the type of the file.
  std::optional<c10::ScalarType> dtype{};
  /// With dtype fp32: 16-bit floats stay 16-bit (layers widen them as they use them).
  bool keep_narrow = false;
  /// Parameters point into the mapped file where type and device allow it. They are READ ONLY then,
  /// so this is for inference.
  bool zero_copy = false;
  c10::Device device = c10::Device(c10::kCPU);
  std::string place = "weights";  ///< of error messages
  std::string subject{};          ///< file or folder, for error messages
  std::size_t max_lines = 40;     ///< lines listed per class of problem; counts are always complete
};

struct LoadReport {
  std::int64_t num_tensors = 0;  ///< parameters and buffers filled
  std::int64_t num_elements = 0;
  std::int64_t num_bytes = 0;         ///< as kept
  std::int64_t num_mapped_bytes = 0;  ///< of these, not on the heap
  std::int64_t num_cast = 0;          ///< tensors whose type was changed
  std::vector<std::string> ignored;   ///< names in the file that the KeyMap leaves out
};

/// Fills every parameter and buffer of `module`. Nothing is changed unless everything fits.
/// Throws kBadCheckpoint [weights.mismatch] with one table of all tensors that are missing,
/// unexpected, of a wrong shape, of a wrong kind of dtype (an integer where a float belongs) or
/// given twice.
LoadReport load_weights(torch::nn::Module& module,
                        const io::TensorViews& tensors,
                        const KeyMap& keymap,
                        const LoadOptions& options);

/// The same; `options.subject` defaults to the path of the checkpoint.
LoadReport load_weights(torch::nn::Module& module,
                        const io::Checkpoint& checkpoint,
                        const KeyMap& keymap,
                        LoadOptions options);

}  // namespace kinema::tensor
