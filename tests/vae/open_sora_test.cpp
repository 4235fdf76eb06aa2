// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/vae/foreign_models.h"
#include "vae/open_sora_vae.h"

namespace kinema::vae {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::random_latents;
using testing::random_video;
using testing::tiny_open_sora;
using testing::tiny_open_sora_config;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "no error";
}

Json public_config() {
  return Json::parse(R"({
    "architectures": ["VideoAutoencoderPipeline"], "model_type": "VideoAutoencoderPipeline",
    "cal_loss": false, "freeze_vae_2d": false, "from_pretrained": null, "micro_frame_size": 17,
    "scale": [3.85, 2.32, 2.33, 3.06], "shift": [-0.10, 0.34, 0.27, 0.98],
    "vae_2d": {"type": "VideoAutoencoderKL", "from_pretrained": "PixArt-alpha/x",
               "subfolder": "vae", "micro_batch_size": 4, "local_files_only": false},
    "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": null}})");
}

std::string config_error(const std::function<void(Json&)>& change) {
  Json json = public_config();
  change(json);
  return error_of([&] { static_cast<void>(OpenSoraVaeConfig::from_json(json, "config.json")); });
}

TEST(OpenSoraConfig, PublishedFileMeansTheDefaults) {
  EXPECT_EQ(OpenSoraVaeConfig::from_json(public_config(), "c"), OpenSoraVaeConfig{});
  const TemporalVaeConfig temporal = tiny_open_sora_config().temporal;
  EXPECT_EQ(TemporalVaeConfig::from_json(temporal.to_json(), "c"), temporal);
}

TEST(OpenSoraConfig, RefusesWhatCannotWork) {
  EXPECT_THAT(config_error([](Json& j) { j["vae_temporal"]["type"] = "Other"; }),
              AllOf(HasSubstr("vae_temporal"), HasSubstr("Other")));
  EXPECT_THAT(config_error([](Json& j) { j["vae_temporal"]["activation_fn"] = "relu"; }),
              HasSubstr("swish"));
  EXPECT_THAT(config_error([](Json& j) { j["vae_temporal"]["temporal_downsample"] = {true}; }),
              HasSubstr("one entry less"));
  EXPECT_THAT(config_error([](Json& j) { j["vae_temporal"]["in_out_channels"] = 8; }),
              HasSubstr("in_out_channels"));
  EXPECT_THAT(config_error([](Json& j) { j["scale"] = {1.0, 2.0}; }),
              HasSubstr("one number per latent channel"));
  EXPECT_THAT(config_error([](Json& j) { j["scale"] = 1.0; }), HasSubstr("shift"));
  EXPECT_THAT(config_error([](Json& j) { j["micro_frame_size"] = 0; }),
              HasSubstr("micro_frame_size"));
  EXPECT_THAT(config_error([](Json& j) { j["vae_2d"] = 3; }), HasSubstr("an object"));
}

TEST(OpenSoraConfig, SingleNumbersNormaliseAllChannels) {
  OpenSoraVaeConfig config = tiny_open_sora_config();
  config.scalar_normalisation = true;
  config.scale = {2.0};
  config.shift = {0.5};
  const auto vae = tiny_open_sora(config);
  const Tensor z = random_latents(1, 2, 2);
  EXPECT_LE(max_difference(vae->to_model_space(z), (z - 0.5) / 2.0), 1e-6);
}

TEST(OpenSora, StreamEqualsWholeForAnyPieces) {
  for (const std::int64_t micro : {17, 6}) {
    OpenSoraVaeConfig config = tiny_open_sora_config();
    config.micro_frame_size = micro;
    const auto vae = tiny_open_sora(config);
    for (const std::int64_t frames : {4, 18, 37}) {
      const Tensor x = random_video(frames, 8, 8);
      const Posterior whole = vae->encode(x);
      EXPECT_EQ(whole.mode().size(2), vae->latent_frames(frames));
      const DecodeOptions options = {.num_frames = frames};
      const Tensor pixels = vae->decode(whole.mode(), options);
      EXPECT_EQ(pixels.size(2), frames);
      const auto seed = static_cast<unsigned>(frames);
      EXPECT_LE(max_difference(whole.mode(), testing::encode_streamed(*vae, x, seed).mode()), 1e-5)
          << frames;
      const Tensor streamed = testing::decode_streamed(*vae, whole.mode(), seed, options);
      EXPECT_LE(max_difference(pixels, streamed), 1e-5) << frames;
    }
  }
}

TEST(OpenSora, MicroClipsAreIndependent) {
  const auto vae = tiny_open_sora();
  const Tensor x = random_video(34, 8, 8);
  const Tensor whole = vae->encode(x).mode();
  EXPECT_LE(max_difference(whole.narrow(2, 5, 5), vae->encode(x.narrow(2, 17, 17)).mode()), 1e-5);
}

TEST(OpenSora, LatentCountsOfThePaper) {
  const OpenSoraVaeConfig config;
  EXPECT_EQ(config.latent_frames(51), 15);
  EXPECT_EQ(config.latent_frames(102), 30);
  EXPECT_EQ(config.latent_frames(408), 120);
  EXPECT_EQ(config.latent_frames(18), 6);
}

TEST(OpenSora, FramesPerBatchOfTheImageAutoencoderChangeNothing) {
  OpenSoraVaeConfig config = tiny_open_sora_config();
  const Tensor x = random_video(5, 8, 8);
  const Tensor four = tiny_open_sora(config)->encode(x).mode();
  config.micro_batch_size = std::nullopt;
  EXPECT_LE(max_difference(four, tiny_open_sora(config)->encode(x).mode()), 1e-5);
}

TEST(OpenSora, WholeClipsCannotStream) {
  OpenSoraVaeConfig config = tiny_open_sora_config();
  config.micro_frame_size = std::nullopt;
  const auto vae = tiny_open_sora(config);
  EXPECT_EQ(vae->latent_frames(34), 9);
  EXPECT_EQ(vae->encode(random_video(18, 8, 8)).mode().size(2), 5);
  EXPECT_THAT(error_of([&] { static_cast<void>(vae->encode_stream()); }), HasSubstr("vae.stream"));
}

TEST(OpenSora, TemporalDecoderChecksTheLength) {
  const TemporalVaeConfig config = tiny_open_sora_config().temporal;
  const auto network = testing::random_network<TemporalVae>(config);
  const at::NoGradGuard no_grad;
  EXPECT_EQ(network->decode(random_latents(2, 2, 2), 5).size(2), 5);
  EXPECT_THAT(error_of([&] { static_cast<void>(network->decode(random_latents(2, 2, 2), 9)); }),
              AllOf(HasSubstr("vae.frames"), HasSubstr("5 to 8"), HasSubstr("9")));
}

TEST(OpenSora, DepthToTimeTakesChannelsInPairs) {
  const Tensor x = at::arange(8, at::kFloat).view({1, 4, 2, 1, 1});
  // Channels 0 and 1 are the even and odd frames of channel 0.
  EXPECT_TRUE(at::equal(depth_to_time(x).view({2, 4}),
                        at::tensor({0.0F, 2.0F, 1.0F, 3.0F, 4.0F, 6.0F, 5.0F, 7.0F}).view({2, 4})));
}

TEST(OpenSora, Bf16IsNearFp32) {
  const auto config = tiny_open_sora_config();
  auto network = testing::random_network<OpenSoraVae>(config);
  network->scale.fill_(2.0);
  network->shift.fill_(0.0);
  const Tensor x = random_video(5, 16, 8);
  const at::NoGradGuard no_grad;
  const Tensor wide = Autoencoder(make_open_sora_codec(network, {})).encode(x).mode();
  network->to(at::kBFloat16);
  const tensor::Place place = {c10::Device(c10::kCPU), at::kBFloat16};
  const Tensor narrow = Autoencoder(make_open_sora_codec(network, place)).encode(x).mode();
  EXPECT_LE(max_difference(narrow.to(at::kFloat), wide), 0.3 * wide.std().item<double>());
}

}  // namespace
}  // namespace kinema::vae
