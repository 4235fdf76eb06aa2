// SPDX-License-Identifier: Apache-2.0
#include "world/evaluation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::world {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;  // 97.5 % of the standard normal
constexpr std::int64_t kGridSide = 3;
constexpr std::int64_t kGridSteps = 2;
constexpr double kChangeWeight = 4;  // changes are about a quarter as large as colours

[[noreturn]] void throw_shape(const char* expected, const std::string& got) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "frechet.shape",
               .place = "frechet_distance",
               .subject = "features_ND",
               .expected = expected,
               .got = got});
}

// The symmetric square root of a positive semi-definite matrix; tiny negative eigenvalues are zero.
Tensor square_root(const Tensor& matrix_DD) {
  const auto [values_D, vectors_DD] = at::linalg_eigh(matrix_DD);
  return at::matmul(vectors_DD * values_D.clamp_min(0).sqrt(), vectors_DD.t());
}

}  // namespace

std::pair<double, double> Rate::interval() const {
  if (total == 0) {
    return {0, 1};
  }
  const auto n = static_cast<double>(total);
  const double z2 = kNormalQuantile * kNormalQuantile;
  const double p = value();
  const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kNormalQuantile / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

OrderedJson Rate::to_json() const {
  const auto [low, high] = interval();
  return {{"rate", value()}, {"low", low}, {"high", high}, {"right", right}, {"total", total}};
}

void Accuracy::add(const Score& score) {
  const std::array<bool, kAttributeNames.size()> right = {score.background_colour,
                                                          score.background,
                                                          score.colour,
                                                          score.size,
                                                          score.shape,
                                                          score.motion,
                                                          score.all()};
  for (std::size_t i = 0; i < right.size(); ++i) {
    rates_[i].right += right[i] ? 1 : 0;
    ++rates_[i].total;
  }
}

const Rate& Accuracy::operator[](std::string_view attribute) const {
  const auto index = index_of(kAttributeNames, attribute);
  if (!index) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "world.attribute",
                 .place = "accuracy",
                 .subject = std::string(attribute),
                 .expected = "the name of an attribute",
                 .got = "another word"});
  }
  return rates_[static_cast<std::size_t>(*index)];
}

OrderedJson Accuracy::to_json() const {
  OrderedJson json = OrderedJson::object();
  for (std::size_t i = 0; i < kAttributeNames.size(); ++i) {
    json[std::string(kAttributeNames[i])] = rates_[i].to_json();
  }
  return json;
}

void FeatureStatistics::add(const Tensor& features_ND) {
  if (features_ND.dim() != 2 || (sum_.defined() && features_ND.size(1) != sum_.size(0))) {
    throw_shape("[N, D] with the D of earlier calls", "another shape");
  }
  const Tensor features = features_ND.to(at::kCPU, at::kDouble);
  if (!at::isfinite(features).all().item<bool>()) {
    throw_shape("finite numbers", "NaN or infinity");
  }
  const Tensor sum = features.sum(0);
  const Tensor products = at::matmul(features.t(), features);
  sum_ = sum_.defined() ? sum_ + sum : sum;
  products_ = products_.defined() ? products_ + products : products;
  count_ += features.size(0);
}

Tensor FeatureStatistics::mean() const {
  return sum_ / static_cast<double>(count_);
}

Tensor FeatureStatistics::covariance() const {
  const Tensor mean_D = mean();
  const auto n = static_cast<double>(count_);
  return (products_ - n * at::outer(mean_D, mean_D)) / (n - 1);
}

double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
  if (a.count() < 2 || b.count() < 2) {
    throw_shape("at least two vectors on each side",
                std::to_string(a.count()) + " and " + std::to_string(b.count()));
  }
  const Tensor difference_D = a.mean() - b.mean();
  const Tensor cov_a = a.covariance();
  const Tensor cov_b = b.covariance();
  if (cov_a.sizes() != cov_b.sizes()) {
    throw_shape("features of one width", "two widths");
  }
  // tr (Ca Cb)^1/2 = tr (Ca^1/2 Cb Ca^1/2)^1/2, whose matrix is symmetric.
  const Tensor root_a = square_root(cov_a);
  const Tensor inner = at::matmul(at::matmul(root_a, cov_b), root_a);
  const Tensor values_D = at::linalg_eigvalsh((inner + inner.t()) / 2);
  const double cross = values_D.clamp_min(0).sqrt().sum().item<double>();
  const double distance = difference_D.square().sum().item<double>() +
                          cov_a.trace().item<double>() + cov_b.trace().item<double>() - 2 * cross;
  return std::max(0.0, distance);
}

Tensor pixel_features(const Tensor& video_CFHW) {
  if (video_CFHW.dim() != 4 || video_CFHW.size(0) != 3 || video_CFHW.size(1) < 2) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "frechet.shape",
                 .place = "pixel_features",
                 .subject = "video_CFHW",
                 .expected = "[3, F, H, W] with at least two frames",
                 .got = "another shape"});
  }
  const Tensor grid_CTHW = at::adaptive_avg_pool3d(video_CFHW.to(at::kFloat).unsqueeze(0),
                                                   {kGridSteps, kGridSide, kGridSide})
                               .squeeze(0);
  const Tensor change_CTHW = kChangeWeight * (grid_CTHW.narrow(1, 1, kGridSteps - 1) -
                                              grid_CTHW.narrow(1, 0, kGridSteps - 1));
  return at::cat({grid_CTHW.flatten(), change_CTHW.flatten()}).unsqueeze(0);
}

}  // namespace kinema::world
