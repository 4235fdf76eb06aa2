// SPDX-License-Identifier: Apache-2.0
#include "vae/linear_shortcut.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"
#include "vae/vid_vae.h"

namespace kinema::vae {
namespace {

/// Whether the next pass is the first one; counts it.
bool begin_pass(StreamState* stream) {
  TimeState* const state = next_state(stream);
  const bool is_start = state == nullptr || !state->started();
  if (state != nullptr) {
    state->chunks += 1;
  }
  return is_start;
}

}  // namespace

Tensor causal_blocks(const Tensor& video_BCFHW, BlockSize size, bool is_start) {
  const auto [r, p] = size;
  Tensor video = video_BCFHW;
  if (is_start) {
    auto shape = video.sizes().vec();
    shape[2] = r - 1;
    video = at::cat({video.narrow(2, 0, 1).expand(shape), video}, 2);
  }
  const auto s = video.sizes();
  const std::int64_t rows = s[3] / p;
  const std::int64_t columns = s[4] / p;
  return video.reshape({s[0], s[1], s[2] / r, r, rows, p, columns, p})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({s[0], s[2] / r, rows, columns, s[1] * r * p * p});
}

Tensor video_of_blocks(const Tensor& blocks, std::int64_t channels, BlockSize size, bool is_start) {
  const auto [r, p] = size;
  const auto s = blocks.sizes();
  const Tensor video = blocks.reshape({s[0], s[1], s[2], s[3], channels, r, p, p})
                           .permute({0, 4, 1, 5, 2, 6, 3, 7})
                           .reshape({s[0], channels, s[1] * r, s[2] * p, s[3] * p});
  if (!is_start) {
    return video;
  }
  const Tensor first = video.narrow(2, 0, r).mean(2, /*keepdim=*/true);
  return at::cat({first, video.narrow(2, r, video.size(2) - r)}, 2);
}

Tensor space_to_channels(const Tensor& x_BCFHW, std::int64_t patch) {
  return causal_blocks(x_BCFHW, {.time = 1, .space = patch}, false).permute({0, 4, 1, 2, 3});
}

Tensor channels_to_space(const Tensor& x_BCFHW, std::int64_t patch) {
  const std::int64_t channels = x_BCFHW.size(1) / (patch * patch);
  return video_of_blocks(
      x_BCFHW.permute({0, 2, 3, 4, 1}), channels, {.time = 1, .space = patch}, false);
}

LinearShortcutImpl::LinearShortcutImpl(std::int64_t channels,
                                       std::int64_t latent_channels,
                                       BlockSize size,
                                       const nn::ParameterOptions& parameters)
    : channels_(channels), size_(size) {
  const std::int64_t block = channels * size.time * size.space * size.space;
  encoder = register_module("encoder", nn::Linear(block, latent_channels, true, parameters));
  decoder = register_module("decoder", nn::Linear(latent_channels, block, true, parameters));
}

Tensor LinearShortcutImpl::encode(const Tensor& video_BCFHW, StreamState* stream) const {
  const Tensor blocks = causal_blocks(video_BCFHW, size_, begin_pass(stream));
  return encoder->forward(blocks).permute({0, 4, 1, 2, 3});
}

Tensor LinearShortcutImpl::decode(const Tensor& z_BCTHW, StreamState* stream) const {
  const Tensor blocks = decoder->forward(z_BCTHW.permute({0, 2, 3, 4, 1}));
  return video_of_blocks(blocks, channels_, size_, begin_pass(stream));
}

void start_from_principal_components(VidVaeImpl& network,
                                     const Tensor& blocks_NP,
                                     double log_variance) {
  const at::NoGradGuard no_grad;
  auto weights = network.named_parameters();
  const VidVaeConfig& config = network.config();
  const std::int64_t latents = config.latent_channels;
  const Tensor* const weight_CP = weights.find("linear_shortcut.encoder.weight");
  if (weight_CP == nullptr || blocks_NP.dim() != 2 || blocks_NP.size(0) < latents ||
      blocks_NP.size(1) != weight_CP->size(1)) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "vae.blocks",
         .place = "vae.linear_shortcut",
         .subject = "blocks for the principal components",
         .expected = "a network with linear_shortcut and blocks of its size",
         .got = weight_CP == nullptr ? "no linear_shortcut" : tensor::shape_text(blocks_NP)});
  }
  const Tensor mean_P = blocks_NP.mean(0);
  const Tensor centred_NP = blocks_NP - mean_P;
  const Tensor covariance_PP =
      at::matmul(centred_NP.t(), centred_NP) / static_cast<double>(blocks_NP.size(0));
  // Eigenvalues rise: the leading components are the last columns.
  const auto [values_P, vectors_PP] = at::linalg_eigh(covariance_PP.to(at::kDouble));
  const std::int64_t first = values_P.size(0) - latents;
  const Tensor basis_CP = vectors_PP.narrow(1, first, latents).flip(1).t().to(at::kFloat);
  const Tensor std_C =
      values_P.narrow(0, first, latents).flip(0).clamp_min(1e-8).sqrt().to(at::kFloat);
  const Tensor encode_CP = basis_CP / std_C.unsqueeze(1);
  weights["linear_shortcut.encoder.weight"].copy_(encode_CP);
  weights["linear_shortcut.encoder.bias"].copy_(-at::matmul(encode_CP, mean_P));
  weights["linear_shortcut.decoder.weight"].copy_((basis_CP * std_C.unsqueeze(1)).t());
  weights["linear_shortcut.decoder.bias"].copy_(mean_P);

  for (const char* layer : {"encoder.conv_out.conv", "decoder.conv_out.conv"}) {
    weights[std::string(layer) + ".weight"].zero_();
    weights[std::string(layer) + ".bias"].zero_();
  }
  Tensor quant_weight = weights["quant_conv.conv.weight"];
  quant_weight.zero_();
  for (std::int64_t c = 0; c < 2 * latents; ++c) {
    quant_weight[c][c].fill_(1.0);
  }
  Tensor quant_bias = weights["quant_conv.conv.bias"];
  quant_bias.narrow(0, 0, latents).zero_();
  quant_bias.narrow(0, latents, latents).fill_(log_variance);
}

}  // namespace kinema::vae
