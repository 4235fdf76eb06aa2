// SPDX-License-Identifier: Apache-2.0
// Folders: what is written can be read, foreign names are understood, what does not fit is named.
#include <filesystem>

#include <gmock/gmock.h>

#include "core/base/file.h"
#include "core/tensor/from_view.h"
#include "dit/foreign_weights.h"
#include "tests/dit/small_models.h"
#include "tests/support/temp_folder.h"

namespace kinema::dit {
namespace {

using testing::HasSubstr;

class DitFolder : public EveryLayout {};

TEST_P(DitFolder, ReadsWhatItWrites) {
  const test::TempFolder folder;
  const auto model = small_model(small_config(GetParam()));
  model->save(folder.path());
  const auto again = VideoDit::load(folder.path(), {});
  EXPECT_EQ(again->config(), model->config());
  EXPECT_EQ(again->info().num_parameters,
            model->info().num_parameters + (model->module()->named_buffers().size() > 0 ? 6 : 0));
  const SmallInputs in = small_inputs(model->config());
  EXPECT_TRUE(at::equal(again->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning),
                        model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning)));
}

TEST_P(DitFolder, NarrowWeightsAreWidened) {
  const test::TempFolder folder;
  const auto model = small_model(small_config(GetParam()));
  {
    at::NoGradGuard no_grad;
    for (Tensor& parameter : model->module()->parameters()) {
      parameter.copy_(parameter.to(at::kBFloat16));
    }
  }
  model->save(folder.path());
  TensorMap narrow;
  for (const auto& [name, tensor] : tensor::load_tensors(folder / "model.safetensors")) {
    narrow.emplace(name, name == "rope.freqs" ? tensor.clone() : tensor.to(at::kBFloat16));
  }
  tensor::save_tensors(folder / "narrow.safetensors", narrow);
  const auto again = VideoDit::load({folder / "config.json", folder / "narrow.safetensors"}, {});
  EXPECT_LT(again->info().num_weight_bytes, 3 * again->info().num_parameters);
  const SmallInputs in = small_inputs(model->config());
  EXPECT_LE(relative_difference(again->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning),
                                model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning)),
            1e-5);
}

INSTANTIATE_TEST_SUITE_P(Layouts, DitFolder, testing::ValuesIn(kAllLayouts), layout_name);

TEST(DitWeights, LengthOfTheNullCaptionComesFromTheFile) {
  const test::TempFolder folder;
  VDitConfig config = small_config(Layout::kStdit2);
  small_model(config)->save(folder.path());
  config.caption_tokens = 3;  // the public stage-2 config has another length than its weights
  write_file(folder / "config.json", config.to_json().dump());
  EXPECT_EQ(VideoDit::load(folder.path(), {})->config().caption_tokens, 7);
}

TEST(DitWeights, TrainsAfterLoading) {
  const test::TempFolder folder;
  const auto saved = small_model(small_config(Layout::kFull));
  saved->save(folder.path());
  const auto model = VideoDit::load(folder.path(), {}, null_logger(), Purpose::kTrain);
  const SmallInputs in = small_inputs(model->config());
  const Tensor before = model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning);
  EXPECT_TRUE(at::equal(before, saved->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning)));
  model->module()
      ->forward(in.latents_BCTHW, in.timesteps_B, in.conditioning)
      .square()
      .mean()
      .backward();
  {
    at::NoGradGuard no_grad;
    for (Tensor& parameter : model->module()->parameters()) {
      if (parameter.grad().defined()) {
        parameter.sub_(parameter.grad(), 0.01);
      }
    }
  }
  EXPECT_GT(relative_difference(model->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning),
                                before),
            1e-4);
  EXPECT_TRUE(at::equal(
      VideoDit::load(folder.path(), {})->predict(in.latents_BCTHW, in.timesteps_B, in.conditioning),
      before))
      << "training wrote to the file";
}

/// Counts of the published models (2^20 parameters: 731.9 and 1151.7), without the null caption.
TEST(DitWeights, FullSizesHaveThePublishedCounts) {
  const auto count = [](const char* text) {
    std::vector<std::string> unknown;
    const VDitConfig config = VDitConfig::from_json(
        parse_json(text, {.place = "test", .subject = "config.json"}), "config.json", unknown);
    const VDiT model(config, nn::ParameterOptions{.deferred = true});
    std::int64_t elements = 0;
    for (const auto& item : model->named_parameters()) {
      elements += item.key() == "y_embedder.y_embedding" ? 0 : item.value().numel();
    }
    return std::pair(elements, model->named_parameters().size() + model->named_buffers().size());
  };
  EXPECT_EQ(count(R"({"architectures": ["STDiT2"]})").first, 767'452'064);
  const auto [parameters, tensors] = count(R"({"architectures": ["STDiT3"]})");
  EXPECT_EQ(parameters, 1'207'643'936);
  EXPECT_EQ(tensors, 973);
}

TEST(DitWeights, AnglesStayFloat) {
  const test::TempFolder folder;
  small_model(small_config(Layout::kStdit3))->save(folder.path());
  const auto model = VideoDit::load(folder.path(), {c10::kCPU, c10::kBFloat16});
  EXPECT_EQ(model->module()->named_buffers()["rope.freqs"].scalar_type(), at::kFloat);
}

TEST(DitWeights, WhatDoesNotFitIsNamed) {
  const test::TempFolder folder;
  const auto model = small_model(small_config(Layout::kStdit3));
  model->save(folder.path());
  TensorMap tensors;
  for (const auto& [name, tensor] : tensor::load_tensors(folder / "model.safetensors")) {
    tensors.emplace(name, tensor.clone());
  }
  tensors.erase("t_block.1.weight");
  tensors["spatial_blocks.0.mlp.fc1.bias"] = at::zeros({3});
  tensors["stray"] = at::zeros({3});
  tensor::save_tensors(folder / "model.safetensors", tensors);
  try {
    (void)VideoDit::load(folder.path(), {});
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "weights.mismatch");
    EXPECT_THAT(error.what(), HasSubstr("t_block.1.weight"));
    EXPECT_THAT(error.what(), HasSubstr("spatial_blocks.0.mlp.fc1.bias"));
    EXPECT_THAT(error.what(), HasSubstr("stray"));
  }
  EXPECT_EQ(error_code([&] { (void)VideoDit::load(folder / "absent", {}); }), "io.open");
}

TEST(DitWeights, DiffusersProjectionsThatDoNotFitAreLeftForTheLoader) {
  const test::TempFolder folder;
  TensorMap tensors = {{"adaln_single.linear.weight", at::zeros({6, 1})},
                       {"transformer_blocks.0.attn1.to_q.weight", at::full({2, 2}, 1.0)},
                       {"transformer_blocks.0.attn1.to_k.weight", at::full({2, 2}, 2.0)},
                       {"transformer_blocks.0.attn1.to_v.weight", at::full({2, 2}, 3.0)},
                       {"transformer_blocks.1.attn1.to_q.weight", at::zeros({2, 2})},
                       {"transformer_blocks.1.attn1.to_k.weight", at::zeros({2, 3})},
                       {"transformer_blocks.1.attn1.to_v.weight", at::zeros({2, 2})},
                       {"pos_embed.proj.weight", at::zeros({4, 3, 2, 2})}};
  tensor::save_tensors(folder / "w.safetensors", tensors);
  const auto file = io::SafetensorsFile::open(folder / "w.safetensors");
  const io::TensorViews ours = with_own_names(file.tensors());
  const auto joined = ours.find("blocks.0.attn.qkv.weight");
  ASSERT_NE(joined, ours.end());
  const Tensor qkv = tensor::tensor_from_view(joined->second);
  EXPECT_TRUE(at::equal(qkv.select(1, 0), at::tensor({1.0F, 1.0F, 2.0F, 2.0F, 3.0F, 3.0F})));
  EXPECT_TRUE(ours.contains("blocks.1.attn.to_k.weight"));
  EXPECT_FALSE(ours.contains("blocks.1.attn.qkv.weight"));
  EXPECT_EQ(ours.at("x_embedder.proj.weight").shape, (io::Shape{4, 3, 1, 2, 2}));
}

}  // namespace
}  // namespace kinema::dit
