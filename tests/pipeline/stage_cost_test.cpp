// SPDX-License-Identifier: Apache-2.0
// Costs of stages from shapes: counted by hand for the published sizes, and from the files of a
// small model.
#include "pipeline/stage_cost.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "pipeline/process_memory.h"
#include "tests/pipeline/tiny_model.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

TEST(StageCostTest, ArithmeticOfTheOpenSoraTransformerAt240p) {
  // 51 frames of 426 x 240: 15 x 15 x 27 tokens, a guided batch, 300 prompt tokens.
  const dit::VDitConfig config;
  const double tokens = 2.0 * 15 * 405;
  const double products = 2.0 * tokens * 1152 * 1152 * (3 + 1 + 2 + 8);
  const double prompt = 4.0 * tokens * 300 * 1152;
  const double attention = 4.0 * tokens * 1152 * (405 + 15);
  const double ends = 2.0 * tokens * 1152 * 4 * (4 + 8);
  const double expected = 1e-9 * (28 * (2 * (products + prompt) + attention) + ends);
  EXPECT_NEAR(forward_gflop(config, 2, 15, 405, 15, 300), expected, 1e-6 * expected);
}

TEST(StageCostTest, LayoutsCountTheirOwnParts) {
  const auto cost = [](dit::Layout layout, std::int64_t frames) {
    dit::VDitConfig config;
    config.layout = layout;
    return forward_gflop(config, 1, frames, 64, static_cast<double>(frames), 100);
  };
  EXPECT_LT(cost(dit::Layout::kPixart, 8), cost(dit::Layout::kStdit2, 8));
  EXPECT_LT(cost(dit::Layout::kStdit2, 8), cost(dit::Layout::kStdit3, 8));
  EXPECT_LT(cost(dit::Layout::kLatte, 8), cost(dit::Layout::kStdit3, 8));
  EXPECT_DOUBLE_EQ(cost(dit::Layout::kPixart, 8), 8 * cost(dit::Layout::kPixart, 1));
  EXPECT_GT(cost(dit::Layout::kFull, 8), 8 * cost(dit::Layout::kFull, 1));
}

TEST(StageCostTest, WeightsAreTheBytesOfTheFiles) {
  test::TempFolder folder;
  test::save_tiny_model(folder / "model", dit::Layout::kStdit3);
  const ModelFolder model = ModelFolder::open(folder / "model");
  CostInput input{.plan = plan_long_video(LongMode::kExact, 4, 0, 3),
                  .latent_frames = 4,
                  .latent_height = 4,
                  .latent_width = 4,
                  .num_frames = 13,
                  .steps = 3,
                  .guided = true,
                  .text_tokens = {7, 3},
                  .max_length = 16,
                  .program_bytes = 1000};
  const StageCost text = text_cost(model, input, {});
  // q, k, v, o; wi_0, wi_1, wo; 10 tokens.
  EXPECT_NEAR(text.gflop, 2e-9 * 10 * (4 * 12 * 16 + 3 * 24 * 16), 1e-15);
  const auto file_bytes = [](const std::string& path) {
    return static_cast<std::int64_t>(std::filesystem::file_size(path + "/model.safetensors"));
  };
  // All but the header and the table of words, of which a few rows are read.
  const std::int64_t products = file_bytes(model.text_encoder) - 720 * 16 * 4;
  EXPECT_LE(text.mapped_bytes, products);
  EXPECT_GT(text.mapped_bytes, products - 8192);
  const StageCost denoise = denoise_cost(model, input, {});
  EXPECT_LE(denoise.mapped_bytes, file_bytes(model.transformer));
  EXPECT_GT(denoise.mapped_bytes, file_bytes(model.transformer) - 16384);
  EXPECT_EQ(denoise.peak_bytes(), 1000 + denoise.mapped_bytes + denoise.working_bytes);
  // Twice the steps are twice the work in the same memory; more frames need more of both.
  CostInput more = input;
  more.steps = 6;
  EXPECT_DOUBLE_EQ(denoise_cost(model, more, {}).gflop, 2 * denoise.gflop);
  EXPECT_EQ(denoise_cost(model, more, {}).working_bytes, denoise.working_bytes);
  more.latent_frames = 8;
  more.plan = plan_long_video(LongMode::kExact, 8, 0, 6);
  EXPECT_GT(denoise_cost(model, more, {}).working_bytes, denoise.working_bytes);
  // In windows only the latents of the video grow.
  const auto fused = [&](std::int64_t frames) {
    more.latent_frames = frames;
    more.plan = plan_long_video(LongMode::kFused, frames, 4, 6);
    return denoise_cost(model, more, {}).working_bytes;
  };
  const std::int64_t latent_bytes = 4 * 4 * 4 * 4;
  EXPECT_EQ(fused(80) - fused(8), 10 * 72 * latent_bytes);
}

TEST(ProcessMemoryTest, PeakAndNowAreTold) {
  if (resident_bytes() == 0) {
    GTEST_SKIP() << "this system does not tell memory";
  }
  EXPECT_GT(peak_resident_bytes(), 0);
  EXPECT_GE(peak_resident_bytes(), resident_bytes() / 2);
  EXPECT_GT(cpu_seconds(), 0.0);
}

}  // namespace
}  // namespace kinema::pipeline
