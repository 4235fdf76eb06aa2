// SPDX-License-Identifier: Apache-2.0
// Where the components of a text-to-video model lie: a folder with model_index.json and one folder
// per component (transformer, vae, text_encoder, tokenizer, scheduler), as diffusers lays them out.
#pragma once

#include <optional>
#include <string>

#include "core/base/json.h"

namespace kinema::pipeline {

/// What the authors of a model recommend; "generation.json" in its folder. Keys are the field
/// names.
struct GenerationDefaults {
  std::int64_t width = 256;
  std::int64_t height = 256;
  std::int64_t frames = 17;
  double fps = 8;
  std::int64_t steps = 30;
  double guidance = 7.0;
  std::int64_t max_frames = 0;    ///< longest video that the model was trained on; 0: not told
  std::int64_t max_length = 300;  ///< prompt tokens
  std::string clean = "caption";  ///< caption, lower or none
};

struct ModelFolder {
  std::string path;
  std::string transformer;
  std::string vae;
  std::string text_encoder;
  std::string tokenizer;
  std::optional<std::string> scheduler;  ///< scheduler_config.json, where there is one
  GenerationDefaults defaults;

  /// Throws kIo [io.open] when there is no folder, kBadCheckpoint [model.index,
  /// model.component_missing, config.*].
  static ModelFolder open(const std::string& path);
};

}  // namespace kinema::pipeline
