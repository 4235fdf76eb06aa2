// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/upsample_nearest2d.h>
#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/vae/foreign_models.h"
#include "vae/cogvideox_vae.h"

namespace kinema::vae {
namespace {

using ::testing::AllOf;
using testing::CountingAllocator;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::random_latents;
using testing::random_video;
using testing::tiny_cogvideox;
using testing::tiny_cogvideox_config;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "no error";
}

std::string config_error(const std::function<void(Json&)>& change) {
  Json json = tiny_cogvideox_config().to_json();
  change(json);
  return error_of([&] { static_cast<void>(CogVideoXVaeConfig::from_json(json, "config.json")); });
}

TEST(CogVideoXConfig, JsonRoundTrip) {
  CogVideoXVaeConfig config = tiny_cogvideox_config();
  config.shift_factor = 0.25;
  config.latents_mean = {1.0, 2.0, 3.0, 4.0};
  config.latents_std = {1.0, 2.0, 3.0, 4.0};
  config.invert_scale_latents = true;
  config.act_fn = nn::Activation::kGelu;
  EXPECT_EQ(CogVideoXVaeConfig::from_json(config.to_json(), "c"), config);
  EXPECT_EQ(CogVideoXVaeConfig::from_json(Json::object(), "c"), CogVideoXVaeConfig{});
}

TEST(CogVideoXConfig, RefusesWhatCannotWork) {
  EXPECT_THAT(config_error([](Json& j) { j["norm_num_groups"] = 5; }),
              AllOf(HasSubstr("vae.config"), HasSubstr("8 is no multiple of 5 groups")));
  EXPECT_THAT(config_error([](Json& j) { j["down_block_types"] = {"DownEncoderBlock2D"}; }),
              AllOf(HasSubstr("down_block_types"), HasSubstr("DownEncoderBlock2D")));
  EXPECT_THAT(config_error([](Json& j) { j["act_fn"] = "mish"; }),
              AllOf(HasSubstr("act_fn"), HasSubstr("mish")));
  EXPECT_THAT(config_error([](Json& j) { j["use_quant_conv"] = true; }),
              HasSubstr("out_channels = latent_channels"));
  EXPECT_THAT(config_error([](Json& j) { j["block_out_channels"] = Json::array(); }),
              HasSubstr("block_out_channels"));
  EXPECT_THAT(config_error([](Json& j) { j["latents_std"] = {1.0}; }), HasSubstr("latents_mean"));
  EXPECT_THAT(config_error([](Json& j) { j["temporal_compression_ratio"] = 0.5; }),
              HasSubstr("temporal_compression_ratio"));
  EXPECT_THAT(config_error([](Json& j) {
                j["layers_per_block"] = 0;
                j["latent_channels"] = -1;
              }),
              AllOf(HasSubstr("layers_per_block"), HasSubstr("latent_channels")));
}

TEST(CogVideoX, StreamEqualsWholeForAnyPieces) {
  const auto vae = tiny_cogvideox();
  for (const std::int64_t frames : {1, 9, 16, 25}) {
    const Tensor x = random_video(frames, 16, 8);
    const Posterior whole = vae->encode(x);
    for (unsigned seed = 0; seed < 2; ++seed) {
      const Posterior streamed = testing::encode_streamed(*vae, x, seed);
      EXPECT_LE(max_difference(whole.mean_BCTHW, streamed.mean_BCTHW), 1e-5) << frames;
      EXPECT_LE(max_difference(whole.logvar_BCTHW, streamed.logvar_BCTHW), 1e-5) << frames;
    }
  }
  for (const std::int64_t latents : {1, 4, 7}) {
    const Tensor z = random_latents(latents, 2, 1);
    const Tensor whole = vae->decode(z);
    EXPECT_EQ(whole.size(2), vae->video_frames(latents));
    for (unsigned seed = 0; seed < 2; ++seed) {
      EXPECT_LE(max_difference(whole, testing::decode_streamed(*vae, z, seed)), 1e-5) << latents;
    }
  }
}

TEST(CogVideoX, StreamNeedsTheLength) {
  const auto vae = tiny_cogvideox();
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode_stream()); }),
              HasSubstr("vae.stream_length"));
}

TEST(CogVideoX, ChunksAreIndependentOfLaterOnesAndSeeEarlierOnes) {
  const auto vae = tiny_cogvideox();
  const Tensor x = random_video(17, 16, 16);
  const Tensor latents = vae->encode(x).mode();
  Tensor late = x.clone();
  late.select(2, 16).add_(0.5);
  const Tensor changed_late = vae->encode(late).mode();
  EXPECT_LE(max_difference(latents.narrow(2, 0, 3), changed_late.narrow(2, 0, 3)), 1e-6);
  Tensor early = x.clone();
  early.select(2, 8).add_(0.5);
  const Tensor changed_early = vae->encode(early).mode();
  EXPECT_GT(max_difference(latents.narrow(2, 3, 2), changed_early.narrow(2, 3, 2)), 1e-4);
}

TEST(CogVideoX, FrameCountsThatComeBackAreLegal) {
  const auto vae = tiny_cogvideox();
  EXPECT_EQ(vae->latent_frames(1), 1);
  EXPECT_EQ(vae->latent_frames(8), 2);
  EXPECT_EQ(vae->latent_frames(49), 13);
  EXPECT_EQ(vae->video_frames(13), 49);
  EXPECT_EQ(vae->next_legal_frames(10), 16);
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->latent_frames(13)); }),
              AllOf(HasSubstr("vae.frames"), HasSubstr("9 and 16"), HasSubstr("13")));
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode(random_video(9, 20, 16))); }),
              AllOf(HasSubstr("vae.size"), HasSubstr("16 or 24"), HasSubstr("20")));
  const Tensor x = random_video(13, 8, 8);
  const Tensor latents = vae->encode(x, {.pad_frames = true}).mode();
  EXPECT_EQ(latents.size(2), 4);
  EXPECT_EQ(vae->decode(latents, {.num_frames = 13}).size(2), 13);
}

TEST(CogVideoX, OtherTemporalRatiosAndDepths) {
  for (const double ratio : {1.0, 2.0, 8.0}) {
    CogVideoXVaeConfig config = tiny_cogvideox_config();
    config.temporal_compression_ratio = ratio;
    config.layers_per_block = 2;
    const auto vae = tiny_cogvideox(config);
    const std::int64_t frames = vae->next_legal_frames(17);
    const Tensor latents = vae->encode(random_video(frames, 8, 8)).mode();
    EXPECT_EQ(latents.size(2), vae->latent_frames(frames)) << ratio;
    EXPECT_EQ(vae->decode(latents).size(2), frames) << ratio;
  }
}

TEST(CogVideoX, QuantConvolutionsAct) {
  CogVideoXVaeConfig config = tiny_cogvideox_config();
  config.latent_channels = 3;
  config.use_quant_conv = true;
  config.use_post_quant_conv = true;
  auto network = testing::random_network<CogVideoXVae>(config);
  const at::NoGradGuard no_grad;
  const auto parameters = network->named_parameters();
  ASSERT_EQ(parameters["quant_conv.weight"].sizes(), at::IntArrayRef({6, 6, 1, 1, 1}));
  const Tensor x = nn::channels_last(random_video(1, 8, 8));
  const Tensor before = network->encode(x, nullptr);
  Tensor bias = parameters["quant_conv.bias"];
  bias.add_(1.0);
  EXPECT_LE(max_difference(network->encode(x, nullptr), before + 1.0), 1e-5);
  const Tensor z = nn::channels_last(before.narrow(1, 0, 3).contiguous());
  const Tensor pixels = network->decode(z, nullptr);
  Tensor post = parameters["post_quant_conv.bias"];
  post.add_(1.0);
  EXPECT_GT(max_difference(network->decode(z, nullptr), pixels), 1e-3);
}

TEST(CogVideoX, ModelSpaceUsesAllConstants) {
  CogVideoXVaeConfig config = tiny_cogvideox_config();
  config.scaling_factor = 0.7;
  config.shift_factor = 0.5;
  const auto vae = tiny_cogvideox(config);
  const Tensor z = random_latents(1, 2, 2);
  EXPECT_LE(max_difference(vae->to_model_space(z), (z - 0.5) * 0.7), 1e-6);
  EXPECT_LE(max_difference(vae->from_model_space(vae->to_model_space(z)), z), 1e-5);
}

TEST(CogVideoX, Bf16IsNearFp32) {
  const CogVideoXVaeConfig config = tiny_cogvideox_config();
  auto network = testing::random_network<CogVideoXVae>(config);
  const Tensor z = random_latents(3, 2, 2);
  const at::NoGradGuard no_grad;
  const Tensor wide = Autoencoder(make_cogvideox_codec(config, network, {})).decode(z);
  network->to(at::kBFloat16);
  const tensor::Place place = {c10::Device(c10::kCPU), at::kBFloat16};
  const Tensor narrow = Autoencoder(make_cogvideox_codec(config, network, place)).decode(z);
  EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
  EXPECT_LE(max_difference(narrow.to(at::kFloat), wide), 0.2 * wide.std().item<double>());
}

TEST(CogVideoX, DecodeMemoryDoesNotGrowWithTheClip) {
  const auto vae = tiny_cogvideox();
  const auto peak = [&](std::int64_t latents) {
    const Tensor z = random_latents(latents, 6, 6);
    const CountingAllocator counter;
    std::int64_t frames = 0;
    vae->decode(z, {}, [&](const Tensor& part) { frames += part.size(2); });
    EXPECT_EQ(frames, vae->video_frames(latents));
    return static_cast<double>(counter.peak_bytes());
  };
  const double small = peak(5);
  EXPECT_GT(small, 5e5);
  EXPECT_LE(peak(13), 1.02 * small);
}

TEST(CogVideoX, TilesHaveTheRightSize) {
  const auto vae = tiny_cogvideox();
  const Tensor x = random_video(9, 64, 96);
  // 48 x 40 pixels, 6 x 5 latents: an overlap of one latent each.
  for (const bool reference : {true, false}) {
    const TilingOptions tiling = {.reference_blend = reference};
    const Tensor latents = vae->encode(x, {.tiling = tiling}).mode();
    EXPECT_EQ(latents.sizes(), at::IntArrayRef({1, 4, 3, 8, 12}));
    const Tensor video = vae->decode(latents, {.tiling = tiling});
    EXPECT_EQ(video.sizes(), x.sizes());
    EXPECT_TRUE(video.isfinite().all().item<bool>());
  }
  const TilingOptions odd = {.tile_rows = 32, .tile_columns = 40, .reference_blend = true};
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode(x, {.tiling = odd})); }),
              HasSubstr("vae.tiling"));
}

TEST(CogVideoXLayers, UpsampleEqualsNearestThenConvolution) {
  const at::NoGradGuard no_grad;
  nn::Conv2d conv(nn::Conv2dOptions{.in_channels = 5, .out_channels = 7, .padding = {1, 1}});
  testing::randomise(*conv);
  const Tensor x = nn::channels_last(at::randn({2, 5, 3, 4, 6}));
  const Tensor large = at::upsample_nearest2d(nn::fold_frames(x), {8, 12});
  const Tensor expected = nn::unfold_frames(conv->forward(large), 2);
  const Tensor got = upsample_conv2x(x, *conv);
  EXPECT_EQ(got.sizes(), expected.sizes());
  EXPECT_LE(max_difference(got, expected), 1e-5);
}

TEST(CogVideoXLayers, OddClipsKeepTheirFirstFrame) {
  const Tensor x = at::arange(5, at::kFloat).view({1, 1, 5, 1, 1});
  EXPECT_TRUE(at::equal(cogvideox_pool_time(x).flatten(), at::tensor({0.0F, 1.5F, 3.5F})));
  EXPECT_TRUE(
      at::equal(cogvideox_pool_time(x.narrow(2, 1, 4)).flatten(), at::tensor({1.5F, 3.5F})));
  EXPECT_TRUE(at::equal(cogvideox_repeat_time(x.narrow(2, 0, 3)).flatten(),
                        at::tensor({0.0F, 1.0F, 1.0F, 2.0F, 2.0F})));
  EXPECT_TRUE(at::equal(cogvideox_repeat_time(x.narrow(2, 0, 2)).flatten(),
                        at::tensor({0.0F, 0.0F, 1.0F, 1.0F})));
  EXPECT_EQ(cogvideox_repeat_time(x.narrow(2, 0, 1)).numel(), 1);
}

}  // namespace
}  // namespace kinema::vae
