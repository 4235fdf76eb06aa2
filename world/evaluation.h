// SPDX-License-Identifier: Apache-2.0
// Counts what the judge found, and measures how far two sets of videos lie apart.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/base/json.h"
#include "core/tensor/tensor.h"
#include "world/judge.h"

namespace kinema::world {

/// Right answers among all, with the 95 % interval of Wilson's score (Wilson 1927).
struct Rate {
  std::int64_t right = 0;
  std::int64_t total = 0;

  [[nodiscard]] double value() const {
    return total == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(total);
  }
  /// {low, high}; {0, 1} when nothing was counted.
  [[nodiscard]] std::pair<double, double> interval() const;
  /// {"rate", "low", "high", "right", "total"}.
  [[nodiscard]] OrderedJson to_json() const;
};

inline constexpr std::array<std::string_view, 7> kAttributeNames = {
    "background_colour", "background", "colour", "size", "shape", "motion", "all"};

/// Accuracy per attribute over many videos; "all" counts videos in which everything is right.
class Accuracy {
 public:
  void add(const Score& score);
  [[nodiscard]] const Rate& operator[](std::string_view attribute) const;
  [[nodiscard]] OrderedJson to_json() const;

 private:
  std::array<Rate, kAttributeNames.size()> rates_{};
};

/// Mean and covariance of feature vectors, gathered one set at a time in float64.
class FeatureStatistics {
 public:
  /// @param features_ND [N, D], finite, the same D in every call.
  /// @throws kInvalidArgument [frechet.shape].
  void add(const Tensor& features_ND);
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] Tensor mean() const;        ///< [D], float64
  [[nodiscard]] Tensor covariance() const;  ///< [D, D], float64, divided by count - 1

 private:
  std::int64_t count_ = 0;
  Tensor sum_;
  Tensor products_;
};

/// Fréchet distance of two Gaussians with these moments: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2)
/// (Dowson and Landau 1982; the formula of FID). Zero for equal statistics.
/// @throws kInvalidArgument [frechet.shape] for fewer than two vectors or different widths.
[[nodiscard]] double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b);

/// Pixel statistics of a clip that need no network: colours on a coarse grid in space and time and
/// their change from step to step.
/// @param video_CFHW [3, F, H, W] in 0..1, F >= 2.
/// @return [1, D], float32; D does not depend on the size of the clip.
[[nodiscard]] Tensor pixel_features(const Tensor& video_CFHW);

}  // namespace kinema::world
