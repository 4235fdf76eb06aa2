// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/vae/foreign_models.h"
#include "vae/wan_vae.h"

namespace kinema::vae {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::random_latents;
using testing::random_video;
using testing::tiny_wan;
using testing::tiny_wan_config;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "no error";
}

std::string config_error(const std::function<void(Json&)>& change) {
  Json json = tiny_wan_config().to_json();
  change(json);
  return error_of([&] { static_cast<void>(WanVaeConfig::from_json(json, "config.json")); });
}

TEST(WanConfig, JsonRoundTrip) {
  WanVaeConfig config = tiny_wan_config();
  config.attn_scales = {1.0, 0.25};
  config.decoder_base_dim = 8;
  EXPECT_EQ(WanVaeConfig::from_json(config.to_json(), "c"), config);
  EXPECT_EQ(WanVaeConfig::from_json(Json::object(), "c"), WanVaeConfig{});
}

TEST(WanConfig, RefusesWhatCannotWork) {
  EXPECT_THAT(config_error([](Json& j) { j["temperal_downsample"] = {true}; }),
              HasSubstr("temperal_downsample has not one entry less"));
  EXPECT_THAT(config_error([](Json& j) { j["temperal_downsample"] = {1, 0, 1}; }),
              AllOf(HasSubstr("config.type"), HasSubstr("temperal_downsample")));
  EXPECT_THAT(config_error([](Json& j) {
                j["base_dim"] = 5;
                j["dim_mult"] = {1, 1, 1, 1};
              }),
              HasSubstr("odd"));
  EXPECT_THAT(config_error([](Json& j) { j["latents_std"] = {1.0, 0.0, 1.0, 1.0}; }),
              HasSubstr("latents_std has a 0"));
  EXPECT_THAT(config_error([](Json& j) { j["z_dim"] = 5; }), HasSubstr("z_dim numbers"));
  EXPECT_THAT(config_error([](Json& j) { j["is_residual"] = true; }), HasSubstr("Wan 2.2"));
  EXPECT_THAT(config_error([](Json& j) { j["patch_size"] = 2; }), HasSubstr("Wan 2.2"));
}

std::vector<WanVaeConfig> configs() {
  WanVaeConfig plain = tiny_wan_config();
  WanVaeConfig early = tiny_wan_config();
  early.dim_mult = {1, 2, 1};
  early.temporal_downsample = {true, true};
  early.attn_scales = {0.5};
  early.num_res_blocks = 2;
  WanVaeConfig once = tiny_wan_config();
  once.temporal_downsample = {false, true, false};
  once.decoder_base_dim = 4;
  return {plain, early, once};
}

class WanPartition : public ::testing::TestWithParam<std::size_t> {};

TEST_P(WanPartition, StreamEqualsWholeForAnyPieces) {
  const auto vae = tiny_wan(configs()[GetParam()]);
  const std::int64_t edge = vae->info().spatial_ratio;
  for (const std::int64_t latents : {1, 2, 4}) {
    const std::int64_t frames = vae->video_frames(latents);
    const Tensor x = random_video(frames, 2 * edge, edge);
    const Posterior whole = vae->encode(x, {.frames_per_step = 0});
    ASSERT_EQ(whole.mode().size(2), latents);
    const Tensor z = random_latents(latents, 2, 1);
    const Tensor pixels = vae->decode(z, {.latents_per_step = 0});
    ASSERT_EQ(pixels.size(2), frames);
    EXPECT_LE(max_difference(whole.mode(), vae->encode(x, {.frames_per_step = 1}).mode()), 1e-5);
    EXPECT_LE(max_difference(pixels, vae->decode(z, {.latents_per_step = 2})), 1e-5);
    for (unsigned seed = 0; seed < 2; ++seed) {
      const Posterior streamed = testing::encode_streamed(*vae, x, seed);
      EXPECT_LE(max_difference(whole.mean_BCTHW, streamed.mean_BCTHW), 1e-5) << frames;
      EXPECT_LE(max_difference(whole.logvar_BCTHW, streamed.logvar_BCTHW), 1e-5) << frames;
      EXPECT_LE(max_difference(pixels, testing::decode_streamed(*vae, z, seed)), 1e-5) << latents;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, WanPartition, ::testing::Values(0, 1, 2));

TEST(Wan, FirstFrameIsTheImagePath) {
  const auto vae = tiny_wan();
  const Tensor x = random_video(9, 16, 16);
  const Tensor image = vae->encode(x.narrow(2, 0, 1)).mode();
  EXPECT_LE(max_difference(vae->encode(x).mode().narrow(2, 0, 1), image), 1e-5);
}

TEST(Wan, DropsNoFrameSilently) {
  const auto vae = tiny_wan();
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode(random_video(7, 8, 8))); }),
              AllOf(HasSubstr("vae.frames"), HasSubstr("5 and 9"), HasSubstr("7")));
  const Tensor latents = vae->encode(random_video(7, 8, 8), {.pad_frames = true}).mode();
  EXPECT_EQ(latents.size(2), 3);
  EXPECT_EQ(wan_reference_frames(7), 5);
  EXPECT_EQ(wan_reference_frames(4), 1);
  EXPECT_EQ(wan_reference_frames(9), 9);
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode(random_video(5, 12, 8))); }),
              AllOf(HasSubstr("vae.size"), HasSubstr("8 or 16")));
}

TEST(Wan, PixelsAreClampedAfterTilesAreJoined) {
  const auto vae = tiny_wan();
  const Tensor z = 20.0 * random_latents(2, 4, 5);
  const Tensor whole = vae->decode(z);
  EXPECT_LE(whole.abs().max().item<double>(), 1.0);
  EXPECT_GT((whole.abs() == 1.0).sum().item<std::int64_t>(), 0);
  const TilingOptions tiling = {
      .tile_rows = 16, .tile_columns = 16, .overlap = 0.5, .reference_blend = true};
  const Tensor tiled = vae->decode(z, {.tiling = tiling});
  EXPECT_EQ(tiled.sizes(), whole.sizes());
  // The same by hand, with the clamp at the end.
  const at::NoGradGuard no_grad;
  const TileAxis axis = wan_tile_axis(16, 8, 8, /*encoding=*/false);
  const Tensor joined =
      run_tiles(z, axis, axis, 32, 40, TileBlend::kPairwise, [&](const Tensor& tile, std::int64_t) {
        StreamState state;
        state.begin_chunk();
        return vae->codec().decode_step(nn::channels_last(tile), state, {});
      });
  EXPECT_LE(max_difference(tiled, joined.clamp(-1.0, 1.0)), 1e-5);
}

TEST(Wan, TileAxisRefusesFractionsOfLatents) {
  EXPECT_THAT(error_of([] { static_cast<void>(wan_tile_axis(20, 16, 8, true)); }),
              AllOf(HasSubstr("vae.tiling"), HasSubstr("multiples of 8")));
  EXPECT_THAT(error_of([] { static_cast<void>(wan_tile_axis(16, 24, 8, true)); }),
              HasSubstr("vae.tiling"));
  const TileAxis axis = wan_tile_axis(256, 192, 8, true);
  EXPECT_EQ(axis.extent, 8);
  EXPECT_EQ(axis.keep, 24);
}

TEST(Wan, Bf16IsNearFp32) {
  const WanVaeConfig config = tiny_wan_config();
  auto network = testing::random_network<WanVae>(config);
  const Tensor x = random_video(5, 16, 8);
  const at::NoGradGuard no_grad;
  const Tensor wide = Autoencoder(make_wan_codec(config, network, {})).encode(x).mode();
  network->to(at::kBFloat16);
  const tensor::Place place = {c10::Device(c10::kCPU), at::kBFloat16};
  const Tensor narrow = Autoencoder(make_wan_codec(config, network, place)).encode(x).mode();
  EXPECT_LE(max_difference(narrow.to(at::kFloat), wide), 0.2 * wide.std().item<double>());
}

}  // namespace
}  // namespace kinema::vae
