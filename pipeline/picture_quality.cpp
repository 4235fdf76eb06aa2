// SPDX-License-Identifier: Apache-2.0
#include "pipeline/picture_quality.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::pipeline {
namespace {

constexpr std::int64_t kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kPeak = 255.0;
constexpr double kC1 = (0.01 * kPeak) * (0.01 * kPeak);
constexpr double kC2 = (0.03 * kPeak) * (0.03 * kPeak);

Tensor gaussian(std::int64_t side) {
  const std::int64_t size = std::min(kWindow, side - (side + 1) % 2);
  const Tensor x = at::arange(size, at::kDouble) - static_cast<double>(size / 2);
  const Tensor w = (-x.square() / (2 * kSigma * kSigma)).exp();
  return (w / w.sum()).to(at::kFloat);
}

/// Weighted means over all windows inside the pictures x_NHW.
Tensor window_means(const Tensor& x_NHW, const Tensor& rows, const Tensor& columns) {
  const Tensor down = at::conv2d(x_NHW.unsqueeze(1), rows.view({1, 1, -1, 1}));
  return at::conv2d(down, columns.view({1, 1, 1, -1})).squeeze(1);
}

double ssim(const Tensor& a_HWC, const Tensor& b_HWC) {
  const Tensor a = a_HWC.permute({2, 0, 1}).to(at::kFloat);
  const Tensor b = b_HWC.permute({2, 0, 1}).to(at::kFloat);
  const Tensor rows = gaussian(a.size(1));
  const Tensor columns = gaussian(a.size(2));
  const std::int64_t n = a.size(0);
  const Tensor means =
      window_means(at::cat({a, b, a * a, b * b, a * b}, 0), rows, columns).to(at::kDouble);
  const Tensor mu_a = means.narrow(0, 0, n);
  const Tensor mu_b = means.narrow(0, n, n);
  const Tensor var_a = means.narrow(0, 2 * n, n) - mu_a.square();
  const Tensor var_b = means.narrow(0, 3 * n, n) - mu_b.square();
  const Tensor covariance = means.narrow(0, 4 * n, n) - mu_a * mu_b;
  const Tensor top = (2 * mu_a * mu_b + kC1) * (2 * covariance + kC2);
  const Tensor bottom = (mu_a.square() + mu_b.square() + kC1) * (var_a + var_b + kC2);
  return (top / bottom).mean().item<double>();
}

}  // namespace

double psnr_db(double mean_squared_error, double peak) noexcept {
  const double least = peak * peak * std::pow(10.0, -kMaxPsnr / 10.0);
  return 10.0 * std::log10(peak * peak / std::max(mean_squared_error, least));
}

PictureQuality compare_pictures(const Tensor& a_HWC, const Tensor& b_HWC) {
  if (a_HWC.dim() != 3 || a_HWC.sizes() != b_HWC.sizes() || a_HWC.numel() == 0) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "pictures.size",
                 .place = "pipeline.picture_quality",
                 .subject = "two pictures",
                 .expected = "one size",
                 .got = "two"});
  }
  const Tensor difference = a_HWC.to(at::kInt) - b_HWC.to(at::kInt);
  const double mse = difference.square().sum().item<double>() / static_cast<double>(a_HWC.numel());
  return {psnr_db(mse, kPeak), ssim(a_HWC, b_HWC)};
}

double Series::mean() const noexcept {
  return values.empty() ? 0.0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

double Series::min() const noexcept {
  return values.empty() ? 0.0 : *std::min_element(values.begin(), values.end());
}

std::int64_t Series::index_of_min() const noexcept {
  return std::min_element(values.begin(), values.end()) - values.begin();
}

OrderedJson Series::to_json() const {
  return {{"mean", mean()}, {"min", min()}, {"min_frame", index_of_min()}, {"frames", values}};
}

}  // namespace kinema::pipeline
