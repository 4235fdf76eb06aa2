// SPDX-License-Identifier: Apache-2.0
#include "vae/norm_kernels.h"

#include <ATen/ops/group_norm.h>
#include <gtest/gtest.h>

#include "core/nn/conv.h"
#include "tests/vae/tiny_models.h"

namespace kinema::vae {
namespace {

using testing::max_difference;

TEST(NormKernels, GroupStatisticsEqualGroupNorm) {
  for (const double mean : {0.0, 300.0}) {
    const Tensor x = at::randn({2, 12, 3, 5, 7}) + mean;
    const GroupStatistics s = group_statistics(nn::channels_last(x), 4, 1e-6);
    const Tensor wide = x.to(at::kDouble).reshape({2, 4, -1});
    const Tensor expected_rstd = (wide.var(-1, /*unbiased=*/false) + 1e-6).rsqrt();
    EXPECT_LE(max_difference(s.mean_BG.to(at::kDouble), wide.mean(-1)), 1e-6 * (1 + mean));
    EXPECT_LE(max_difference(s.rstd_BG.to(at::kDouble), expected_rstd), 1e-4);
    // Another layout takes the plain path.
    const GroupStatistics plain = group_statistics(x, 4, 1e-6);
    EXPECT_LE(max_difference(s.rstd_BG, plain.rstd_BG), 1e-3);
  }
}

TEST(NormKernels, AffineEqualsItsPlainTwin) {
  const Tensor x = nn::channels_last(at::randn({2, 11, 5, 4, 6}));
  const Tensor scale = at::randn({2, 11, 3, 2, 3});
  const Tensor shift = at::randn({2, 11, 3, 2, 3});
  for (const auto activation :
       {std::optional<nn::Activation>(), std::optional(nn::Activation::kSilu)}) {
    const Tensor expected = affine_activate_reference(x, scale, shift, true, activation);
    Tensor out = at::empty_like(x);
    affine_activate_out(out, x, scale, shift, true, activation);
    EXPECT_LE(max_difference(out, expected), 1e-6);
    // Into a slice in time of a larger clip, and in place.
    Tensor large = nn::channels_last(at::zeros({2, 11, 7, 4, 6}));
    Tensor slice = large.narrow(2, 2, 5);
    affine_activate_out(slice, x, scale, shift, true, activation);
    EXPECT_LE(max_difference(large.narrow(2, 2, 5), expected), 1e-6);
    EXPECT_EQ(large.narrow(2, 0, 2).abs().max().item<float>(), 0.0F);
    Tensor own = x.clone();
    affine_activate_out(own, own, scale, shift, true, activation);
    EXPECT_LE(max_difference(own, expected), 1e-6);
  }
}

TEST(NormKernels, AffineTakesBf16AndPlainLayouts) {
  const Tensor x = at::randn({1, 6, 4, 4, 4});
  const Tensor scale = at::randn({1, 6, 2, 2, 2});
  const Tensor expected = affine_activate_reference(x, scale, scale, false, std::nullopt);
  Tensor contiguous = at::empty_like(x);
  affine_activate_out(contiguous, x, scale, scale, false, std::nullopt);
  EXPECT_LE(max_difference(contiguous, expected), 1e-6);
  const Tensor narrow = nn::channels_last(x.to(at::kBFloat16));
  Tensor out = at::empty_like(narrow);
  affine_activate_out(out, narrow, scale, scale, false, std::nullopt);
  EXPECT_LE(max_difference(out.to(at::kFloat), expected), 0.05);
}

TEST(NormKernels, RmsNormEqualsTheFormula) {
  for (const std::int64_t channels : {3, 8, 20}) {
    Tensor x = nn::channels_last(at::randn({2, channels, 2, 3, 5}));
    x.select(2, 0).select(2, 0).zero_();  // a pixel of zeros stays zero
    const Tensor gamma = at::randn({channels, 1, 1, 1});
    const Tensor length = x.square().sum(1, /*keepdim=*/true).sqrt().clamp_min(1e-12);
    const Tensor expected = at::silu(x / length * std::sqrt(static_cast<double>(channels)) * gamma);
    Tensor out = at::empty_like(x);
    rms_norm_activate_out(out, x, gamma, nn::Activation::kSilu);
    EXPECT_LE(max_difference(out, expected), 1e-5);
    Tensor plain = at::empty(x.sizes());
    rms_norm_activate_out(plain, x.contiguous(), gamma, nn::Activation::kSilu);
    EXPECT_LE(max_difference(plain, expected), 1e-5);
  }
}

}  // namespace
}  // namespace kinema::vae
