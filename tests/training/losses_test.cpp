// SPDX-License-Identifier: Apache-2.0
// Perceptual and adversarial losses, and clips from video files.
#include <cmath>
#include <fstream>

#include "training/patch_discriminator.h"
#include "training/perceptual_loss.h"
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/tensor/from_view.h"
#include "core/tensor/noise.h"
#include "tests/support/temp_folder.h"
#ifdef KINEMA_WITH_MEDIA
#include "training/video_clips.h"

#include "media/video_writer.h"
#endif

namespace kinema::training {
namespace {

Tensor drawn(const std::string& name, c10::IntArrayRef sizes) {
  return tensor::normal_noise_flat({.seed = 4, .name = name}, sizes);
}

/// VGG-16 of the public layout with drawn weights, and a classifier that has no part in it.
std::string write_vgg(const test::TempFolder& folder) {
  TensorMap weights;
  std::int64_t in = 3;
  const std::int64_t widths[13] = {64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512};
  const std::int64_t indices[13] = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28};
  for (int i = 0; i < 13; ++i) {
    const std::string name = "features." + std::to_string(indices[i]);
    weights[name + ".weight"] =
        drawn(name, {widths[i], in, 3, 3}) * std::sqrt(2.0 / (9.0 * static_cast<double>(in)));
    weights[name + ".bias"] = at::zeros({widths[i]});
    in = widths[i];
  }
  weights["classifier.0.weight"] = at::zeros({2, 2});
  const std::string path = folder / "vgg16.safetensors";
  tensor::save_tensors(path, weights);
  return path;
}

TEST(PerceptualLoss, ZeroForEqualGrowsWithDamageAndHasGradients) {
  const test::TempFolder folder;
  const PerceptualLoss loss(write_vgg(folder));
  const Tensor video = drawn("video", {1, 3, 2, 32, 32}).clamp(-1, 1);
  const Tensor noise = drawn("noise", {1, 3, 2, 32, 32});
  const auto distance = [&](double amount) {
    return loss(video + amount * noise, video).item<double>();
  };
  EXPECT_NEAR(distance(0), 0, 1e-7);
  EXPECT_GT(distance(0.05), 0);
  EXPECT_GT(distance(0.3), distance(0.05));
  const Tensor other = (video + 0.1 * noise).detach().requires_grad_();
  loss(other, video).backward();
  EXPECT_GT(other.grad().abs().max().item<double>(), 0);
}

TEST(PerceptualLoss, FileThatIsNoVggIsRefused) {
  const test::TempFolder folder;
  tensor::save_tensors(folder / "x.safetensors", {{"features.0.weight", at::zeros({64, 3, 3, 3})}});
  EXPECT_THROW(PerceptualLoss(folder / "x.safetensors"), Error);
}

TEST(PatchDiscriminator, LearnsToTellTwoKindsApart) {
  PatchDiscriminator network(3, 8);
  network->initialise(1);
  const Tensor real = drawn("real", {2, 3, 5, 32, 32}) * 0.2 + 0.5;
  const Tensor fake = drawn("fake", {2, 3, 5, 32, 32}) * 0.2 - 0.5;
  EXPECT_EQ(network->forward(real).size(1), 1);
  double first = 0;
  double last = 0;
  for (int step = 0; step < 20; ++step) {
    const Tensor loss = hinge_discriminator_loss(network->forward(real), network->forward(fake));
    last = loss.item<double>();
    first = step == 0 ? last : first;
    loss.backward();
    const at::NoGradGuard no_grad;
    for (Tensor& parameter : network->parameters()) {
      parameter.sub_(parameter.grad(), 0.05);
      parameter.mutable_grad() = Tensor();
    }
  }
  EXPECT_LT(last, 0.5 * first);
}

TEST(HingeLoss, EqualsItsDefinition) {
  const Tensor real = at::tensor({2.0F, 0.5F, -1.0F});
  const Tensor fake = at::tensor({-3.0F, 0.0F, 1.0F});
  // Real: 0, 0.5, 2; fake: 0, 1, 2.
  EXPECT_NEAR(hinge_discriminator_loss(real, fake).item<double>(), 0.5 * (2.5 / 3 + 1), 1e-6);
}

TEST(AdaptiveWeight, IsTheRatioOfGradientsAtTheLastLayer) {
  const Tensor weight = at::tensor({1.0F, 2.0F}).requires_grad_();
  const Tensor a = (weight * at::tensor({3.0F, 4.0F})).sum();
  const Tensor b = (weight * at::tensor({0.0F, 0.5F})).sum();
  EXPECT_NEAR(adaptive_weight(a, b, weight), 5.0 / (0.5 + 1e-4), 1e-3);
  EXPECT_FALSE(weight.grad().defined());
}

#ifdef KINEMA_WITH_MEDIA
/// A clip whose frame f has the value 10 f everywhere.
void write_steps(const std::string& path, std::int64_t frames) {
  media::WriteOptions options;
  options.width = 48;
  options.height = 32;
  options.fps = {8, 1};
  media::VideoWriter writer = media::VideoWriter::open(path, options);
  for (std::int64_t f = 0; f < frames; ++f) {
    const std::vector<std::uint8_t> pixels(48 * 32 * 3, static_cast<std::uint8_t>(10 * f));
    writer.add({.rgb_HWC = pixels, .width = 48, .height = 32});
  }
  static_cast<void>(writer.finish());
}

TEST(VideoClips, CutsAreConsecutiveFramesOfTheRightSize) {
  const test::TempFolder folder;
  write_steps(folder / "a.y4m", 12);
  write_steps(folder / "b.y4m", 9);
  write_steps(folder / "short.y4m", 3);
  write_file(folder / "notes.txt", "no video");
  const VideoClips clips(folder.path(), 16, 5, /*seed=*/1, null_logger());
  EXPECT_EQ(clips.num_training_videos(), 1);
  EXPECT_EQ(clips.num_validation_videos(), 1);
  for (std::int64_t index = 0; index < 6; ++index) {
    const Tensor video = clips.clip(index, 5).video_CFHW;
    ASSERT_EQ(video.sizes(), (std::vector<std::int64_t>{3, 5, 16, 16}));
    const Tensor means = video.to(at::kFloat).mean({0, 2, 3});
    const Tensor steps = means.narrow(0, 1, 4) - means.narrow(0, 0, 4);
    EXPECT_LE((steps - 10).abs().max().item<double>(), 2.5) << index;
    EXPECT_TRUE(clips.clip(index, 5).video_CFHW.equal(video));
  }
}

TEST(VideoClips, ManifestCarriesCaptionsAndMistakesAreTold) {
  const test::TempFolder folder;
  write_steps(folder / "a.y4m", 6);
  write_file(folder / "list.jsonl",
             R"({"path":"a.y4m","caption":"grey"})"
             "\n");
  const VideoClips clips(folder / "list.jsonl", 16, 5, 1, null_logger());
  EXPECT_EQ(clips.clip(3, 5).caption, "grey");
  try {
    const VideoClips none(folder / "list.jsonl", 16, 7, 1, null_logger());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "train.data");
  }
  write_file(folder / "bad.jsonl", "{\"caption\":\"no path\"}\n");
  EXPECT_THROW(VideoClips(folder / "bad.jsonl", 16, 5, 1, null_logger()), Error);
}
#endif

}  // namespace
}  // namespace kinema::training
