// SPDX-License-Identifier: Apache-2.0
// Latent files: what is written comes back, and files that are something else are told apart.
#include "pipeline/latent_file.h"

#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/tensor/from_view.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

vae::Posterior random_posterior(std::int64_t frames) {
  return {at::randn({1, 4, frames, 3, 5}), at::randn({1, 4, frames, 3, 5})};
}

LatentFacts some_facts() {
  LatentFacts facts;
  facts.source = {"films/é.mp4", 123, 456};
  facts.frames = 9;
  facts.width = 40;
  facts.height = 24;
  facts.fps = {24000, 1001};
  facts.settings = {{"mode", "stream"}, {"fps", 8.0}};
  facts.autoencoder = {{"family", "vidvae"}};
  facts.caption = "a \"red\" circle";
  facts.extra = {{"id", 7}, {"tags", {"a", "b"}}};
  return facts;
}

std::string code_of(const std::string& path) {
  try {
    static_cast<void>(LatentFile::open(path));
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

TEST(LatentFileTest, ClipsComeBack) {
  const test::TempFolder folder;
  const std::string path = folder / "a.safetensors";
  const vae::Posterior first = random_posterior(3);
  const vae::Posterior second = random_posterior(3);
  for (const auto dtype : {io::DType::kF32, io::DType::kBF16}) {
    LatentFileWriter writer(path, dtype);
    // Pieces of any size make a clip.
    writer.add({first.mean_BCTHW.narrow(2, 0, 1), first.logvar_BCTHW.narrow(2, 0, 1)});
    writer.add({first.mean_BCTHW.narrow(2, 1, 2), first.logvar_BCTHW.narrow(2, 1, 2)});
    writer.end_clip();
    writer.add(random_posterior(2));
    writer.drop_clip();
    writer.add(second);
    writer.end_clip();
    writer.finish(some_facts());
    EXPECT_EQ(folder.names().size(), 1U) << "nothing else stays in the folder";

    const LatentFile file = LatentFile::open(path);
    EXPECT_EQ(file.clips(), 2);
    EXPECT_EQ(file.latents(), 3);
    EXPECT_EQ(file.channels(), 4);
    EXPECT_EQ(file.dtype(), dtype);
    const auto scalar = tensor::to_scalar_type(dtype);
    const vae::Posterior back = file.read(1, 1, 2);
    EXPECT_TRUE(
        at::equal(back.mean_BCTHW, second.mean_BCTHW.narrow(2, 1, 2).to(scalar).to(at::kFloat)));
    EXPECT_TRUE(
        at::equal(file.read(0, 0, 3).logvar_BCTHW, first.logvar_BCTHW.to(scalar).to(at::kFloat)));
  }
}

TEST(LatentFileTest, FactsComeBack) {
  const LatentFacts facts = some_facts();
  const LatentFacts back = LatentFacts::from_text(facts.to_text(), "test");
  EXPECT_EQ(back.source, facts.source);
  EXPECT_EQ(back.frames, 9);
  EXPECT_EQ(back.fps, facts.fps);
  EXPECT_EQ(back.settings, facts.settings);
  EXPECT_EQ(back.caption, facts.caption);
  EXPECT_EQ(back.extra, facts.extra);
}

TEST(LatentFileTest, NothingAppearsBeforeFinish) {
  const test::TempFolder folder;
  {
    LatentFileWriter writer(folder / "a.safetensors", io::DType::kF32);
    writer.add(random_posterior(1));
    writer.end_clip();
    EXPECT_EQ(folder.names().size(), 0U);
  }
  EXPECT_EQ(folder.names().size(), 0U);
  LatentFileWriter empty(folder / "a.safetensors", io::DType::kF32);
  EXPECT_THROW(empty.finish(some_facts()), Error);
  EXPECT_THROW(LatentFileWriter(folder / "no/a.safetensors", io::DType::kF32), Error);
}

TEST(LatentFileTest, OtherFilesAreRefused) {
  const test::TempFolder folder;
  tensor::save_tensors(folder / "weights.safetensors", {{"w", at::ones({2})}});
  EXPECT_EQ(code_of(folder / "weights.safetensors"), "latents.format");
  const Tensor z = at::ones({1, 4, 1, 2, 2});
  const auto save = [&](const TensorMap& tensors, const std::string& text) {
    tensor::save_tensors(folder / "z.safetensors", tensors, {{"kinema", text}});
    return code_of(folder / "z.safetensors");
  };
  const std::string good = some_facts().to_text();
  EXPECT_EQ(save({{"mean_BCTHW", z}, {"logvar_BCTHW", z}}, good), "");
  EXPECT_EQ(save({{"mean_BCTHW", z}}, good), "latents.format");
  EXPECT_EQ(save({{"mean_BCTHW", z}, {"logvar_BCTHW", z[0]}}, good), "latents.shape");
  EXPECT_EQ(save({{"mean_BCTHW", z[0]}, {"logvar_BCTHW", z[0]}}, good), "latents.shape");
  EXPECT_EQ(save({{"mean_BCTHW", z.to(at::kLong)}, {"logvar_BCTHW", z.to(at::kLong)}}, good),
            "latents.shape");
  EXPECT_EQ(save({{"mean_BCTHW", z}, {"logvar_BCTHW", z}}, "{\"format\":\"kinema-latents-9\"}"),
            "latents.format");
  EXPECT_EQ(save({{"mean_BCTHW", z}, {"logvar_BCTHW", z}}, "{"), "json.syntax");
  EXPECT_EQ(save({{"mean_BCTHW", z}, {"logvar_BCTHW", z}}, "{\"format\":\"kinema-latents-1\"}"),
            "config.type");
  write_file(folder / "z.safetensors", "12345678 not a file");
  EXPECT_EQ(code_of(folder / "z.safetensors").substr(0, 12), "safetensors.");
  EXPECT_EQ(code_of(folder / "none.safetensors"), "io.open");
}

TEST(LatentFileTest, HashOfAFolderIsWhatSha256sumSays) {
  const test::TempFolder folder;
  write_file(folder / "config.json", "{}");
  write_file(folder / "model-00001.safetensors", std::string(200, 'x'));
  write_file(folder / "model-00002.safetensors", std::string(119, 'y'));
  write_file(folder / "readme.md", "not part of it");
  const auto result = test::run_process(
      {"/bin/sh",
       "-c",
       "cd '" + folder.path() + "' && LC_ALL=C sha256sum config.json *.safetensors | sha256sum"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(hash_of_model_folder(folder.path()), result.out.substr(0, 64));
}

}  // namespace
}  // namespace kinema::pipeline
