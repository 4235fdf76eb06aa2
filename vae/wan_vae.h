// SPDX-License-Identifier: Apache-2.0
// The video autoencoder of Wan 2.1 (arXiv 2503.20314), 4x8x8, 16 channels: causal 3-D convolutions
// padded with zeros, RMS norm over channels, attention inside a frame. Loads diffusers'
// AutoencoderKLWan folders unchanged. Wan 2.2 (is_residual, patch_size) is refused by its config.
//
// Every layer sees a pixel's channels, one frame, or cached past frames, so any partition of a clip
// in time gives the same result. Frame 0 stands alone: time down- and upsampling leave it out, and
// the upsampling of the first later latents sees zeros where frame 0 would be. For inference; the
// modules keep no gradients.
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
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/codec.h"
#include "vae/stream_state.h"
#include "vae/tiling.h"

namespace kinema::vae {

/// Keys of config.json of AutoencoderKLWan, with its defaults.
struct WanVaeConfig {
  std::int64_t base_dim = 96;
  std::int64_t decoder_base_dim = 0;  ///< 0 (null in the file): base_dim
  std::int64_t z_dim = 16;
  std::vector<std::int64_t> dim_mult = {1, 2, 4, 4};
  std::int64_t num_res_blocks = 2;  ///< one more in the decoder
  std::vector<double> attn_scales;  ///< 1, 0.5, ...: encoder levels with attention
  /// Per level but the last; the key is spelled "temperal_downsample".
  std::vector<bool> temporal_downsample = {false, true, true};
  std::vector<double> latents_mean = {-0.7571,
                                      -0.7089,
                                      -0.9113,
                                      0.1075,
                                      -0.1745,
                                      0.9653,
                                      -0.1517,
                                      1.5508,
                                      0.4134,
                                      -0.0715,
                                      0.5517,
                                      -0.3632,
                                      -0.1922,
                                      -0.9497,
                                      0.2503,
                                      -0.2921};
  std::vector<double> latents_std = {2.8184,
                                     1.4541,
                                     2.3275,
                                     2.6558,
                                     1.2196,
                                     1.7708,
                                     2.6052,
                                     2.0743,
                                     3.2687,
                                     2.1526,
                                     2.8652,
                                     1.5579,
                                     1.6382,
                                     1.1253,
                                     2.8251,
                                     1.9160};
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;

  /// Throws kBadCheckpoint [config.*, vae.config], kUnsupported [vae.config] for Wan 2.2.
  /// Unknown keys are a warning.
  static WanVaeConfig from_json(const Json& json,
                                const std::string& subject,
                                Logger& logger = null_logger());
  [[nodiscard]] Json to_json() const;
  void validate(const std::string& subject) const;
  bool operator==(const WanVaeConfig&) const = default;

  [[nodiscard]] std::int64_t num_levels() const {
    return static_cast<std::int64_t>(dim_mult.size());
  }
  [[nodiscard]] std::int64_t temporal_ratio() const;
  [[nodiscard]] std::int64_t spatial_ratio() const { return std::int64_t{1} << (num_levels() - 1); }
};

/// x / max(|x|, 1e-12) * sqrt(C) * gamma over the channels of a pixel. Parameter "gamma"
/// [C, 1, 1, 1], or [C, 1, 1] before attention.
class WanRmsNormImpl final : public torch::nn::Module {
 public:
  WanRmsNormImpl(std::int64_t channels, bool images, const nn::ParameterOptions& parameters);
  Tensor gamma;
};
TORCH_MODULE(WanRmsNorm);

/// shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))).
class WanResidualBlockImpl final : public torch::nn::Module {
 public:
  WanResidualBlockImpl(std::int64_t in_channels,
                       std::int64_t out_channels,
                       const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(Tensor x_BCTHW, StreamState* stream) const;

 private:
  WanRmsNorm norm1_{nullptr}, norm2_{nullptr};
  nn::Conv3d conv1_{nullptr}, conv2_{nullptr}, conv_shortcut_{nullptr};
};
TORCH_MODULE(WanResidualBlock);

/// x + proj(attention(to_qkv(norm(x)))) inside each frame; one head, scale 1 / sqrt(C).
class WanAttentionBlockImpl final : public torch::nn::Module {
 public:
  WanAttentionBlockImpl(std::int64_t channels, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(const Tensor& x_BCTHW) const;

 private:
  WanRmsNorm norm_{nullptr};
  nn::Conv2d to_qkv_{nullptr}, proj_{nullptr};
};
TORCH_MODULE(WanAttentionBlock);

/// Half or double size in space, and in time with "time_conv". Names: resample.1, time_conv.
class WanResampleImpl final : public torch::nn::Module {
 public:
  enum class Mode { kDown2d, kDown3d, kUp2d, kUp3d };
  WanResampleImpl(std::int64_t channels, Mode mode, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(Tensor x_BCTHW, StreamState* stream) const;

 private:
  Mode mode_;
  nn::Conv2d conv_{nullptr};
  nn::Conv3d time_conv_{nullptr};
};
TORCH_MODULE(WanResample);

/// Kernel 3, stride 2 in time over everything but frame 0, which passes. A later chunk sees the
/// last frame of the chunk before. @param x_BCTHW  first chunk 1 + 2 a frames, later chunks 2 b.
[[nodiscard]] Tensor wan_time_down(const Tensor& x_BCTHW,
                                   const nn::Conv3dImpl& time_conv,
                                   TimeState* state);

/// Every frame but frame 0 becomes two: the first half of the channels of `time_conv` is the even
/// frame, the second the odd one. Zeros stand before frame 1.
[[nodiscard]] Tensor wan_time_up(const Tensor& x_BCTHW,
                                 const nn::Conv3dImpl& time_conv,
                                 TimeState* state);

/// resnets.0, attentions.0, resnets.1.
class WanMidBlockImpl final : public torch::nn::Module {
 public:
  WanMidBlockImpl(std::int64_t channels, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(Tensor x_BCTHW, StreamState* stream) const;

 private:
  WanResidualBlock first_{nullptr}, second_{nullptr};
  WanAttentionBlock attention_{nullptr};
};
TORCH_MODULE(WanMidBlock);

/// conv_in, down_blocks.* (one flat list), mid_block, norm_out, conv_out.
class WanEncoderImpl final : public torch::nn::Module {
 public:
  WanEncoderImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(const Tensor& x_BCFHW, StreamState* stream) const;

 private:
  /// One entry of down_blocks; exactly one of the three is set.
  struct Layer {
    WanResidualBlock residual{nullptr};
    WanAttentionBlock attention{nullptr};
    WanResample resample{nullptr};
  };
  nn::Conv3d conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<Layer> layers_;
  WanMidBlock mid_block_{nullptr};
  WanRmsNorm norm_out_{nullptr};
};
TORCH_MODULE(WanEncoder);

/// resnets.*, upsamplers.0 in all but the last.
class WanUpBlockImpl final : public torch::nn::Module {
 public:
  WanUpBlockImpl(std::int64_t in_channels,
                 std::int64_t out_channels,
                 std::int64_t num_layers,
                 std::optional<WanResampleImpl::Mode> upsample,
                 const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(Tensor x_BCTHW, StreamState* stream) const;

 private:
  std::vector<WanResidualBlock> resnets_;
  WanResample upsampler_{nullptr};
};
TORCH_MODULE(WanUpBlock);

/// conv_in, mid_block, up_blocks.*, norm_out, conv_out.
class WanDecoderImpl final : public torch::nn::Module {
 public:
  WanDecoderImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters);
  [[nodiscard]] Tensor forward(const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  nn::Conv3d conv_in_{nullptr}, conv_out_{nullptr};
  WanMidBlock mid_block_{nullptr};
  std::vector<WanUpBlock> up_blocks_;
  WanRmsNorm norm_out_{nullptr};
};
TORCH_MODULE(WanDecoder);

/// encoder, quant_conv, post_quant_conv, decoder.
class WanVaeImpl final : public torch::nn::Module {
 public:
  explicit WanVaeImpl(const WanVaeConfig& config, const nn::ParameterOptions& parameters = {});

  /// Raw moments. @param x_BCFHW  first chunk 1 + a r frames, later chunks b r, r temporal_ratio.
  [[nodiscard]] Tensor encode(const Tensor& x_BCFHW, StreamState* stream) const;
  /// Pixels before the clamp to [-1, 1]. Any number of latents.
  [[nodiscard]] Tensor decode(const Tensor& z_BCTHW, StreamState* stream) const;

 private:
  WanEncoder encoder_{nullptr};
  nn::Conv3d quant_conv_{nullptr}, post_quant_conv_{nullptr};
  WanDecoder decoder_{nullptr};
};
TORCH_MODULE(WanVae);

/// Frames that the reference's encode() looks at: 1 + 4 k. It leaves out the others without a word;
/// Autoencoder::encode() refuses or pads such clips instead.
[[nodiscard]] std::int64_t wan_reference_frames(std::int64_t frames) noexcept;

/// A tile axis as the reference has it, from tile and stride in pixels. Throws kInvalidArgument
/// [vae.tiling] unless both are multiples of the ratio and stride <= tile.
[[nodiscard]] TileAxis wan_tile_axis(std::int64_t tile_pixels,
                                     std::int64_t stride_pixels,
                                     std::int64_t ratio,
                                     bool encoding);

/// A codec around a module whose weights are already there, for tests and measurements.
[[nodiscard]] std::unique_ptr<Codec> make_wan_codec(const WanVaeConfig& config,
                                                    WanVae module,
                                                    const tensor::Place& place);

}  // namespace kinema::vae
