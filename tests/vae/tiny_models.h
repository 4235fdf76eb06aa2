// SPDX-License-Identifier: Apache-2.0
// Small autoencoders with random weights, and random clips.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include "core/tensor/from_view.h"
#include "vae/autoencoder.h"
#include "vae/sd_vae.h"
#include "vae/vid_vae.h"

namespace kinema::vae::testing {

inline VidVaeConfig tiny_config() {
  VidVaeConfig config;
  config.base = 4;
  config.mult = {1, 2, 2, 2};
  config.res_blocks = 1;
  config.groups = 2;
  return config;
}

inline VidVae tiny_network(const VidVaeConfig& config = tiny_config(), std::uint64_t seed = 7) {
  VidVae network(config);
  initialise_vid_vae(*network, seed);
  return network;
}

inline std::unique_ptr<Autoencoder> tiny_vid_vae(const VidVaeConfig& config = tiny_config()) {
  return std::make_unique<Autoencoder>(make_vid_vae_codec(tiny_network(config), {}));
}

inline SdVaeConfig tiny_image_config() {
  SdVaeConfig config;
  config.block_out_channels = {4, 8, 8, 8};
  config.norm_num_groups = 2;
  return config;
}

inline Tensor random_video(std::int64_t frames, std::int64_t rows, std::int64_t columns) {
  return at::rand({1, 3, frames, rows, columns}) * 2 - 1;
}

inline Tensor random_latents(std::int64_t frames, std::int64_t rows, std::int64_t columns) {
  return at::randn({1, 4, frames, rows, columns});
}

inline double max_difference(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e30;
}

/// Weights of a module under its own names.
inline TensorMap weights_of(const torch::nn::Module& module) {
  TensorMap weights;
  for (const auto& item : module.named_parameters()) {
    weights[item.key()] = item.value().detach().contiguous();
  }
  return weights;
}

/// Random weights of the size of a default initialisation.
inline void randomise(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    Tensor& p = item.value();
    const bool is_norm_weight = item.key().find("norm") != std::string::npos && p.dim() == 1 &&
                                item.key().ends_with("weight");
    const double fan_in = p.dim() > 1 ? static_cast<double>(p[0].numel()) : 16.0;
    p.copy_(at::randn(p.sizes()) / std::sqrt(fan_in) + (is_norm_weight ? 1.0 : 0.0));
  }
}

}  // namespace kinema::vae::testing
