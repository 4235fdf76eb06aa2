// SPDX-License-Identifier: Apache-2.0
// Blocks of pixels there and back, the start from principal components, the config's keys.
#include "vae/linear_shortcut.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/vae/tiny_models.h"
#include "vae/posterior.h"

namespace kinema::vae {
namespace {

using testing::max_difference;
using testing::random_video;
using testing::tiny_config;
using testing::tiny_network;

VidVaeConfig shortcut_config() {
  VidVaeConfig config = tiny_config();
  config.latent_channels = 6;
  config.scale.assign(6, 1.0);
  config.shift.assign(6, 0.0);
  config.linear_shortcut = true;
  return config;
}

TEST(CausalBlocks, HoldThePixelsOfTheirPlace) {
  const Tensor video = random_video(9, 16, 24);
  const BlockSize size = {.time = 4, .space = 8};
  const Tensor blocks = causal_blocks(video, size, /*is_start=*/true);
  ASSERT_EQ(blocks.sizes(), (std::vector<std::int64_t>{1, 3, 2, 3, 3 * 4 * 64}));
  const Tensor block = blocks[0][2][1][2].view({3, 4, 8, 8});
  EXPECT_TRUE(block.equal(video[0].narrow(1, 5, 4).narrow(2, 8, 8).narrow(3, 16, 8)));
  const Tensor first = blocks[0][0][1][2].view({3, 4, 8, 8});
  for (std::int64_t t = 0; t < 4; ++t) {
    EXPECT_TRUE(first.select(1, t).equal(video[0].select(1, 0).narrow(1, 8, 8).narrow(2, 16, 8)));
  }
  EXPECT_LE(max_difference(video_of_blocks(blocks, 3, size, true), video), 1e-6);
  const Tensor later = video.narrow(2, 1, 8);
  EXPECT_TRUE(video_of_blocks(causal_blocks(later, size, false), 3, size, false).equal(later));
}

TEST(SpaceToChannels, RoundTrip) {
  const Tensor video = random_video(5, 8, 12);
  const Tensor channels = space_to_channels(video, 2);
  ASSERT_EQ(channels.sizes(), (std::vector<std::int64_t>{1, 12, 5, 4, 6}));
  EXPECT_EQ(channels[0][4 + 2][3][1][2].item<float>(), video[0][1][3][3][4].item<float>());
  EXPECT_TRUE(channels_to_space(channels, 2).equal(video));
}

TEST(PrincipalComponents, StartIsTheBestLinearAutoencoder) {
  const at::NoGradGuard no_grad;
  VidVae network = tiny_network(shortcut_config());
  // Clips that six numbers per block describe.
  const Tensor basis = at::randn({6, 768}) * 0.2;
  const Tensor codes = at::randn({400, 6});
  const Tensor blocks_NP = at::matmul(codes, basis) + 0.1;
  start_from_principal_components(*network, blocks_NP, -9.0);
  const Tensor blocks = blocks_NP.narrow(0, 0, 8).view({1, 2, 2, 2, 768});
  const Tensor video = video_of_blocks(blocks, 3, {.time = 4, .space = 8}, /*is_start=*/false);
  // One frame in front, so that both latents after it hold whole blocks.
  const Tensor clip = at::cat({video.narrow(2, 0, 1), video}, 2);
  const auto posterior = Posterior::from_moments(network->encode(clip, nullptr));
  EXPECT_LE((posterior.logvar_BCTHW + 9.0).abs().max().item<double>(), 1e-5);
  const Tensor again = network->decode(posterior.mode(), nullptr);
  EXPECT_LE(max_difference(again.narrow(2, 1, 8), video), 1e-3);
  // Latents of the blocks have mean 0 and variance 1.
  const Tensor codes_NC =
      at::matmul(blocks_NP, network->named_parameters()["linear_shortcut.encoder.weight"].t()) +
      network->named_parameters()["linear_shortcut.encoder.bias"];
  EXPECT_LE(codes_NC.mean(0).abs().max().item<double>(), 1e-3);
  EXPECT_LE((codes_NC.var(0, /*unbiased=*/false) - 1).abs().max().item<double>(), 1e-3);
}

TEST(PrincipalComponents, BlocksThatDoNotFitAreRefused) {
  VidVae network = tiny_network(shortcut_config());
  for (const Tensor& blocks : {at::rand({100, 767}), at::rand({3, 768})}) {
    EXPECT_THROW(start_from_principal_components(*network, blocks), Error);
  }
  VidVae plain = tiny_network();
  EXPECT_THROW(start_from_principal_components(*plain, at::rand({100, 768})), Error);
}

TEST(ShortcutConfig, KeysSurviveAndOldFilesHaveNone) {
  VidVaeConfig config = shortcut_config();
  config.patch = 2;
  EXPECT_EQ(VidVaeConfig::from_json(config.to_json(), "x", null_logger()), config);
  EXPECT_EQ(config.spatial_ratio(), 16);
  const VidVaeConfig old = VidVaeConfig::from_json(Json::object(), "x", null_logger());
  EXPECT_EQ(old.patch, 1);
  EXPECT_FALSE(old.linear_shortcut);
  config.pad_time = TimePadding::kZeros;
  EXPECT_THROW(config.validate("x"), Error);
}

}  // namespace
}  // namespace kinema::vae
