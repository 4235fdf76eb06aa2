// SPDX-License-Identifier: Apache-2.0
// The parts of `kinema inspect`: each looks at one kind of thing and returns facts and their text.
#pragma once

#include <string>

#include "core/base/json.h"

namespace kinema::front {

struct Inspection {
  OrderedJson facts;
  std::string text;
};

/// Weights: a safetensors file, an index, or a folder with either. `all_tensors` lists every
/// tensor, otherwise long lists are summed up by prefix.
[[nodiscard]] Inspection inspect_weights(const std::string& path, bool all_tensors);

/// A model folder: model_index.json and its components, or one component with config.json, weights
/// and tokenizer files.
[[nodiscard]] Inspection inspect_folder(const std::string& path, bool all_tensors);

/// A video or image: container facts and the provenance in it.
[[nodiscard]] Inspection inspect_media(const std::string& path);

}  // namespace kinema::front
