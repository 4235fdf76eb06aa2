// SPDX-License-Identifier: Apache-2.0
// A small VidVAE with random weights, as the files of its folder.
#pragma once

#include <filesystem>
#include <string>

#include <ATen/ATen.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "core/tensor/noise.h"
#include "vae/vid_vae.h"

namespace kinema::test {

inline constexpr const char* kTinyVaeConfig =
    R"({"_class_name":"VidVAE","in_channels":3,"latent_channels":4,"base":6,"mult":[1,2,2,2],"res_blocks":1,"groups":3,)"
    R"("norm_eps":1e-6,"norm_scope":"frame","conv3d_levels_enc":[true,true,true,true],"time_down":["pool","pool","",""],)"
    R"("time_up":["","","repeat","repeat"],"pad_time":"first","mid_attn":"frame","scale":[1.0,1.0,1.0,1.0],)"
    R"("shift":[0.0,0.0,0.0,0.0]})";

/// Writes config.json and model.safetensors.
inline void save_tiny_vae(const std::string& folder,
                          std::uint64_t seed = 3,
                          const std::string& config = kTinyVaeConfig) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/config.json", config);
  const JsonContext context{.place = "test", .subject = "vae"};
  vae::VidVae network(
      vae::VidVaeConfig::from_json(parse_json(config, context), "vae", null_logger()));
  TensorMap weights;
  for (const auto& item : network->named_parameters()) {
    const bool norm = item.key().find("norm") != std::string::npos;
    weights[item.key()] =
        norm && item.key().ends_with("weight")
            ? at::ones(item.value().sizes())
            : tensor::normal_noise_flat({.seed = seed, .name = item.key()}, item.value().sizes()) *
                  0.1;
  }
  tensor::save_tensors(folder + "/model.safetensors", weights);
}

}  // namespace kinema::test
