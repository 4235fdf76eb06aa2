// SPDX-License-Identifier: Apache-2.0
// The facade: loading, sizes, images, padding, tiles, segments, model space.
#include <fstream>

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/support/temp_folder.h"
#include "tests/vae/tiny_models.h"

namespace kinema::vae {
namespace {

using ::testing::HasSubstr;
using testing::max_difference;
using testing::random_latents;
using testing::random_video;
using testing::tiny_config;
using testing::tiny_image_config;
using testing::tiny_network;
using testing::tiny_vid_vae;

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

constexpr const char* kImageConfig = R"({"_class_name": "AutoencoderKL",
  "block_out_channels": [4, 8, 8, 8], "layers_per_block": 1, "latent_channels": 4,
  "norm_num_groups": 2, "scaling_factor": 0.25, "shift_factor": 0.5})";

SdVae random_image_network() {
  at::manual_seed(11);
  SdVae network(tiny_image_config());
  testing::randomise(*network);
  return network;
}

/// Expects an Error with this code; returns its text.
template <typename Function>
std::string error_of(const std::string& code, Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error " << code;
  return {};
}

TEST(Autoencoder, LoadsItsOwnFolder) {
  const test::TempFolder folder;
  const VidVaeConfig config = tiny_config();
  const VidVae network = tiny_network(config);
  write_text(folder / "config.json", config.to_json().dump());
  tensor::save_tensors(folder / "diffusion_pytorch_model.safetensors",
                       testing::weights_of(*network));
  const auto vae = Autoencoder::load(folder.path(), {});
  EXPECT_EQ(vae->info().family, "vidvae");
  EXPECT_EQ(vae->info().time_mode, TimeMode::kStream);
  EXPECT_EQ(vae->info().temporal_ratio, 4);
  EXPECT_EQ(vae->info().spatial_ratio, 8);
  const at::NoGradGuard no_grad;
  const Tensor z = random_latents(2, 2, 3);
  EXPECT_LE(max_difference(vae->decode(z), network->decode(z, nullptr)), 1e-5);
}

TEST(Autoencoder, ConfigErrorsSayWhat) {
  const test::TempFolder folder;
  const auto load = [&] { static_cast<void>(Autoencoder::load(folder.path(), {})); };
  error_of("io.open", load);
  write_text(folder / "config.json", R"({"_class_name": "AutoencoderTiny"})");
  EXPECT_THAT(error_of("vae.class", load), HasSubstr("AutoencoderTiny"));
  write_text(folder / "config.json", "[]");
  error_of("vae.config", load);
  write_text(folder / "config.json", R"({"_class_name": "AutoencoderKL"})");
  error_of("config.missing", load);
  write_text(
      folder / "config.json",
      R"({"_class_name": "AutoencoderKL", "block_out_channels": [6], "norm_num_groups": 4})");
  EXPECT_THAT(error_of("vae.config", load), HasSubstr("6 is no multiple of 4 groups"));
  write_text(folder / "config.json",
             R"({"_class_name": "AutoencoderKL", "block_out_channels": [32],
                 "down_block_types": ["AttnDownEncoderBlock2D"]})");
  EXPECT_THAT(error_of("vae.config", load), HasSubstr("AttnDownEncoderBlock2D"));
  write_text(folder / "config.json", R"({"_class_name": "VidVAE", "time_up": ["", "sinc"]})");
  EXPECT_THAT(error_of("vae.config", load), HasSubstr("sinc"));
  write_text(folder / "config.json",
             R"({"_class_name": "VidVAE", "base": 0, "mult": [1, 2], "latent_channels": -1})");
  error_of("vae.config", load);
}

TEST(Autoencoder, WrongWeightsAreListed) {
  const test::TempFolder folder;
  write_text(folder / "config.json", kImageConfig);
  TensorMap weights = testing::weights_of(*random_image_network());
  weights.erase("encoder.conv_in.bias");
  weights["decoder.surplus"] = at::zeros({1});
  tensor::save_tensors(folder / "model.safetensors", weights);
  const std::string text = error_of(
      "weights.mismatch", [&] { static_cast<void>(Autoencoder::load(folder.path(), {})); });
  EXPECT_THAT(text, HasSubstr("encoder.conv_in.bias"));
  EXPECT_THAT(text, HasSubstr("decoder.surplus"));
}

TEST(VidVaeConfig, JsonRoundTrip) {
  VidVaeConfig config = tiny_config();
  config.time_down = {TimeDown::kMix, TimeDown::kJoint, TimeDown::kNone, TimeDown::kNone};
  config.time_up = {TimeUp::kNone, TimeUp::kLinear, TimeUp::kNone, TimeUp::kMix};
  config.space_down = {SpaceDown::kFrame, SpaceDown::kCausal, SpaceDown::kFrame};
  config.conv3d_levels_enc = {false, true, false, true};
  config.conv_in_3d = false;
  config.mid_attn = MidAttention::kOspLegacy;
  config.norm_scope = nn::NormScope::kClip;
  config.scale = {1, 2, 3, 4};
  EXPECT_EQ(VidVaeConfig::from_json(config.to_json(), "test", null_logger()), config);
}

// ---- sizes

TEST(Sizes, NearestLegalValuesAreNamed) {
  const auto vae = tiny_vid_vae();
  EXPECT_EQ(vae->latent_frames(17), 5);
  EXPECT_EQ(vae->video_frames(5), 17);
  EXPECT_EQ(vae->next_legal_frames(6), 9);
  EXPECT_EQ(vae->next_legal_frames(9), 9);
  EXPECT_THAT(error_of("vae.frames", [&] { static_cast<void>(vae->latent_frames(7)); }),
              HasSubstr("5 and 9"));
  EXPECT_THAT(error_of("vae.frames", [&] { static_cast<void>(vae->latent_frames(0)); }),
              HasSubstr("1"));
  EXPECT_THAT(error_of("vae.size", [&] { vae->check_size(5, 20, 16); }), HasSubstr("16 or 24"));
  EXPECT_THAT(error_of("vae.size", [&] { vae->check_size(5, 16, 4); }), HasSubstr("8"));
  error_of("tensor.shape", [&] { static_cast<void>(vae->encode(at::zeros({1, 4, 1, 8, 8}))); });
  error_of("tensor.shape", [&] { static_cast<void>(vae->decode(at::zeros({1, 4, 8, 8}))); });
  error_of("vae.size", [&] { static_cast<void>(vae->decode(at::zeros({1, 4, 0, 8, 8}))); });
  error_of("vae.frames",
           [&] { static_cast<void>(vae->decode(random_latents(2, 1, 1), {.num_frames = 6})); });
}

TEST(Sizes, PaddedFramesAreCutAgain) {
  const auto vae = tiny_vid_vae();
  const Tensor video = random_video(6, 8, 8);
  error_of("vae.frames", [&] { static_cast<void>(vae->encode(video)); });
  const Tensor z = vae->encode(video, {.pad_frames = true}).mode();
  EXPECT_EQ(z.size(2), 3);
  const Tensor whole = vae->decode(z);
  const Tensor cut = vae->decode(z, {.num_frames = 6});
  EXPECT_EQ(cut.size(2), 6);
  EXPECT_LE(max_difference(cut, whole.narrow(2, 0, 6)), 1e-6);
}

TEST(Sizes, BatchEqualsSingles) {
  const auto vae = tiny_vid_vae();
  const Tensor video = at::cat({random_video(5, 8, 16), random_video(5, 8, 16)}, 0);
  const Tensor both = vae->encode(video).mode();
  EXPECT_LE(max_difference(both.narrow(0, 1, 1), vae->encode(video.narrow(0, 1, 1)).mode()), 1e-5);
}

TEST(ModelSpace, ThereAndBack) {
  VidVaeConfig config = tiny_config();
  config.scale = {2.0, 0.5, 4.0, 1.0};
  config.shift = {0.1, -0.2, 0.3, 0.0};
  const auto vae = tiny_vid_vae(config);
  const Tensor z = random_latents(2, 2, 2);
  const Tensor model = vae->to_model_space(z);
  EXPECT_LE(max_difference(model.select(1, 2), (z.select(1, 2) - 0.3) / 4.0), 1e-6);
  EXPECT_LE(max_difference(vae->from_model_space(model), z), 1e-6);
}

// ---- image autoencoder

TEST(SdVae, CompVisNamesLoad) {
  const at::NoGradGuard no_grad;
  const SdVae network = random_image_network();
  TensorMap renamed;
  for (const auto& [name, value] : testing::weights_of(*network)) {
    std::string key = name;
    Tensor tensor = value;
    const auto replace = [&key](const std::string& from, const std::string& to) {
      const auto at = key.find(from);
      if (at != std::string::npos) {
        key.replace(at, from.size(), to);
      }
    };
    for (int level = 0; level < 4; ++level) {
      replace("up_blocks." + std::to_string(level) + ".", "UP" + std::to_string(3 - level) + ".");
    }
    replace("UP", "up.");
    replace("down_blocks.", "down.");
    replace("mid_block.resnets.0", "mid.block_1");
    replace("mid_block.resnets.1", "mid.block_2");
    replace("mid_block.attentions.0.", "mid.attn_1.");
    replace("resnets.", "block.");
    replace("downsamplers.0", "downsample");
    replace("upsamplers.0", "upsample");
    replace("conv_shortcut", "nin_shortcut");
    replace("conv_norm_out", "norm_out");
    if (key.find("attn_1") != std::string::npos) {
      replace("group_norm", "norm");
      replace("to_q", "q");
      replace("to_k", "k");
      replace("to_v", "v");
      replace("to_out.0", "proj_out");
      if (tensor.dim() == 2) {
        tensor = tensor.view({tensor.size(0), tensor.size(1), 1, 1}).contiguous();
      }
    }
    renamed["first_stage_model." + key] = tensor;
  }
  renamed["model.diffusion_model.out.weight"] = at::zeros({2});
  ASSERT_TRUE(renamed.contains("first_stage_model.decoder.up.3.block.0.conv1.weight"));
  const test::TempFolder folder;
  write_text(folder / "config.json", kImageConfig);
  tensor::save_tensors(folder / "model.safetensors", renamed);
  const auto vae = Autoencoder::load(folder.path(), {});
  const Tensor z = random_latents(1, 2, 3);
  EXPECT_LE(max_difference(vae->decode(z).squeeze(2), network->decode(z.squeeze(2))), 1e-6);
  EXPECT_EQ(vae->info().latent_scale, std::vector<double>(4, 0.25));
  EXPECT_EQ(vae->info().latent_shift, std::vector<double>(4, 0.5));
}

TEST(SdVae, FramesAreIndependentImages) {
  const test::TempFolder folder;
  write_text(folder / "config.json", kImageConfig);
  tensor::save_tensors(folder / "model.safetensors", testing::weights_of(*random_image_network()));
  const auto vae = Autoencoder::load(folder.path(), {});
  const Tensor video = random_video(3, 17, 24);
  const Posterior all = vae->encode(video);
  const Posterior last = vae->encode(video.narrow(2, 2, 1));
  EXPECT_TRUE(at::equal(all.mean_BCTHW.narrow(2, 2, 1), last.mean_BCTHW));
  EXPECT_EQ(all.mean_BCTHW.size(3), 2);
}

TEST(Inflation, MissingQuantConvolutionsBecomeIdentity) {
  const at::NoGradGuard no_grad;
  SdVaeConfig image_config = tiny_image_config();
  image_config.use_quant_conv = false;
  image_config.use_post_quant_conv = false;
  at::manual_seed(5);
  SdVae image(image_config);
  testing::randomise(*image);
  VidVae video(inflated_config(image_config));
  inflate_vid_vae(*video, *image);
  const Tensor x = random_video(1, 16, 24);
  EXPECT_LE(max_difference(video->encode(x, nullptr).squeeze(2), image->encode(x.squeeze(2))),
            1e-5);
  const Tensor z = random_latents(1, 2, 3);
  EXPECT_LE(max_difference(video->decode(z, nullptr).squeeze(2), image->decode(z.squeeze(2))),
            1e-5);
  VidVaeConfig other = inflated_config(image_config);
  other.base = 2;
  VidVae wider(other);
  error_of("vae.inflation", [&] { inflate_vid_vae(*wider, *image); });
}

// ---- tiles and segments

TEST(Tiles, SmallPicturesStayWhole) {
  const auto vae = tiny_vid_vae();
  const Tensor z = random_latents(2, 2, 2);
  const Tensor whole = vae->decode(z);
  const TilingOptions large = {.tile_rows = 16, .tile_columns = 16};
  EXPECT_TRUE(at::equal(vae->decode(z, {.tiling = large}), whole));
}

TEST(Tiles, SizesAddUpAndSeamsAreSoft) {
  const auto vae = tiny_vid_vae();
  for (const bool reference : {false, true}) {
    const TilingOptions tiling = {
        .tile_rows = 32, .tile_columns = 32, .overlap = 0.25, .reference_blend = reference};
    const Tensor video = random_video(5, 56, 40);
    EXPECT_THAT(vae->encode(video, {.tiling = tiling}).mean_BCTHW.sizes().vec(),
                ::testing::ElementsAre(1, 4, 2, 7, 5));
    const Tensor z = random_latents(2, 7, 5);
    EXPECT_THAT(vae->decode(z, {.tiling = tiling}).sizes().vec(),
                ::testing::ElementsAre(1, 3, 5, 56, 40));
  }
  const TilingOptions odd = {.tile_rows = 30};
  error_of("vae.tiling",
           [&] { static_cast<void>(vae->decode(random_latents(1, 8, 8), {.tiling = odd})); });
  const TilingOptions broken = {
      .tile_rows = 48, .tile_columns = 48, .overlap = 0.25, .reference_blend = true};
  error_of("vae.tiling",
           [&] { static_cast<void>(vae->decode(random_latents(1, 8, 8), {.tiling = broken})); });
}

/// A codec whose layers see single pixels: tiling must not change anything.
TEST(Tiles, MergeOfEqualPiecesIsExact) {
  const Tensor x = at::randn({1, 2, 1, 21, 30});
  const TileAxis rows = {8, 6, 2, 6};
  const TileAxis columns = {10, 7, 3, 7};
  for (const TileBlend blend : {TileBlend::kSeparable, TileBlend::kPairwise}) {
    const Tensor merged =
        run_tiles(x, rows, columns, 21, 30, blend, [](const Tensor& tile, std::int64_t) {
          return tile.clone();
        });
    EXPECT_LE(max_difference(merged, x), 1e-6);
  }
}

TEST(Spans, CoverWithoutGaps) {
  for (std::int64_t total = 1; total < 40; ++total) {
    for (std::int64_t size = 2; size < 9; ++size) {
      for (std::int64_t overlap = 0; overlap < size; ++overlap) {
        const auto spans = overlapping_spans(total, size, overlap);
        ASSERT_EQ(spans.front().begin, 0);
        ASSERT_EQ(spans.back().end, total);
        for (std::size_t k = 1; k < spans.size(); ++k) {
          ASSERT_EQ(spans[k].begin, spans[k - 1].end - overlap);
          ASSERT_GT(spans[k].size(), overlap);
        }
      }
    }
  }
}

TEST(Segments, PaperRuleKeepsCountsAndIsNotExact) {
  const auto vae = tiny_vid_vae();
  const Tensor video = random_video(13, 8, 16);
  const Tensor exact = vae->encode(video).mode();
  for (const auto merge : {SegmentOptions::Merge::kDropFirst, SegmentOptions::Merge::kMean}) {
    const SegmentOptions segments = {.frames = 5, .merge = merge};
    const Tensor merged = vae->encode(video, {.segments = segments}).mode();
    ASSERT_EQ(merged.sizes(), exact.sizes());
    EXPECT_GT(max_difference(merged, exact), 1e-4);
    EXPECT_EQ(vae->decode(exact, {.segments = segments}).size(2), 13);
    const SeamError error = measure_seam_error(*vae, video, segments);
    EXPECT_NEAR(error.max_abs_latent, max_difference(merged, exact), 1e-5);
    EXPECT_EQ(error.seam_psnr_db.size(), 2);
    for (const double psnr : error.seam_psnr_db) {
      EXPECT_GT(psnr, 0.0);
      EXPECT_LT(psnr, 150.0);
    }
  }
  // One segment is the exact clip.
  const SegmentOptions one = {.frames = 13};
  EXPECT_LE(max_difference(vae->encode(video, {.segments = one}).mode(), exact), 1e-5);
  EXPECT_LE(measure_seam_error(*vae, video, one).max_abs_latent, 1e-5);
  error_of("vae.segments", [&] {
    static_cast<void>(vae->encode(video, {.segments = SegmentOptions{.frames = 4}}));
  });
}

}  // namespace
}  // namespace kinema::vae
