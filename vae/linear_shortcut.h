// SPDX-License-Identifier: Apache-2.0
// A linear road past an autoencoder's network: every block of pixels that becomes one latent
// position is mapped to it by one matrix, and back by another. The network then only learns what
// the matrices miss. The same idea as the space-to-channel shortcuts of the Deep Compression
// Autoencoder (arXiv 2410.10733, section 3.2), with learned matrices that start as the principal
// components of the blocks.
//
// Blocks are causal: latent 0 sees the first frame, repeated; latent j >= 1 its own frames. So
// chunks give exactly what one shot gives. P = C x time x space x space numbers are in a block.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/linear.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/stream_state.h"

namespace kinema::vae {

class VidVaeImpl;

/// Edges of a block in frames and pixels.
struct BlockSize {
  std::int64_t time = 4;
  std::int64_t space = 8;
};

/// [B, C, F, H, W] -> [B, T, H / space, W / space, P]. @param is_start  F = 1 + k time, the first
/// frame counts `time` times; else F = k time.
[[nodiscard]] Tensor causal_blocks(const Tensor& video_BCFHW, BlockSize size, bool is_start);
/// The inverse; the frames of a first block become one, their mean.
[[nodiscard]] Tensor video_of_blocks(const Tensor& blocks,
                                     std::int64_t channels,
                                     BlockSize size,
                                     bool is_start);

/// [B, C, F, H, W] -> [B, C p p, F, H / p, W / p], channels-last; and back.
[[nodiscard]] Tensor space_to_channels(const Tensor& x_BCFHW, std::int64_t patch);
[[nodiscard]] Tensor channels_to_space(const Tensor& x_BCFHW, std::int64_t patch);

/// Parameters "encoder.weight" [latents, P], "encoder.bias", "decoder.weight" [P, latents],
/// "decoder.bias".
class LinearShortcutImpl final : public torch::nn::Module {
 public:
  LinearShortcutImpl(std::int64_t channels,
                     std::int64_t latent_channels,
                     BlockSize size,
                     const nn::ParameterOptions& parameters = {});

  /// @return [B, latents, T, H / space, W / space]. Takes one state from the stream.
  [[nodiscard]] Tensor encode(const Tensor& video_BCFHW, StreamState* stream) const;
  [[nodiscard]] Tensor decode(const Tensor& z_BCTHW, StreamState* stream) const;

  nn::Linear encoder{nullptr};
  nn::Linear decoder{nullptr};

 private:
  std::int64_t channels_;
  BlockSize size_;
};
TORCH_MODULE(LinearShortcut);

/// Makes `network` (with linear_shortcut) the best linear autoencoder of the blocks given: the
/// shortcut takes their leading principal components, scaled to unit variance; the last layers of
/// encoder and decoder become 0 and the log variance starts at `log_variance`.
/// @param blocks_NP  at least as many blocks as latent channels, float.
/// Throws kInvalidArgument [vae.blocks] when they do not fit the network.
void start_from_principal_components(VidVaeImpl& network,
                                     const Tensor& blocks_NP,
                                     double log_variance = -7.0);

}  // namespace kinema::vae
