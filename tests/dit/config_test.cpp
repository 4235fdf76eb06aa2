// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dit/vdit_config.h"
#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

VDitConfig read(const char* text) {
  std::vector<std::string> unknown;
  return VDitConfig::from_json(
      parse_json(text, {.place = "test", .subject = "config.json"}), "config.json", unknown);
}

std::string message(const char* text) {
  try {
    (void)read(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

class ConfigOfLayout : public EveryLayout {};

TEST_P(ConfigOfLayout, ReadsWhatItWrites) {
  const VDitConfig config = small_config(GetParam());
  EXPECT_EQ(read(config.to_json().dump().c_str()), config);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ConfigOfLayout, testing::ValuesIn(kAllLayouts), layout_name);

TEST(VDitConfig, PublicStdit2LacksKeysThatItsWeightsNeed) {
  const VDitConfig config = read(R"({"architectures": ["STDiT2"], "model_type": "STDiT2",
      "model_max_length": 120, "no_temporal_pos_emb": false, "freeze": null,
      "input_size": [null, null, null], "hidden_size": 1152, "depth": 28, "num_heads": 16})");
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.rotate_before_norm);
  EXPECT_TRUE(config.size_conditions && config.frames_condition && config.fps_condition);
  EXPECT_EQ(config.caption_tokens, 120);
  EXPECT_EQ(config.head_width(), 72);
  EXPECT_FALSE(
      read(R"({"architectures": ["STDiT2"], "qk_norm_legacy": false})").rotate_before_norm);
}

TEST(VDitConfig, PublicStdit3) {
  const VDitConfig config = read(R"({"architectures": ["STDiT3"], "caption_channels": 4096,
      "class_dropout_prob": 0.1, "depth": 28, "drop_path": 0.0, "enable_flash_attn": false,
      "enable_layernorm_kernel": false, "enable_sequence_parallelism": false,
      "freeze_y_embedder": true, "hidden_size": 1152, "in_channels": 4,
      "input_size": [null, null, null], "input_sq_size": 512, "mlp_ratio": 4.0,
      "model_max_length": 300, "model_type": "STDiT3", "num_heads": 16,
      "only_train_temporal": false, "patch_size": [1, 2, 2], "pred_sigma": true, "qk_norm": true,
      "skip_y_embedder": false, "torch_dtype": "float32"})");
  EXPECT_EQ(config, VDitConfig());
}

TEST(VDitConfig, PixartDerivesPositionsAndConditionsFromSampleSize) {
  constexpr const char* kText = R"({"_class_name": "%s", "sample_size": %d,
      "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8,
      "cross_attention_dim": 1152, "caption_channels": 4096, "norm_type": "ada_norm_single",
      "norm_elementwise_affine": false, "attention_bias": true,
      "activation_fn": "gelu-approximate", "patch_size": 2})";
  const auto make = [&](const char* name, int size) {
    char text[600];
    std::snprintf(text, sizeof(text), kText, name, size);
    return read(text);
  };
  const VDitConfig large = make("PixArtTransformer2DModel", 128);
  EXPECT_TRUE(large.size_conditions);
  EXPECT_EQ(large.position_base, 64);
  EXPECT_EQ(large.position_scale, 2.0);
  const VDitConfig small = make("Transformer2DModel", 32);
  EXPECT_FALSE(small.size_conditions);
  EXPECT_EQ(small.position_base, 16);
  EXPECT_EQ(small.position_scale, 1.0);
  EXPECT_TRUE(small.predict_variance);
}

TEST(VDitConfig, UnknownKeysOfPublicFilesAreNamedOwnOnesRefused) {
  std::vector<std::string> unknown;
  (void)VDitConfig::from_json(parse_json(R"({"architectures": ["STDiT3"], "colour": 1})",
                                         {.place = "test", .subject = "config.json"}),
                              "config.json",
                              unknown);
  EXPECT_THAT(unknown, ElementsAre("colour"));
  Json json = small_config(Layout::kFull).to_json();
  json["colour"] = 1;
  EXPECT_THAT(message(json.dump().c_str()), HasSubstr("colour"));
}

TEST(VDitConfig, NamesAllBrokenRulesAtOnce) {
  Json json = small_config(Layout::kStdit3).to_json();
  json["num_heads"] = 5;
  json["size_conditions"] = true;
  json["width"] = 38;
  const std::string text = message(json.dump().c_str());
  EXPECT_THAT(text, HasSubstr("not a multiple of 5 heads"));
  EXPECT_THAT(text, HasSubstr("not a multiple of 4"));
  EXPECT_THAT(text, HasSubstr("not a multiple of 3"));
  EXPECT_THAT(text, HasSubstr("layout stdit3 has fps_condition and no other condition"));
}

TEST(VDitConfig, RefusesWhatCannotBe) {
  const auto code = [](const char* text) { return error_code([&] { (void)read(text); }); };
  EXPECT_EQ(code("{}"), "dit.class");
  EXPECT_EQ(code(R"({"_class_name": "UNet2DConditionModel"})"), "dit.class");
  EXPECT_EQ(code(R"({"_class_name": "VDiT", "layout": "spiral"})"), "dit.layout");
  EXPECT_EQ(code(R"({"_class_name": "VDiT", "layout": "full"})"), "config.missing");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "hidden_size": "wide"})"), "config.type");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "hidden_size": 0})"), "config.range");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "depth": 100000})"), "dit.config");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "mlp_ratio": 1e300})"), "config.range");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "skip_y_embedder": true})"), "dit.config");
  EXPECT_EQ(code(R"({"architectures": ["STDiT3"], "patch_size": [1, 2]})"), "config.type");
  EXPECT_EQ(code(R"({"_class_name": "PixArtTransformer2DModel", "caption_channels": 8,
                     "norm_type": "layer_norm"})"),
            "dit.config");
  EXPECT_EQ(code(R"({"_class_name": "PixArtTransformer2DModel", "caption_channels": 8,
                     "out_channels": 5})"),
            "dit.config");
  EXPECT_EQ(code(R"({"_class_name": "PixArtTransformer2DModel"})"), "config.missing");
  EXPECT_EQ(code(R"({"_class_name": "PixArtTransformer2DModel", "caption_channels": 8,
                     "num_attention_heads": 4611686018427387904})"),
            "config.range");
}

}  // namespace
}  // namespace kinema::dit
