// SPDX-License-Identifier: Apache-2.0
// The planned peak against the live bytes of tensors of a real run, model by model.
#include "vae/memory_plan.h"

#include <functional>
#include <optional>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/vae/foreign_models.h"

namespace kinema::vae {
namespace {

struct Clip {
  std::int64_t frames, rows, columns;
  std::optional<TilingOptions> tiling{};
};

std::size_t decode_peak(const Autoencoder& vae, const Clip& clip) {
  const std::int64_t ratio = vae.info().spatial_ratio;
  const Tensor latents = at::randn({1,
                                    vae.info().latent_channels,
                                    vae.latent_frames(clip.frames),
                                    clip.rows / ratio,
                                    clip.columns / ratio});
  const testing::CountingAllocator counter;
  vae.decode(latents, {.tiling = clip.tiling}, [](const Tensor&) {});
  return counter.peak_bytes();
}

std::size_t encode_peak(const Autoencoder& vae, const Clip& clip) {
  const Tensor video = testing::random_video(clip.frames, clip.rows, clip.columns);
  const testing::CountingAllocator counter;
  static_cast<void>(vae.encode(video, {.tiling = clip.tiling}));
  return counter.peak_bytes();
}

/// Both directions within 10 %.
void expect_planned(const Autoencoder& vae, const Clip& clip) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  MemoryRequest request = {.frames = clip.frames,
                           .rows = clip.rows,
                           .columns = clip.columns,
                           .tiling = clip.tiling,
                           .threads = 1};
  for (const Direction direction : {Direction::kDecode, Direction::kEncode}) {
    request.direction = direction;
    const bool decodes = direction == Direction::kDecode;
    const auto measured =
        static_cast<double>(decodes ? decode_peak(vae, clip) : encode_peak(vae, clip));
    const MemoryPlan plan = plan_memory(vae, request);
    const auto planned = static_cast<double>(plan.activation_bytes + plan.state_bytes);
    EXPECT_NEAR(planned / measured, 1.0, 0.1)
        << vae.info().family << (decodes ? " decode" : " encode") << " planned " << planned
        << " measured " << measured;
  }
}

TEST(MemoryPlan, ImageModel) {
  SdVaeConfig config;
  config.block_out_channels = {32, 64, 64};
  config.layers_per_block = 2;
  const auto network = testing::random_network<SdVae>(config);
  const Autoencoder vae(make_sd_vae_codec(network, {}));
  expect_planned(vae, {1, 128, 128});
  expect_planned(vae, {2, 96, 136});
  expect_planned(vae, {1, 160, 128, TilingOptions{.tile_rows = 96, .tile_columns = 64}});
}

TEST(MemoryPlan, VideoModel) {
  VidVaeConfig config = testing::tiny_config();
  config.base = 32;
  expect_planned(*testing::tiny_vid_vae(config), {9, 64, 96});
  config.norm_scope = nn::NormScope::kClip;
  config.time_up = {TimeUp::kNone, TimeUp::kNone, TimeUp::kLinear, TimeUp::kLinear};
  expect_planned(*testing::tiny_vid_vae(config), {9, 64, 96});
}

TEST(MemoryPlan, CogVideoX) {
  CogVideoXVaeConfig config = testing::tiny_cogvideox_config();
  config.block_out_channels = {32, 32, 64, 64};
  expect_planned(*testing::tiny_cogvideox(config), {17, 64, 96});
}

TEST(MemoryPlan, Wan) {
  WanVaeConfig config = testing::tiny_wan_config();
  config.base_dim = 32;
  expect_planned(*testing::tiny_wan(config), {9, 64, 96});
}

TEST(MemoryPlan, OpenSora) {
  OpenSoraVaeConfig config = testing::tiny_open_sora_config();
  config.spatial.block_out_channels = {32, 32, 64, 64};
  expect_planned(*testing::tiny_open_sora(config), {17, 64, 96});
}

TEST(MemoryPlan, CountsOperationsOfDirectConvolutions) {
  SdVaeConfig config;
  config.block_out_channels = {32};
  config.mid_block_add_attention = false;
  config.use_post_quant_conv = false;
  const auto network = testing::random_network<SdVae>(config);
  const Autoencoder vae(make_sd_vae_codec(network, {}));
  // conv_in, two blocks in the middle and two in the only level, conv_out.
  const double pixels = 3 * 16 * 24;
  const double weights = 9.0 * (4 * 32 + 8 * 32 * 32 + 32 * 3);
  const MemoryPlan plan = plan_memory(vae, {.frames = 3, .rows = 16, .columns = 24});
  EXPECT_DOUBLE_EQ(plan.flops, 2.0 * weights * pixels);
}

TEST(MemoryPlan, AConfigIsEnough) {
  const VidVaeConfig config;  // full size: nothing of it may be allocated
  const MemoryRequest request = {.frames = 9, .rows = 720, .columns = 1280, .threads = 2};
  const testing::CountingAllocator counter;
  const MemoryPlan plan = plan_memory(config.to_json(), request);
  EXPECT_LT(counter.peak_bytes(), std::size_t{1} << 20);
  // 55 % of 229 million parameters belong to the decoder.
  EXPECT_NEAR(static_cast<double>(plan.weight_bytes), 0.55 * 4 * 229.2e6, 0.1 * 4 * 229.2e6);
  EXPECT_LE(plan.state_bytes, request.state_memory.max_bytes);
  EXPECT_GT(plan.file_bytes, 0);
  EXPECT_EQ(plan.peak_bytes,
            plan.weight_bytes + plan.state_bytes + plan.activation_bytes + plan.clip_bytes +
                plan.process_bytes);
}

TEST(MemoryPlan, LengthCostsNothing) {
  const Json config = VidVaeConfig{}.to_json();
  const auto peak = [&](std::int64_t frames) {
    const MemoryPlan plan = plan_memory(config, {.frames = frames, .rows = 256, .columns = 256});
    return static_cast<double>(plan.peak_bytes - plan.clip_bytes);
  };
  EXPECT_DOUBLE_EQ(peak(9), peak(2001));
}

TEST(MemoryPlan, RefusesIllegalSizes) {
  const Json config = VidVaeConfig{}.to_json();
  try {
    static_cast<void>(plan_memory(config, {.frames = 8, .rows = 64, .columns = 64}));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "vae.frames");
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5 and 9"));
  }
}

}  // namespace
}  // namespace kinema::vae
