// SPDX-License-Identifier: Apache-2.0
// Parts of the autoencoder kinds that belong to CogVideoX, Wan 2.1 and Open-Sora 1.2, for kinds
// that mix several families in one case.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "core/tensor/tensor.h"
#include "tests/golden_runner/golden_case.h"
#include "vae/codec.h"

namespace kinema::golden {

/// "out.cogvideox_*", "out.wan_*" and "out.os12_*" of vae.layer_time_down and vae.layer_time_up.
void compare_foreign_time_down(const TensorMap& io, const Allowed& allowed, Report& report);
void compare_foreign_time_up(const TensorMap& io, const Allowed& allowed, Report& report);

/// The full-size network that a file of vae.key_lists describes, without memory; null for a file
/// that is not one of ours.
[[nodiscard]] std::shared_ptr<torch::nn::Module> foreign_network(const std::string& file_name);

/// Frames that the chunks of plan `name` of vae.frame_plans see in a clip of `length`; nothing for
/// a plan that is not one of ours.
[[nodiscard]] std::optional<std::vector<vae::Span>> foreign_frame_plan(const std::string& name,
                                                                       std::int64_t length);
/// Latent frames of plan "opensora_v1_2_latent_frames".
[[nodiscard]] std::int64_t open_sora_latent_frames(std::int64_t frames);

}  // namespace kinema::golden
