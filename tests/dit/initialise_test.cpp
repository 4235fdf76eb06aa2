// SPDX-License-Identifier: Apache-2.0
#include "dit/initialise.h"

#include <cmath>

#include <gmock/gmock.h>

#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

using testing::Contains;

Tensor parameter(const VideoDit& model, const std::string& name) {
  return model.module()->named_parameters()[name].detach();
}

bool same_parameters(const VideoDit& a, const VideoDit& b) {
  const auto ours = a.module()->named_parameters();
  for (const auto& item : b.module()->named_parameters()) {
    if (!at::equal(ours[item.key()], item.value())) {
      return false;
    }
  }
  return true;
}

TEST(InitWeights, SeedAloneDecides) {
  const VDitConfig config = small_config(Layout::kStdit3);
  at::manual_seed(1);
  const Tensor untouched = at::rand({4});
  at::manual_seed(1);
  const auto first = VideoDit::create(config, 7);
  EXPECT_TRUE(at::equal(at::rand({4}), untouched)) << "the global generator was used";
  EXPECT_TRUE(same_parameters(*first, *VideoDit::create(config, 7)));
  EXPECT_FALSE(same_parameters(*first, *VideoDit::create(config, 8)));
  // Parameters have streams of their own: more layers do not change the first.
  VDitConfig deeper = config;
  deeper.num_layers = 3;
  const std::string name = "spatial_blocks.0.mlp.fc1.weight";
  EXPECT_TRUE(at::equal(parameter(*first, name), parameter(*VideoDit::create(deeper, 7), name)));
}

TEST(InitWeights, FollowsTheReferences) {
  VDitConfig config = small_config(Layout::kStdit2);
  config.width = 120;
  const auto model = VideoDit::create(config, 1);
  const auto deviation = [&](const std::string& name) {
    return parameter(*model, name).std().item<double>();
  };
  const auto largest = [&](const std::string& name) {
    return parameter(*model, name).abs().max().item<double>();
  };
  const double bound = std::sqrt(6.0 / (120 + 360));
  EXPECT_LE(largest("blocks.0.attn.qkv.weight"), bound);
  EXPECT_NEAR(deviation("blocks.0.attn.qkv.weight"), bound / std::sqrt(3.0), 0.01 * bound);
  EXPECT_LE(largest("x_embedder.proj.weight"), std::sqrt(6.0 / (120 + 12)));
  for (const char* name : {"t_embedder.mlp.0.weight",
                           "t_block.1.weight",
                           "t_block_temp.1.weight",
                           "csize_embedder.mlp.2.weight",
                           "y_embedder.y_proj.fc2.weight"}) {
    EXPECT_NEAR(deviation(name), 0.02, 0.002) << name;
  }
  EXPECT_NEAR(deviation("blocks.1.scale_shift_table"), 1.0 / std::sqrt(120.0), 0.008);
  for (const char* name : {"final_layer.linear.weight",
                           "blocks.0.cross_attn.proj.weight",
                           "blocks.0.attn_temp.proj.weight",
                           "blocks.0.attn.qkv.bias"}) {
    EXPECT_EQ(largest(name), 0.0) << name;
  }
  EXPECT_EQ(parameter(*model, "blocks.0.attn.q_norm.weight").min().item<double>(), 1.0);

  const auto later = VideoDit::create(small_config(Layout::kStdit3), 1);
  const auto zero = [&](const std::string& name) {
    return parameter(*later, name).abs().max().item<double>() == 0.0;
  };
  EXPECT_TRUE(zero("temporal_blocks.0.attn.proj.weight"));
  EXPECT_TRUE(zero("temporal_blocks.0.cross_attn.proj.weight"));
  EXPECT_TRUE(zero("temporal_blocks.0.mlp.fc2.weight"));
  EXPECT_TRUE(zero("fps_embedder.mlp.2.weight"));
  EXPECT_FALSE(zero("spatial_blocks.0.attn.proj.weight"));
  EXPECT_FALSE(zero("final_layer.linear.weight"));
}

class FromPixart : public testing::TestWithParam<Layout> {
 protected:
  static VDitConfig image_config(bool micro_conditions) {
    VDitConfig config = small_config(Layout::kPixart);
    config.size_conditions = micro_conditions;
    config.caption_tokens = 4;
    return config;
  }
  /// A video model that can hold the image model.
  static VDitConfig video_config(Layout layout) {
    VDitConfig config = small_config(layout);
    config.qk_norm = false;
    config.position_base = 4;
    return config;
  }
};

TEST_P(FromPixart, OneFrameGivesTheImage) {
  const auto image = small_model(image_config(false), 40);
  const auto video = small_model(video_config(GetParam()), 50);
  const PixartReport report = initialise_from_pixart(*video->module(), *image->module());
  EXPECT_GT(report.num_copied, 40);
  EXPECT_THAT(report.kept, Contains("fps_embedder.mlp.0.weight"));
  SmallInputs in = small_inputs(image->config());
  in.latents_BCTHW = in.latents_BCTHW.narrow(2, 0, 1);
  const Tensor expected = image->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  EXPECT_GT(expected.std().item<double>(), 0.01);
  const Tensor got = video->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  EXPECT_LE(relative_difference(got, expected), 1e-5);
  // The null caption got longer by its last row.
  const Tensor null = parameter(*video, "y_embedder.y_embedding");
  EXPECT_TRUE(at::equal(null[6], parameter(*image, "y_embedder.y_embedding")[3]));
  // Frames of a video are pictures of their own until temporal attention has learned.
  const SmallInputs clip = small_inputs(image->config());
  EXPECT_LE(
      relative_difference(video->predict(clip.latents_BCTHW, clip.timesteps_B, clip.conditioning),
                          image->predict(clip.latents_BCTHW, clip.timesteps_B, clip.conditioning)),
      1e-5);
}

INSTANTIATE_TEST_SUITE_P(Layouts,
                         FromPixart,
                         testing::Values(Layout::kStdit2, Layout::kStdit3),
                         layout_name);

TEST_F(FromPixart, RefusesOtherModels) {
  const auto image = small_model(image_config(false));
  const auto code = [&](const VDitConfig& config) {
    const auto target = VideoDit::create(config, 1);
    return error_code([&] { (void)initialise_from_pixart(*target->module(), *image->module()); });
  };
  EXPECT_EQ(code(small_config(Layout::kFull)), "dit.pixart");
  VDitConfig deeper = video_config(Layout::kStdit3);
  deeper.num_layers = 3;
  EXPECT_EQ(code(deeper), "dit.pixart");
  const auto video = VideoDit::create(video_config(Layout::kStdit3), 1);
  EXPECT_EQ(error_code([&] { (void)initialise_from_pixart(*video->module(), *video->module()); }),
            "dit.pixart");
}

}  // namespace
}  // namespace kinema::dit
