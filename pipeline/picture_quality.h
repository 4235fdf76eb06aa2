// SPDX-License-Identifier: Apache-2.0
// How close two pictures are: PSNR, and SSIM (Wang et al., IEEE TIP 13(4), 2004).
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::pipeline {

inline constexpr double kMaxPsnr = 100.0;  ///< what equal pictures count as, dB

/// Peak signal to noise ratio over all pixels and channels, dB. @param peak  255 for 8 bits.
[[nodiscard]] double psnr_db(double mean_squared_error, double peak) noexcept;

struct PictureQuality {
  double psnr_db = 0;
  double ssim = 0;
};

/// Of two uint8 RGB pictures [H, W, 3] of one size. SSIM: window of 11 x 11, Gaussian of 1.5
/// pixels, K1 0.01, K2 0.03, windows inside the picture only, mean over pixels and channels. Sides
/// below 11 take the largest odd window that fits.
[[nodiscard]] PictureQuality compare_pictures(const Tensor& a_HWC, const Tensor& b_HWC);

/// One number per frame with its mean and its worst.
struct Series {
  std::vector<double> values{};
  [[nodiscard]] double mean() const noexcept;
  [[nodiscard]] double min() const noexcept;
  [[nodiscard]] std::int64_t index_of_min() const noexcept;
  [[nodiscard]] OrderedJson to_json() const;  ///< mean, min, min_frame, frames
};

}  // namespace kinema::pipeline
