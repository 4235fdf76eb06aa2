// SPDX-License-Identifier: Apache-2.0
// The video autoencoder of CogVideoX (arXiv 2408.06072), 4x8x8, 16 channels: causal 3-D
// convolutions with caches, GroupNorm over a chunk, and in the decoder norms that the latents
// modulate (MoVQ, arXiv 2209.09002). Loads diffusers' AutoencoderKLCogVideoX folders unchanged.
//
// A clip goes through in chunks of 8 frames (2 latents); the first takes the remainder. The norms
// see one chunk and the odd and even rules of the time layers look at the chunk, so the chunking is
// part of the model and not a choice. For inference; the modules keep no gradients.
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
#include "core/nn/activations.h"
#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/causal_conv3d.h"
#include "vae/codec.h"
#include "vae/stream_state.h"

namespace kinema::vae {

/// Keys of config.json of AutoencoderKLCogVideoX, with its defaults.
struct CogVideoXVaeConfig {
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  std::vector<std::int64_t> block_out_channels = {128, 256, 256, 512};
  std::int64_t latent_channels = 16;
  std::int64_t layers_per_block = 3;  ///< one more in the decoder
  nn::Activation act_fn = nn::Activation::kSilu;
  double norm_eps = 1e-6;  ///< of the encoder's residual blocks; all other norms have 1e-6
  std::int64_t norm_num_groups = 32;
  double temporal_compression_ratio = 4.0;
  std::int64_t sample_height = 480;  ///< a default tile is half of it
  std::int64_t sample_width = 720;
  double scaling_factor = 1.15258426;
  std::optional<double> shift_factor;
  std::vector<double> latents_mean;  ///< empty: none
  std::vector<double> latents_std;
  bool use_quant_conv = false;
  bool use_post_quant_conv = false;
  /// The 1.5-5B image-to-video model divides image latents by the factor where others multiply.
  bool invert_scale_latents = false;

  /// Throws kBadCheckpoint [config.*, vae.config]. @param subject  file name for messages.
  /// Unknown keys are a warning.
  static CogVideoXVaeConfig from_json(const Json& json,
                                      const std::string& subject,
                                      Logger& logger = null_logger());
  [[nodiscard]] Json to_json() const;
  /// All broken rules in one message, kBadCheckpoint [vae.config].
  void validate(const std::string& subject) const;
  bool operator==(const CogVideoXVaeConfig&) const = default;

  [[nodiscard]] std::int64_t num_blocks() const {
    return static_cast<std::int64_t>(block_out_channels.size());
  }
  /// Blocks 0 .. n-1 halve (encoder) or double (decoder) time.
  [[nodiscard]] std::int64_t num_time_blocks() const;
  [[nodiscard]] std::int64_t spatial_ratio() const { return std::int64_t{1} << (num_blocks() - 1); }
};

/// Average of pairs of frames; an odd number of frames keeps its first one apart.
/// [B, C, T, H, W] -> [B, C, ceil(T / 2), H, W].
[[nodiscard]] Tensor cogvideox_pool_time(const Tensor& x_BCTHW);

/// Every frame twice; an odd number of frames has its first one once. A single frame stays one.
[[nodiscard]] Tensor cogvideox_repeat_time(const Tensor& x_BCTHW);

/// conv(nearest x2 in space) of every frame. @param conv  3x3, stride 1, padding 1.
[[nodiscard]] Tensor upsample_conv2x(const Tensor& x_BCTHW, const nn::Conv2dImpl& conv);

/// GroupNorm(f) * conv_y(z) + conv_b(z), with z resized to f by nearest neighbour; the first frames
/// go to each other where f has an odd number of them, more than one. The 1x1x1 convolutions run on
/// z before it is resized, which is the same. Names: norm_layer, conv_y.conv, conv_b.conv.
class CogVideoXSpatialNormImpl final : public torch::nn::Module {
 public:
  CogVideoXSpatialNormImpl(std::int64_t channels,
                           std::int64_t latent_channels,
                           std::int64_t num_groups,
                           const nn::ParameterOptions& parameters = {});

  /// out = activation(norm(f)). @param out  shape of f; may be f.
  void forward_out(Tensor& out,
                   const Tensor& f_BCTHW,
                   const Tensor& z_BCTHW,
                   std::optional<nn::Activation> activation) const;

  nn::GroupNorm norm_layer{nullptr};
  CausalConv3d conv_y{nullptr}, conv_b{nullptr};
};
TORCH_MODULE(CogVideoXSpatialNorm);

/// Either GroupNorm (encoder) or spatially conditioned norm (decoder).
struct CogVideoXNorm {
  nn::GroupNorm plain{nullptr};
  CogVideoXSpatialNorm conditioned{nullptr};

  void forward_out(Tensor& out,
                   const Tensor& x_BCTHW,
                   const Tensor& z_BCTHW,
                   nn::Activation activation) const;
};

struct CogVideoXResnetOptions {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  std::int64_t num_groups = 32;
  double eps = 1e-6;
  nn::Activation activation = nn::Activation::kSilu;
  std::optional<std::int64_t> latent_channels{};  ///< of the conditioned norm; nothing: plain norm
};

/// x + conv2(act(norm2(conv1(act(norm1(x)))))), with a 1x1x1 convolution of x where widths differ.
class CogVideoXResnetImpl final : public torch::nn::Module {
 public:
  CogVideoXResnetImpl(const CogVideoXResnetOptions& options,
                      const nn::ParameterOptions& parameters);

  /// @param x_BCTHW  is used up.  @param z_BCTHW  undefined in the encoder.
  [[nodiscard]] Tensor forward(Tensor x_BCTHW, const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  CogVideoXNorm norm1_, norm2_;
  CausalConv3d conv1_{nullptr}, conv2_{nullptr};
  nn::Conv3d conv_shortcut_{nullptr};
  nn::Activation activation_;
};
TORCH_MODULE(CogVideoXResnet);

/// The 2-D convolution of a down- or upsampler, "conv".
class CogVideoXResampleImpl final : public torch::nn::Module {
 public:
  CogVideoXResampleImpl(std::int64_t channels, bool down, const nn::ParameterOptions& parameters);
  nn::Conv2d conv{nullptr};
};
TORCH_MODULE(CogVideoXResample);

/// resnets.*, then downsamplers.0 or upsamplers.0 unless it is the last block or the middle.
class CogVideoXBlockImpl final : public torch::nn::Module {
 public:
  enum class Kind { kDown, kMiddle, kUp };
  struct Options {
    Kind kind = Kind::kMiddle;
    std::int64_t num_layers = 2;
    bool resample = false;
    bool compress_time = false;
    CogVideoXResnetOptions resnet{};
  };
  CogVideoXBlockImpl(const Options& options, const nn::ParameterOptions& parameters);

  [[nodiscard]] Tensor forward(Tensor x_BCTHW, const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  [[nodiscard]] Tensor downsample(Tensor x_BCTHW) const;
  [[nodiscard]] Tensor upsample(Tensor x_BCTHW) const;

  Options options_;
  std::vector<CogVideoXResnet> resnets_;
  CogVideoXResample resample_{nullptr};
};
TORCH_MODULE(CogVideoXBlock);

/// conv_in, down_blocks.*, mid_block, norm_out, conv_out.
class CogVideoXEncoderImpl final : public torch::nn::Module {
 public:
  CogVideoXEncoderImpl(const CogVideoXVaeConfig& config, const nn::ParameterOptions& parameters);

  /// One chunk of pixels -> [B, 2 latent_channels, t, h, w].
  [[nodiscard]] Tensor forward(const Tensor& x_BCFHW, StreamState* stream) const;

 private:
  CausalConv3d conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<CogVideoXBlock> down_blocks_;
  CogVideoXBlock mid_block_{nullptr};
  CogVideoXNorm norm_out_;
};
TORCH_MODULE(CogVideoXEncoder);

/// conv_in, mid_block, up_blocks.*, norm_out, conv_out.
class CogVideoXDecoderImpl final : public torch::nn::Module {
 public:
  CogVideoXDecoderImpl(const CogVideoXVaeConfig& config, const nn::ParameterOptions& parameters);

  /// One chunk of latents -> pixels.
  [[nodiscard]] Tensor forward(const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  CausalConv3d conv_in_{nullptr}, conv_out_{nullptr};
  CogVideoXBlock mid_block_{nullptr};
  std::vector<CogVideoXBlock> up_blocks_;
  CogVideoXNorm norm_out_;
};
TORCH_MODULE(CogVideoXDecoder);

/// encoder, decoder and, where the config has them, quant_conv and post_quant_conv.
class CogVideoXVaeImpl final : public torch::nn::Module {
 public:
  explicit CogVideoXVaeImpl(const CogVideoXVaeConfig& config,
                            const nn::ParameterOptions& parameters = {});

  /// Raw moments of one chunk of pixels.
  [[nodiscard]] Tensor encode(const Tensor& x_BCFHW, StreamState* stream) const;
  /// Pixels of one chunk of latents.
  [[nodiscard]] Tensor decode(const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  CogVideoXEncoder encoder_{nullptr};
  CogVideoXDecoder decoder_{nullptr};
  nn::Conv3d quant_conv_{nullptr}, post_quant_conv_{nullptr};
};
TORCH_MODULE(CogVideoXVae);

/// Chunks of encode() and decode() in diffusers.
[[nodiscard]] StepRule cogvideox_encode_rule() noexcept;
[[nodiscard]] StepRule cogvideox_decode_rule() noexcept;

/// A codec around a module whose weights are already there, for tests and measurements.
[[nodiscard]] std::unique_ptr<Codec> make_cogvideox_codec(const CogVideoXVaeConfig& config,
                                                          CogVideoXVae module,
                                                          const tensor::Place& place);

}  // namespace kinema::vae
