// SPDX-License-Identifier: Apache-2.0
// Small transformers of every layout and inputs for them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/diffusion/denoiser.h"
#include "dit/modules/vdit_model.h"
#include "dit/vdit.h"
#include "dit/vdit_config.h"

namespace kinema::dit {

inline constexpr std::array kAllLayouts = {
    Layout::kStdit2, Layout::kStdit3, Layout::kFull, Layout::kPixart, Layout::kLatte};

inline VDitConfig small_config(Layout layout) {
  VDitConfig config;
  config.layout = layout;
  config.latent_channels = 3;
  config.predict_variance = layout != Layout::kFull;
  config.width = 36;
  config.num_layers = 2;
  config.num_heads = 3;
  config.mlp_width = 50;
  config.caption_channels = 10;
  config.caption_tokens = 7;
  const bool is_stdit2 = layout == Layout::kStdit2;
  const bool is_image_born = layout == Layout::kPixart || layout == Layout::kLatte;
  config.qk_norm = !is_image_born;
  config.rotate_before_norm = is_stdit2;
  config.size_conditions = is_stdit2 || layout == Layout::kFull || layout == Layout::kPixart;
  config.frames_condition = is_stdit2 || layout == Layout::kFull;
  config.fps_condition = !is_image_born;
  config.pooled_channels = layout == Layout::kFull ? 5 : 0;
  config.position_base = is_image_born ? 4 : 0;
  config.video_length = layout == Layout::kLatte ? 4 : 0;
  return config;
}

/// All parameters, also those that start at zero, get values, so that every part of the network
/// matters.
inline void shake(VDiTImpl& model, std::uint64_t seed) {
  at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (Tensor& parameter : model.parameters()) {
    parameter.add_(0.15 * at::randn(parameter.sizes(), generator, at::kFloat));
  }
}

inline std::unique_ptr<VideoDit> small_model(const VDitConfig& config, std::uint64_t seed = 3) {
  auto model = VideoDit::create(config, seed);
  shake(*model->module(), seed + 1);
  return model;
}

struct SmallInputs {
  Tensor latents_BCTHW;
  Tensor timesteps_B;
  diffusion::Conditioning conditioning;
};

/// Two samples of 4 frames, 3 x 2 patches (rows padded), prompts of 5 and 2 tokens.
inline SmallInputs small_inputs(const VDitConfig& config, std::uint64_t seed = 11) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto draw = [&](c10::IntArrayRef shape) { return at::randn(shape, generator, at::kFloat); };
  SmallInputs inputs;
  inputs.latents_BCTHW = draw({2, config.latent_channels, 4, 5, 4});
  inputs.timesteps_B = at::tensor({712.5F, 31.0F});
  diffusion::Conditioning& c = inputs.conditioning;
  c.context_BMD = draw({2, 6, config.caption_channels});
  c.context_mask_BM = at::tensor({1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0}).view({2, 6});
  c.fps_B = at::tensor({8.0F, 24.0F});
  c.height_B = at::tensor({40.0F, 40.0F});
  c.width_B = at::tensor({32.0F, 32.0F});
  c.num_frames_B = at::tensor({13.0F, 16.0F});
  if (config.pooled_channels > 0) {
    c.pooled_BD = draw({2, config.pooled_channels});
  }
  return inputs;
}

/// max |a - b| / std of b.
inline double relative_difference(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) {
    return 1e9;
  }
  return ((a - b).abs().max() / b.std()).item<double>();
}

/// Code of the Error that `call` throws.
template <typename Call>
std::string error_code(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "nothing thrown";
}

class EveryLayout : public testing::TestWithParam<Layout> {};

inline std::string layout_name(const testing::TestParamInfo<Layout>& info) {
  return std::string(to_string(info.param));
}

}  // namespace kinema::dit
