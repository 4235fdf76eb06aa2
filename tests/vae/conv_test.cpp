// SPDX-License-Identifier: Apache-2.0
// The fast convolution and normalisation paths against their definitions.
#include "core/nn/conv.h"

#include <vector>

#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <gmock/gmock.h>

#include "core/kernels/bf16.h"
#include "core/kernels/group_norm_silu.h"
#include "core/kernels/winograd.h"
#include "core/nn/group_norm.h"
#include "core/nn/image_conv.h"
#include "tests/vae/tiny_models.h"

namespace kinema {
namespace {

using kernels::Isa;
using kernels::WinogradConv;
using vae::testing::max_difference;

std::vector<float> random_floats(std::int64_t count) {
  const Tensor x = at::randn({count});
  const auto* data = static_cast<const float*>(x.const_data_ptr());
  return {data, data + count};
}

class Winograd : public ::testing::TestWithParam<std::tuple<WinogradConv, Isa>> {};

TEST_P(Winograd, EqualsTheDefinition) {
  const auto& [conv, isa] = GetParam();
  at::manual_seed(3);
  const std::int64_t in_frames = conv.num_frames + conv.taps - 1;
  const std::int64_t in_picture =
      conv.rows * conv.columns * conv.in_channels / (conv.doubled ? 4 : 1);
  const std::int64_t out_picture = conv.rows * conv.columns * conv.out_channels;
  const auto input = random_floats(in_frames * in_picture);
  const auto weight = random_floats(conv.out_channels * conv.taps * 9 * conv.in_channels);
  const auto bias = random_floats(conv.out_channels);
  const auto addend = random_floats(conv.num_frames * out_picture);
  // The first input picture is bfloat16 where there are several.
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(in_picture));
  kernels::narrow_bf16(halves.data(), input.data(), halves.size());
  std::vector<float> expected(addend.size());
  std::vector<float> ours = addend;
  std::vector<kernels::WinogradPicture> frames;
  std::vector<float*> expected_frames;
  std::vector<float*> our_frames;
  for (std::int64_t f = 0; f < in_frames; ++f) {
    frames.push_back({input.data() + f * in_picture});
  }
  if (in_frames > 1) {
    frames[0] = {halves.data(), true};
  }
  for (std::int64_t f = 0; f < conv.num_frames; ++f) {
    expected_frames.push_back(expected.data() + f * out_picture);
    our_frames.push_back(ours.data() + f * out_picture);
  }
  kernels::reference::winograd_conv(
      conv, frames.data(), weight.data(), bias.data(), expected_frames.data());
  std::vector<float> filter(static_cast<std::size_t>(kernels::winograd_filter_floats(conv)));
  kernels::winograd_filter(
      conv, weight.data(), filter.data(), 0, kernels::winograd_panels(conv, isa), isa);
  std::vector<float> scratch(static_cast<std::size_t>(kernels::winograd_scratch_floats(conv)));
  const std::vector<const float*> addends(our_frames.begin(), our_frames.end());
  for (std::int64_t block = 0; block < kernels::winograd_blocks(conv); ++block) {
    kernels::winograd_block(conv,
                            frames.data(),
                            filter.data(),
                            bias.data(),
                            addends.data(),
                            our_frames.data(),
                            block,
                            scratch.data(),
                            isa);
  }
  // Standard deviation of the sums is sqrt(products).
  const double spread = std::sqrt(static_cast<double>(conv.taps * 9 * conv.in_channels));
  double worst = 0.0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(ours[i] - addend[i]) - expected[i]));
  }
  EXPECT_LE(worst, 2e-5 * spread);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes,
    Winograd,
    ::testing::Combine(::testing::Values(WinogradConv{32, 32, 1, 8, 8, 1, false},
                                         WinogradConv{32, 64, 1, 13, 9, 2, false},
                                         WinogradConv{64, 32, 3, 7, 50, 3, false},
                                         WinogradConv{32, 32, 3, 1, 2, 1, false},
                                         WinogradConv{32, 32, 1, 10, 14, 1, true},
                                         WinogradConv{32, 32, 2, 42, 45, 1, false}),
                       ::testing::Values(Isa::kBaseline, kernels::best_isa())));

nn::Conv2d conv2d(std::int64_t in, std::int64_t out) {
  nn::Conv2d conv(nn::Conv2dOptions{.in_channels = in, .out_channels = out, .padding = {1, 1}});
  vae::testing::randomise(*conv);
  return conv;
}

nn::Conv3d conv3d(std::int64_t in, std::int64_t out, std::int64_t taps) {
  nn::Conv3d conv(nn::Conv3dOptions{
      .in_channels = in, .out_channels = out, .kernel = {taps, 3, 3}, .padding = {0, 1, 1}});
  vae::testing::randomise(*conv);
  return conv;
}

TEST(Conv, TwoAxesEqualLibTorch) {
  const at::NoGradGuard no_grad;
  const auto conv = conv2d(32, 64);
  const Tensor x = at::randn({2, 32, 19, 22});
  ASSERT_TRUE(nn::can_filter_minimally(x, conv->weight, false));
  const Tensor expected = at::conv2d(x, conv->weight, conv->bias, 1, 1);
  const Tensor addend = at::randn_like(expected);
  EXPECT_LE(max_difference(conv->forward(x), expected), 5e-5);
  EXPECT_LE(max_difference(conv->forward_add(x, addend.clone()), expected + addend), 5e-5);
  const Tensor large = x.repeat_interleave(2, 2).repeat_interleave(2, 3);
  EXPECT_LE(
      max_difference(conv->forward_doubled(x), at::conv2d(large, conv->weight, conv->bias, 1, 1)),
      5e-5);
  EXPECT_TRUE(conv->forward(x).is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(Conv, ThreeAxesEqualLibTorch) {
  const at::NoGradGuard no_grad;
  for (const std::int64_t taps : {1, 3}) {
    const auto conv = conv3d(64, 32, taps);
    const Tensor x = at::randn({2, 64, 4, 17, 14});
    ASSERT_TRUE(nn::can_filter_minimally(x, conv->weight, false));
    const Tensor expected = at::conv3d(x, conv->weight, conv->bias, 1, {0, 1, 1});
    const Tensor addend = at::randn_like(expected);
    EXPECT_LE(max_difference(conv->forward(x), expected), 5e-5);
    EXPECT_LE(max_difference(conv->forward_add(x, addend.clone()), expected + addend), 5e-5);
  }
  const auto flat = conv3d(32, 32, 1);
  const Tensor x = at::randn({2, 32, 3, 8, 9});
  const Tensor large = x.repeat_interleave(2, 3).repeat_interleave(2, 4);
  EXPECT_LE(max_difference(flat->forward_doubled(x),
                           at::conv3d(large, flat->weight, flat->bias, 1, {0, 1, 1})),
            5e-5);
}

TEST(Conv, OneFrameIsBitEqualToThatFrameOfAClip) {
  const at::NoGradGuard no_grad;
  const auto conv = conv3d(32, 32, 3);
  const Tensor x = at::randn({1, 32, 6, 20, 20});
  const Tensor clip = conv->forward(x);
  for (std::int64_t t = 0; t < 4; ++t) {
    EXPECT_TRUE(at::equal(conv->forward(x.narrow(2, t, 3)), clip.narrow(2, t, 1)));
  }
}

TEST(Conv, GradientsGoThroughLibTorch) {
  const auto conv = conv2d(32, 32);
  Tensor x = at::randn({1, 32, 16, 16}).requires_grad_(true);
  EXPECT_FALSE(nn::can_filter_minimally(x, conv->weight, false));
  conv->forward_add(conv->forward_doubled(x), at::randn({1, 32, 32, 32})).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_TRUE(conv->weight.grad().defined());
}

// ---- group norm

TEST(GroupNorm, KernelEqualsTheDefinition) {
  at::manual_seed(4);
  for (const Isa isa : {Isa::kBaseline, kernels::best_isa()}) {
    for (const auto [channels, groups] :
         {std::pair<std::int64_t, std::int64_t>{12, 3}, {128, 32}, {64, 8}, {6, 6}}) {
      const std::int64_t positions = 150;
      auto x = random_floats(positions * channels);
      for (float& value : x) {
        value = 100.0F + 0.1F * value;  // a mean that squares would drown in
      }
      const auto weight = random_floats(channels);
      const auto bias = random_floats(channels);
      std::vector<float> expected(x.size());
      kernels::reference::group_norm_silu(expected.data(),
                                          x.data(),
                                          positions,
                                          channels,
                                          groups,
                                          1e-6,
                                          weight.data(),
                                          bias.data(),
                                          true);
      std::vector<double> sums(static_cast<std::size_t>(2 * groups));
      std::vector<float> buffer(static_cast<std::size_t>(2 * channels));
      std::vector<float> pivots(static_cast<std::size_t>(groups), 100.0F);
      kernels::group_sums(x.data(),
                          positions,
                          channels,
                          groups,
                          pivots.data(),
                          sums.data(),
                          sums.data() + groups,
                          buffer.data(),
                          isa);
      std::vector<float> scale(static_cast<std::size_t>(channels));
      std::vector<float> shift(static_cast<std::size_t>(channels));
      const double count = static_cast<double>(positions * channels / groups);
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto g = static_cast<std::size_t>(c / (channels / groups));
        const auto at = static_cast<std::size_t>(c);
        const double mean = sums[g] / count;
        const double variance = sums[g + static_cast<std::size_t>(groups)] / count - mean * mean;
        const double factor = weight[at] / std::sqrt(variance + 1e-6);
        scale[at] = static_cast<float>(factor);
        shift[at] = static_cast<float>(bias[at] - (mean + 100.0) * factor);
      }
      std::vector<float> ours(x.size());
      kernels::scale_shift_silu(
          ours.data(), x.data(), positions, channels, scale.data(), shift.data(), true, isa);
      // One scale and shift in fp32 around a value of 100 / 0.1.
      EXPECT_THAT(ours, ::testing::Pointwise(::testing::FloatNear(1e-3F), expected));
    }
  }
}

TEST(GroupNorm, SiluOfExtremes) {
  const std::vector<float> x = {-1000.0F, -88.0F, -20.0F, -1e-6F, 0.0F, 1e-6F, 20.0F, 3e38F};
  const std::vector<float> one(8, 1.0F);
  const std::vector<float> zero(8, 0.0F);
  for (const Isa isa : {Isa::kBaseline, kernels::best_isa()}) {
    std::vector<float> y(8);
    kernels::scale_shift_silu(y.data(), x.data(), 1, 8, one.data(), zero.data(), true, isa);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] / (1.0 + std::exp(-static_cast<double>(x[i])));
      EXPECT_NEAR(y[i], expected, 1e-6 * std::abs(expected) + 1e-30) << x[i];
    }
  }
}

TEST(GroupNorm, EqualsLibTorchInBothScopes) {
  const at::NoGradGuard no_grad;
  nn::GroupNorm norm(4, 16, 1e-6);
  vae::testing::randomise(*norm);
  const Tensor video = nn::channels_last(at::randn({2, 16, 3, 9, 80}) * 2 + 5);
  for (const auto scope : {nn::NormScope::kFrame, nn::NormScope::kClip}) {
    const Tensor expected = norm->forward_reference(video, scope);
    EXPECT_LE(max_difference(norm->forward(video, scope), expected), 2e-5);
    EXPECT_LE(max_difference(norm->forward_silu(video, scope), at::silu(expected)), 2e-5);
    // Into a slice in time, and into itself.
    Tensor padded = nn::channels_last(at::zeros({2, 16, 5, 9, 80}));
    Tensor slice = padded.narrow(2, 2, 3);
    norm->forward_silu_out(slice, video, scope);
    EXPECT_LE(max_difference(slice, at::silu(expected)), 2e-5);
    EXPECT_EQ(padded.narrow(2, 0, 2).abs().max().item<double>(), 0.0);
    EXPECT_LE(max_difference(norm->forward_silu_consume(video.clone(), scope), at::silu(expected)),
              2e-5);
  }
  const Tensor image = at::randn({3, 16, 5, 7});
  EXPECT_LE(max_difference(norm->forward(image), norm->forward_reference(image)), 2e-5);
}

TEST(GroupNorm, FrameScopeIgnoresOtherFrames) {
  const at::NoGradGuard no_grad;
  nn::GroupNorm norm(2, 8, 1e-6);
  vae::testing::randomise(*norm);
  const Tensor video = at::randn({1, 8, 3, 6, 6});
  Tensor other = video.clone();
  other.select(2, 1).mul_(7.0);
  const auto frame = nn::NormScope::kFrame;
  EXPECT_TRUE(at::equal(norm->forward(video, frame).select(2, 0),
                        norm->forward(other, frame).select(2, 0)));
  const auto clip = nn::NormScope::kClip;
  EXPECT_FALSE(
      at::equal(norm->forward(video, clip).select(2, 0), norm->forward(other, clip).select(2, 0)));
}

}  // namespace
}  // namespace kinema
