// SPDX-License-Identifier: Apache-2.0
// The video autoencoder of Open-Sora 1.2 (OpenSoraVAE_V1_2, arXiv 2412.20404): an image autoencoder
// on every frame, then a temporal one on its 4-channel latents; 4x8x8. Loads the published folder
// (VideoAutoencoderPipeline) unchanged.
//
// Clips go through in independent pieces of micro_frame_size frames (17, 5 latents); a piece is
// padded on the left with zero latents to a multiple of 4. Zeros are not neutral, and the cuts have
// no overlap: both are part of the model. For inference; the modules keep no gradients.
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
#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/causal_conv3d.h"
#include "vae/codec.h"
#include "vae/posterior.h"
#include "vae/sd_vae.h"

namespace kinema::vae {

/// "vae_temporal" of config.json. Type VAE_Temporal_SD, as published, means these defaults.
struct TemporalVaeConfig {
  std::int64_t in_out_channels = 4;
  std::int64_t latent_embed_dim = 4;
  std::int64_t embed_dim = 4;
  std::int64_t filters = 128;
  std::int64_t num_res_blocks = 4;
  std::vector<std::int64_t> channel_multipliers = {1, 2, 2, 4};
  std::vector<bool> temporal_downsample = {false, true, true};
  std::int64_t num_groups = 32;

  /// Throws kBadCheckpoint [config.*, vae.config].
  static TemporalVaeConfig from_json(const Json& json,
                                     const std::string& subject,
                                     Logger& logger = null_logger());
  [[nodiscard]] Json to_json() const;
  void validate(const std::string& subject) const;
  bool operator==(const TemporalVaeConfig&) const = default;

  [[nodiscard]] std::int64_t num_blocks() const {
    return static_cast<std::int64_t>(channel_multipliers.size());
  }
  [[nodiscard]] std::int64_t temporal_ratio() const;
  [[nodiscard]] std::int64_t latent_frames(std::int64_t frames) const {
    return (frames + temporal_ratio() - 1) / temporal_ratio();
  }
};

/// The image autoencoder of SDXL at full size.
[[nodiscard]] SdVaeConfig sdxl_vae_config();

struct OpenSoraVaeConfig {
  std::optional<std::int64_t> micro_frame_size = 17;  ///< nothing: the clip in one piece
  std::optional<std::int64_t> micro_batch_size = 4;   ///< frames at a time in the image autoencoder
  std::vector<double> shift = {-0.10, 0.34, 0.27, 0.98};
  std::vector<double> scale = {3.85, 2.32, 2.33, 3.06};
  /// The file has single numbers; the buffers are scalars then.
  bool scalar_normalisation = false;
  /// Of SDXL: the published file only names it. A key "_vae_2d_config" replaces it.
  SdVaeConfig spatial = sdxl_vae_config();
  TemporalVaeConfig temporal{};

  /// Throws kBadCheckpoint [config.*, vae.config].
  static OpenSoraVaeConfig from_json(const Json& json,
                                     const std::string& subject,
                                     Logger& logger = null_logger());
  void validate(const std::string& subject) const;
  bool operator==(const OpenSoraVaeConfig&) const = default;

  /// Latents of one micro clip; nothing without micro clips.
  [[nodiscard]] std::optional<std::int64_t> micro_latents() const;
  [[nodiscard]] std::int64_t latent_frames(std::int64_t frames) const;
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))), conv3 (1x1x1) on x where widths differ; the
/// convolutions have no bias, GroupNorm runs over the clip with eps 1e-5.
class OpenSoraResBlockImpl final : public torch::nn::Module {
 public:
  OpenSoraResBlockImpl(std::int64_t in_channels,
                       std::int64_t out_channels,
                       std::int64_t num_groups,
                       const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(Tensor x_BCTHW) const;

 private:
  nn::GroupNorm norm1_, norm2_;
  CausalConv3d conv1_, conv2_, conv3_{nullptr};
};
TORCH_MODULE(OpenSoraResBlock);

/// conv_in, block_res_blocks.*, conv_blocks.*, res_blocks.*, norm1, conv2.
class TemporalEncoderImpl final : public torch::nn::Module {
 public:
  TemporalEncoderImpl(const TemporalVaeConfig& config, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(const Tensor& x_BCTHW) const;

 private:
  CausalConv3d conv_in_{nullptr}, conv2_{nullptr};
  std::vector<std::vector<OpenSoraResBlock>> blocks_;
  std::vector<CausalConv3d> conv_blocks_;  ///< null where time stays
  std::vector<OpenSoraResBlock> res_blocks_;
  nn::GroupNorm norm1_{nullptr};
};
TORCH_MODULE(TemporalEncoder);

/// conv1, res_blocks.*, block_res_blocks.* and conv_blocks.* from the last to the first, norm1,
/// conv_out.
class TemporalDecoderImpl final : public torch::nn::Module {
 public:
  TemporalDecoderImpl(const TemporalVaeConfig& config, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(const Tensor& z_BCTHW) const;

 private:
  CausalConv3d conv1_{nullptr}, conv_out_{nullptr};
  std::vector<OpenSoraResBlock> res_blocks_;
  std::vector<std::vector<OpenSoraResBlock>> blocks_;
  std::vector<CausalConv3d> conv_blocks_;
  nn::GroupNorm norm1_{nullptr};
};
TORCH_MODULE(TemporalDecoder);

/// Channel c * 2 + s becomes frame 2 t + s of channel c. [B, 2C, T, H, W] -> [B, C, 2T, H, W].
[[nodiscard]] Tensor depth_to_time(const Tensor& x_BCTHW);

/// encoder, quant_conv, post_quant_conv, decoder.
class TemporalVaeImpl final : public torch::nn::Module {
 public:
  explicit TemporalVaeImpl(const TemporalVaeConfig& config,
                           const nn::ParameterOptions& parameters = {});

  /// Raw moments of latents of the image autoencoder, one piece of any length.
  [[nodiscard]] Tensor encode(const Tensor& x_BCTHW) const;
  /// @param num_frames  what the latents were made of; decides how many leading frames are cut.
  /// Throws kInvalidArgument [vae.frames] unless the latents stand for that many.
  [[nodiscard]] Tensor decode(const Tensor& z_BCTHW, std::int64_t num_frames) const;

 private:
  TemporalVaeConfig config_;
  TemporalEncoder encoder_{nullptr};
  CausalConv3d quant_conv_{nullptr}, post_quant_conv_{nullptr};
  TemporalDecoder decoder_{nullptr};
};
TORCH_MODULE(TemporalVae);

/// spatial_vae.module, temporal_vae, and the buffers scale and shift.
class OpenSoraVaeImpl final : public torch::nn::Module {
 public:
  explicit OpenSoraVaeImpl(const OpenSoraVaeConfig& config,
                           const nn::ParameterOptions& parameters = {});

  /// Latents of the image autoencoder, times 0.18215. @param noise_NCHW  draws from its posterior
  /// (frames in batch-major order); undefined: the mean.
  [[nodiscard]] Tensor encode_frames(const Tensor& x_BCFHW, const Tensor& noise_NCHW = {}) const;
  [[nodiscard]] Tensor decode_frames(const Tensor& z_BCTHW) const;

  [[nodiscard]] const TemporalVae& temporal() const noexcept { return temporal_vae_; }
  [[nodiscard]] const OpenSoraVaeConfig& config() const noexcept { return config_; }

  Tensor scale;  ///< model space is (z - shift) / scale
  Tensor shift;

 private:
  OpenSoraVaeConfig config_;
  SdVae spatial_vae_{nullptr};
  TemporalVae temporal_vae_{nullptr};
};
TORCH_MODULE(OpenSoraVae);

/// The network with weights from a folder or file. Throws what load_weights() throws.
[[nodiscard]] OpenSoraVae load_open_sora_network(const std::string& folder,
                                                 const OpenSoraVaeConfig& config,
                                                 const tensor::Place& place);

/// A codec around a module whose weights are already there.
[[nodiscard]] std::unique_ptr<Codec> make_open_sora_codec(OpenSoraVae module,
                                                          const tensor::Place& place);

}  // namespace kinema::vae
