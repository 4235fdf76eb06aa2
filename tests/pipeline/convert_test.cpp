// SPDX-License-Identifier: Apache-2.0
// Public checkpoints into model folders: the same numbers come out, names are told, what has no
// place is an error, and nothing appears half done.
#include <filesystem>
#include <functional>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/tensor/from_view.h"
#include "dit/vdit.h"
#include "pipeline/convert_model.h"
#include "pipeline/model_folder.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_t5.h"
#include "tests/support/tiny_vae.h"
#include "vae/autoencoder.h"
#include "vae/sd_vae.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

const std::string kGolden = KINEMA_SOURCE_DIR "/tests/golden/";

TensorMap copied(const std::string& path) {
  TensorMap result;
  for (const auto& [name, tensor] : tensor::load_tensors(path)) {
    result[name] = tensor.clone();
  }
  return result;
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

class ConvertTest : public testing::Test {
 protected:
  ConvertReport convert(ConvertRequest request) {
    request.output = folder_ / "out";
    fs::remove_all(request.output);
    return convert_model(request, null_logger());
  }
  std::string convert_code(const ConvertRequest& request) {
    return code_of([&] { static_cast<void>(convert(request)); });
  }

  /// An image autoencoder under CompVis' names, as its authors' files have it.
  TensorMap compvis_autoencoder() {
    vae::SdVaeConfig config;
    config.block_out_channels = {32, 64};
    config.layers_per_block = 1;
    vae::SdVae network(config);
    TensorMap tensors;
    for (const auto& item : network->named_parameters()) {
      std::string name = item.key();
      Tensor value = at::randn(item.value().sizes()) * 0.1;
      const auto swap = [&](const std::string& from, const std::string& to) {
        const std::size_t at = name.find(from);
        if (at != std::string::npos) {
          name.replace(at, from.size(), to);
        }
      };
      if (name.find("attentions.0.to_") != std::string::npos && value.dim() == 2) {
        value = value.unsqueeze(2).unsqueeze(3);
      }
      swap("mid_block.attentions.0.group_norm", "mid.attn_1.norm");
      swap("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out");
      swap("mid_block.attentions.0.to_", "mid.attn_1.");
      swap("mid_block.resnets.0", "mid.block_1");
      swap("mid_block.resnets.1", "mid.block_2");
      swap("decoder.up_blocks.0", "decoder.up.1 ");
      swap("decoder.up_blocks.1", "decoder.up.0 ");
      swap(" ", "");
      swap("encoder.down_blocks", "encoder.down");
      swap(".resnets.", ".block.");
      swap("conv_shortcut", "nin_shortcut");
      swap("downsamplers.0", "downsample");
      swap("upsamplers.0", "upsample");
      swap("conv_norm_out", "norm_out");
      tensors[name] = value;
    }
    return tensors;
  }

  test::TempFolder folder_;
};

TEST_F(ConvertTest, AnImageAutoencoderInOneFile) {
  TensorMap tensors = compvis_autoencoder();
  tensors["loss.logvar"] = at::zeros({1});
  const std::string file = folder_ / "vae.safetensors";
  tensor::save_tensors(file, tensors);
  const ConvertReport report = convert({.source = file});
  ASSERT_THAT(report.components, SizeIs(1));
  const ConvertedComponent& vae = report.components[0];
  EXPECT_EQ(vae.name, "vae");
  EXPECT_EQ(vae.kind, "AutoencoderKL");
  EXPECT_EQ(vae.tensors_read, std::ssize(tensors));
  EXPECT_EQ(vae.tensors_written, std::ssize(tensors) - 1);
  EXPECT_THAT(vae.left_out, ElementsAre("loss.logvar"));
  EXPECT_THAT(
      vae.renamed,
      Contains(Pair("encoder.mid.attn_1.q.* (2)", "encoder.mid_block.attentions.{}.to_q.*")));
  EXPECT_THAT(report.missing, ElementsAre("transformer", "text_encoder", "tokenizer"));
  EXPECT_THAT(report.to_text(), HasSubstr("decoder.up.{}.block.{}.conv1.* (8)"));

  // The loader takes the original file, too: both must compute the same.
  const std::string made = folder_ / "out/vae";
  const Json config = read_json_file(made + "/config.json", {.place = "test", .subject = made});
  EXPECT_EQ(config["scaling_factor"], 0.18215);
  EXPECT_EQ(config["block_out_channels"], Json::parse("[32,64]"));
  EXPECT_EQ(config["layers_per_block"], 1);
  const Tensor video = at::rand({1, 3, 1, 16, 16});
  const auto from_folder = vae::Autoencoder::load(made, {});
  const auto from_file = vae::Autoencoder::load({made + "/config.json", file}, {});
  EXPECT_TRUE(at::equal(from_folder->encode(video).mode(), from_file->encode(video).mode()));
  EXPECT_TRUE(fs::exists(folder_ / "out/model_index.json"));
}

TEST_F(ConvertTest, AWholeStableDiffusionFileNeedsOnly) {
  TensorMap tensors;
  for (const auto& [name, value] : compvis_autoencoder()) {
    tensors["first_stage_model." + name] = value;
  }
  tensors["model.diffusion_model.out.0.weight"] = at::zeros({4});
  tensors["model.diffusion_model.out.0.bias"] = at::zeros({4});
  tensors["cond_stage_model.x"] = at::zeros({1});
  const std::string file = folder_ / "sd.safetensors";
  tensor::save_tensors(file, tensors);
  try {
    static_cast<void>(convert({.source = file}));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "convert.left_over");
    EXPECT_THAT(error.what(), HasSubstr("cond_stage_model.* (1 tensors), model.* (2 tensors)"));
  }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  const ConvertReport report = convert({.source = file, .only = "vae", .scaling_factor = 0.5});
  EXPECT_EQ(report.components[0].tensors_read, std::ssize(tensors) - 3);
  EXPECT_EQ(vae::Autoencoder::load(folder_ / "out/vae", {})->info().latent_scale[0], 0.5);
}

TEST_F(ConvertTest, ADamagedAutoencoderIsReportedWhole) {
  TensorMap tensors = compvis_autoencoder();
  tensors.erase("decoder.norm_out.bias");
  tensors["decoder.conv_out.bias"] = at::zeros({5});
  tensors["decoder.surprise"] = at::zeros({1});
  tensor::save_tensors(folder_ / "bad.safetensors", tensors);
  try {
    static_cast<void>(convert({.source = folder_ / "bad.safetensors"}));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "weights.mismatch");
    EXPECT_THAT(error.what(), HasSubstr("decoder.conv_norm_out.bias"));
    EXPECT_THAT(error.what(), HasSubstr("decoder.conv_out.bias"));
    EXPECT_THAT(error.what(), HasSubstr("decoder.surprise"));
  }
  EXPECT_EQ(folder_.names().size(), 1U) << "nothing is left behind";
}

diffusion::Conditioning conditioning(std::int64_t channels) {
  diffusion::Conditioning result;
  result.context_BMD = at::randn({1, 5, channels});
  result.height_B = at::full({1}, 64.0);
  result.width_B = at::full({1}, 64.0);
  result.aspect_ratio_B = at::full({1}, 1.0);
  return result;
}

TEST_F(ConvertTest, APixartFileOfItsAuthors) {
  dit::VDitConfig config;
  config.layout = dit::Layout::kPixart;
  config.qk_norm = false;
  config.fps_condition = false;
  config.width = 72;
  config.num_heads = 1;
  config.num_layers = 2;
  config.mlp_width = 96;
  config.caption_channels = 16;
  config.caption_tokens = 7;
  config.size_conditions = true;
  config.position_base = 8;
  config.position_scale = 1.0;
  const auto original = dit::VideoDit::create(config, 3);
  original->save(folder_ / "own");
  TensorMap tensors = copied(folder_ / "own/model.safetensors");
  tensors["x_embedder.proj.weight"] = tensors["x_embedder.proj.weight"].squeeze(2);
  tensors["pos_embed"] = at::zeros({1, 64, 72});
  const std::string file = folder_ / "pixart.safetensors";
  tensor::save_tensors(file, tensors);
  const ConvertReport report = convert({.source = file});
  EXPECT_EQ(report.components[0].name, "transformer");
  EXPECT_THAT(report.components[0].left_out, ElementsAre("pos_embed"));
  const auto made = dit::VideoDit::load(folder_ / "out/transformer", {});
  EXPECT_EQ(made->config(), config);
  const Tensor latents = at::randn({1, 4, 1, 8, 8});
  const auto text = conditioning(16);
  const Tensor time = at::full({1}, 300.0);
  EXPECT_TRUE(at::allclose(
      made->predict(latents, time, text), original->predict(latents, time, text), 1e-5, 1e-5));

  tensors.erase("pos_embed");
  tensor::save_tensors(file, tensors);
  EXPECT_EQ(convert_code({.source = file}), "convert.option");
  EXPECT_EQ(convert_code({.source = file, .image_size = 128}), "");
  EXPECT_EQ(dit::VideoDit::load(folder_ / "out/transformer", {})->config(), config);
}

TEST_F(ConvertTest, AFolderOfDiffusersAndOneOfOpenSora) {
  for (const char* name : {"pixart_square_nomask", "stdit3_image_cfg"}) {
    const std::string golden = kGolden + "dit/" + name + "/";
    fs::create_directories(folder_ / "src");
    fs::copy_file(
        golden + "config.json", folder_ / "src/config.json", fs::copy_options::overwrite_existing);
    fs::copy_file(golden + "weights.safetensors",
                  folder_ / "src/model.safetensors",
                  fs::copy_options::overwrite_existing);
    const ConvertReport report = convert({.source = folder_ / "src"});
    ASSERT_FALSE(report.components.empty()) << name;
    const bool is_open_sora = name[0] == 's';
    EXPECT_EQ(report.components.size(), is_open_sora ? 2U : 1U) << "Open-Sora's sampler is known";
    EXPECT_EQ(report.components[0].renamed.empty(), is_open_sora);
    const auto before = dit::VideoDit::load(folder_ / "src", {});
    const auto after = dit::VideoDit::load(folder_ / "out/transformer", {});
    EXPECT_EQ(before->config(), after->config());
    EXPECT_EQ(before->info().num_parameters, after->info().num_parameters);
    EXPECT_EQ(before->info().num_weight_bytes, after->info().num_weight_bytes);
  }
}

TEST_F(ConvertTest, AModelFolderFromFourPlaces) {
  const std::string golden = kGolden + "dit/stdit3_image_cfg/";
  fs::create_directories(folder_ / "dit");
  fs::copy_file(golden + "config.json", folder_ / "dit/config.json");
  fs::copy_file(golden + "weights.safetensors", folder_ / "dit/model.safetensors");
  test::TinyT5().save(folder_ / "t5");
  write_file(folder_ / "t5/pytorch_model.bin", "a pickle");
  test::save_tiny_vae(folder_ / "vae");
  const ConvertReport report = convert({.source = folder_ / "dit",
                                        .vae = folder_ / "vae",
                                        .text_encoder = folder_ / "t5",
                                        .tokenizer = kGolden + "text/tokenizer_t5"});
  EXPECT_THAT(report.missing, IsEmpty());
  const ModelFolder model = ModelFolder::open(folder_ / "out");
  EXPECT_EQ(vae::Autoencoder::load(model.vae, {})->info().family, "vidvae");
  EXPECT_TRUE(model.scheduler.has_value());
  EXPECT_FALSE(fs::exists(folder_ / "out/text_encoder/pytorch_model.bin"));
}

TEST_F(ConvertTest, MistakesLeaveNothing) {
  write_file(folder_ / "x.safetensors", "12345678 no such file");
  EXPECT_EQ(convert_code({.source = folder_ / "x.safetensors"}).substr(0, 12), "safetensors.");
  tensor::save_tensors(folder_ / "w.safetensors", {{"w", at::ones({2})}});
  EXPECT_EQ(convert_code({.source = folder_ / "w.safetensors"}), "convert.unknown");
  EXPECT_EQ(convert_code({.source = folder_ / "none"}), "io.open");
  fs::create_directories(folder_ / "empty");
  EXPECT_EQ(convert_code({.source = folder_ / "empty"}), "convert.unknown");
  write_file(folder_ / "empty/config.json", "{\"_class_name\":\"UNet2DConditionModel\"}");
  EXPECT_EQ(convert_code({.source = folder_ / "empty"}), "convert.unknown");
  test::save_tiny_vae(folder_ / "vae");
  EXPECT_EQ(convert_code({.source = folder_ / "vae", .vae = folder_ / "vae"}), "convert.option");
  EXPECT_EQ(convert_code({.source = folder_ / "vae", .only = "unet"}), "convert.option");
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_EQ(code_of([&] {
              static_cast<void>(convert_model(
                  {.source = folder_ / "vae", .output = folder_ / "empty"}, null_logger()));
            }),
            "output.not_empty");
  fs::create_directories(folder_ / "pipe");
  write_file(
      folder_ / "pipe/model_index.json",
      R"({"_class_name":"X","vae":["d","AutoencoderKL"],"unet":["d","UNet2DConditionModel"]})");
  test::save_tiny_vae(folder_ / "pipe/vae");
  EXPECT_EQ(convert_code({.source = folder_ / "pipe"}), "convert.left_over");
  EXPECT_EQ(convert_code({.source = folder_ / "pipe", .only = "vae"}), "");
}

}  // namespace
}  // namespace kinema::pipeline
