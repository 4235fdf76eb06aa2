// SPDX-License-Identifier: Apache-2.0
// A text-to-video model folder of the smallest sizes, with fixed random weights: T5, VDiT, VidVAE.
#pragma once

#include <filesystem>
#include <string>

#include <ATen/ATen.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/noise.h"
#include "dit/modules/vdit_model.h"
#include "dit/vdit.h"
#include "tests/support/tiny_t5.h"
#include "tests/support/tiny_vae.h"

namespace kinema::test {

inline dit::VDitConfig tiny_vdit_config(dit::Layout layout) {
  dit::VDitConfig config;
  config.layout = layout;
  config.latent_channels = 4;
  config.predict_variance = false;
  config.width = 36;
  config.num_layers = 1;
  config.num_heads = 3;
  config.mlp_width = 72;
  config.caption_channels = TinyT5::kWidth;
  config.caption_tokens = 0;
  return config;
}

/// Weights that start at zero are filled, so that every part counts.
inline std::unique_ptr<dit::VideoDit> tiny_vdit(dit::Layout layout) {
  auto model = dit::VideoDit::create(tiny_vdit_config(layout), /*seed=*/1);
  const at::NoGradGuard no_grad;
  for (const auto& item : model->module()->named_parameters()) {
    Tensor value = item.value();
    value.add_(tensor::normal_noise_flat({.seed = 5, .name = item.key()}, value.sizes()), 0.05);
  }
  return model;
}

inline void save_tiny_model(const std::string& folder, dit::Layout layout = dit::Layout::kFull) {
  std::filesystem::create_directories(folder);
  write_file(
      folder + "/model_index.json",
      R"({"_class_name":"KinemaTextToVideo","transformer":["kinema","VDiT"],"vae":["kinema","VidVAE"],)"
      R"("text_encoder":["transformers","T5EncoderModel"],"tokenizer":["transformers","T5Tokenizer"]})");
  write_file(
      folder + "/generation.json",
      R"({"width":32,"height":32,"frames":9,"fps":8,"steps":4,"guidance":3.0,"max_length":16})");
  TinyT5().save(folder + "/text_encoder");
  std::filesystem::copy(KINEMA_SOURCE_DIR "/tests/golden/text/tokenizer_t5",
                        folder + "/tokenizer",
                        std::filesystem::copy_options::recursive);
  tiny_vdit(layout)->save(folder + "/transformer");
  save_tiny_vae(folder + "/vae");
}

}  // namespace kinema::test
