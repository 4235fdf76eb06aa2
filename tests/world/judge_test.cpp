// SPDX-License-Identifier: Apache-2.0
#include "world/judge.h"

#include <map>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "world/caption.h"
#include "world/render.h"

namespace kinema::world {
namespace {

struct Rates {
  double all = 0, background = 0, colour = 0, size = 0, shape = 0, motion = 0;
};

Rates judged(std::int64_t count,
             const std::function<Tensor(const Scene&)>& make_video,
             std::string* wrong = nullptr) {
  Rates rates;
  const Judge judge;
  for (std::int64_t i = 0; i < count; ++i) {
    const Scene scene = make_scene({}, 99, i);
    const Verdict verdict = judge(make_video(scene));
    const Score result = score(verdict, scene);
    rates.all += result.all();
    rates.background += result.background && result.background_colour;
    rates.colour += result.colour;
    rates.size += result.size;
    rates.shape += result.shape;
    rates.motion += result.motion;
    if (wrong != nullptr && !result.all()) {
      *wrong += plain_caption(scene) + " -> " +
                std::string(kColourNames[static_cast<std::size_t>(verdict.colour)]) + " " +
                std::string(kSizeNames[static_cast<std::size_t>(verdict.size)]) + " " +
                std::string(kShapeNames[static_cast<std::size_t>(verdict.shape)]) + " " +
                std::string(kMotionNames[static_cast<std::size_t>(verdict.motion)]) + " on " +
                std::string(kColourNames[static_cast<std::size_t>(verdict.background_colour)]) +
                "\n";
    }
  }
  const auto total = static_cast<double>(count);
  return {rates.all / total,
          rates.background / total,
          rates.colour / total,
          rates.size / total,
          rates.shape / total,
          rates.motion / total};
}

TEST(JudgeTest, IsRightOnRenderedTruth) {
  std::string wrong;
  const Rates rates = judged(400, [](const Scene& scene) { return render(scene); }, &wrong);
  EXPECT_GE(rates.all, 0.98) << wrong;
}

TEST(JudgeTest, StandsBlurAndNoise) {
  const Rates rates = judged(150, [](const Scene& scene) {
    const Tensor video = render(scene);
    const Tensor blurred = at::avg_pool2d(video, {3, 3}, {1, 1}, {1, 1}, false, false);
    at::manual_seed(static_cast<std::uint64_t>(scene.index));
    return (blurred + at::randn_like(blurred) * 0.03).clamp(0, 1);
  });
  EXPECT_GE(rates.all, 0.9);
}

TEST(JudgeTest, ChanceIsLow) {
  const Rates rates =
      judged(200, [](const Scene& scene) { return render(make_scene({}, 100, scene.index)); });
  EXPECT_LE(rates.all, 0.02);
  EXPECT_LE(rates.shape, 0.3);
}

TEST(JudgeTest, SeesNothingInAnEmptyVideo) {
  EXPECT_FALSE(Judge()(at::full({3, 17, 64, 64}, 0.5)).seen);
}

}  // namespace
}  // namespace kinema::world
