// SPDX-License-Identifier: Apache-2.0
// Digits that fp32 loses, against the same layers and networks in double precision. Widths are
// multiples of 32, as in the public models: those take the own convolution.
#include <ATen/ops/conv3d.h>
#include <ATen/ops/silu.h>
#include <gtest/gtest.h>

#include "core/nn/image_conv.h"
#include "tests/vae/foreign_models.h"

namespace kinema::vae {
namespace {

struct Errors {
  double rms = 0.0;
  double worst = 0.0;
};

/// In units of the exact result's standard deviation.
Errors errors_of(const Tensor& result, const Tensor& exact) {
  const Tensor difference = (result.to(at::kDouble) - exact) / exact.std();
  return {difference.square().mean().sqrt().item<double>(), difference.abs().max().item<double>()};
}

TEST(Accuracy, LongSumsOfWideLayers) {
  const at::NoGradGuard no_grad;
  at::manual_seed(4);
  nn::Conv3d conv(nn::Conv3dOptions{.in_channels = 512, .out_channels = 32, .padding = {0, 1, 1}});
  testing::randomise(*conv);
  const Tensor x = at::silu(at::randn({1, 512, 3, 20, 28}));
  ASSERT_TRUE(nn::can_filter_minimally(x, conv->weight, /*doubled=*/false));
  const Tensor exact = at::conv3d(
      x.to(at::kDouble), conv->weight.to(at::kDouble), conv->bias.to(at::kDouble), 1, {0, 1, 1});
  const Errors errors = errors_of(conv->forward(x), exact);
  // One running sum of all 1,536 products per point would be at 3.5e-6.
  EXPECT_LE(errors.rms, 1.7e-6);
  EXPECT_LE(errors.worst, 1e-5);
}

TEST(Accuracy, VidVae) {
  const at::NoGradGuard no_grad;
  VidVaeConfig config = testing::tiny_config();
  config.base = 64;
  config.groups = 32;
  VidVae network = testing::tiny_network(config);
  testing::randomise(*network);
  const Tensor video = testing::random_video(5, 64, 64);
  const Tensor latents = testing::random_latents(2, 8, 8);
  const Tensor moments = network->encode(video, nullptr);
  const Tensor pixels = network->decode(latents, nullptr);
  network->to(at::kDouble);
  EXPECT_LE(errors_of(moments, network->encode(video.to(at::kDouble), nullptr)).worst, 2e-5);
  EXPECT_LE(errors_of(pixels, network->decode(latents.to(at::kDouble), nullptr)).worst, 2e-5);
}

TEST(Accuracy, CogVideoXEncoder) {
  const at::NoGradGuard no_grad;
  CogVideoXVaeConfig config = testing::tiny_cogvideox_config();
  config.block_out_channels = {64, 64, 64, 128};
  config.norm_num_groups = 32;
  config.layers_per_block = 3;
  auto network = testing::random_network<CogVideoXVae>(config);
  const Tensor video = testing::random_video(9, 64, 64);
  StreamState state;
  state.begin_chunk();
  const Tensor moments = network->encode(video, &state);
  network->to(at::kDouble);
  StreamState exact_state;
  exact_state.begin_chunk();
  const Tensor exact = network->encode(video.to(at::kDouble), &exact_state);
  EXPECT_LE(errors_of(moments, exact).worst, 2e-5);
}

}  // namespace
}  // namespace kinema::vae
