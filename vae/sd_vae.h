// SPDX-License-Identifier: Apache-2.0
// The image autoencoder of Stable Diffusion (arXiv 2112.10752), diffusers' AutoencoderKL: SD 1.x,
// SDXL, SD 3 and FLUX configs. Parameter names are those of diffusers; the names used before 2023
// (query, key, value, proj_attn) and the CompVis names load as well.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "core/base/json.h"
#include "core/io/safetensors.h"
#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/nn/parameter.h"
#include "core/tensor/keymap.h"
#include "core/tensor/tensor.h"
#include "vae/codec.h"

namespace kinema::vae {

/// config.json of AutoencoderKL; JSON keys are the field names.
struct SdVaeConfig {
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  std::int64_t latent_channels = 4;
  std::vector<std::int64_t> block_out_channels = {64};
  std::int64_t layers_per_block = 1;
  std::int64_t norm_num_groups = 32;
  std::int64_t sample_size = 32;  ///< the reference's tile edge in pixels
  double scaling_factor = 0.18215;
  double shift_factor = 0.0;
  std::vector<double> latents_mean{};  ///< empty: 0
  std::vector<double> latents_std{};   ///< empty: 1
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  /// Unknown keys are a warning. Throws kBadCheckpoint [config.*, vae.config].
  static SdVaeConfig from_json(const Json& json, const std::string& path, Logger& logger);
  void validate(const std::string& path) const;  ///< throws kBadCheckpoint [vae.config]
  [[nodiscard]] std::int64_t spatial_ratio() const noexcept;
  bool operator==(const SdVaeConfig&) const = default;
};

class SdVaeImpl final : public torch::nn::Module {
 public:
  explicit SdVaeImpl(const SdVaeConfig& config, const nn::ParameterOptions& parameters = {});
  ~SdVaeImpl() override;

  /// @param x_NCHW  pixels.  @return raw moments [N, 2C, h, w].
  [[nodiscard]] Tensor encode(const Tensor& x_NCHW) const;
  /// @param z_NCHW  latents.  @return pixels.
  [[nodiscard]] Tensor decode(const Tensor& z_NCHW) const;

  [[nodiscard]] const SdVaeConfig& config() const noexcept { return config_; }

 private:
  struct Parts;
  SdVaeConfig config_;
  std::unique_ptr<Parts> parts_;
};
TORCH_MODULE(SdVae);

/// A codec around a network whose weights are already there.
[[nodiscard]] std::unique_ptr<Codec> make_sd_vae_codec(SdVae network, const tensor::Place& place);

/// A checkpoint's tensors, renamed rules included: old attention names, CompVis names (with the
/// prefix "first_stage_model." or without) whose up levels count backwards, 1x1 convolutions of the
/// attention as matrices.
struct SdVaeWeights {
  io::TensorViews tensors;
  tensor::KeyMap keymap;
};
/// @param prefix  of the tensors to take ("spatial_vae.module."), removed; others are left out.
[[nodiscard]] SdVaeWeights sd_vae_weights(const io::TensorViews& tensors,
                                          const SdVaeConfig& config,
                                          const std::string& prefix = "");

/// The network with weights from a folder or file. Throws what load_weights() throws.
[[nodiscard]] SdVae load_sd_vae_network(const std::string& folder,
                                        const SdVaeConfig& config,
                                        const tensor::Place& place);

}  // namespace kinema::vae
