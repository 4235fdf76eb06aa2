// SPDX-License-Identifier: Apache-2.0
// The error of the paper's segment rule, measured against the exact stream.
#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "vae/autoencoder.h"

namespace kinema::vae {
namespace {

constexpr double kPeak = 2.0;  // pixels span [-1, 1]

double psnr_db(const Tensor& a, const Tensor& b) {
  const double mse = (a.to(at::kDouble) - b.to(at::kDouble)).square().mean().item<double>();
  return 10.0 * std::log10(kPeak * kPeak / std::max(mse, 1e-20));
}

}  // namespace

SeamError measure_seam_error(const Autoencoder& vae,
                             const Tensor& video_BCFHW,
                             const SegmentOptions& segments) {
  if (vae.info().time_mode != TimeMode::kStream) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "vae.segments",
                 .place = "vae.seam_error",
                 .subject = vae.info().family,
                 .expected = "an exactly streaming video model to compare with",
                 .got = to_string(vae.info().time_mode)});
  }
  const Tensor exact = vae.encode(video_BCFHW).mode();
  const Tensor merged = vae.encode(video_BCFHW, {.segments = segments}).mode();
  SeamError error;
  error.max_abs_latent = (exact - merged).abs().max().item<double>();
  const Tensor exact_video = vae.decode(exact);
  const Tensor merged_video = vae.decode(merged);
  const std::int64_t frames = video_BCFHW.size(2);
  for (std::int64_t seam = segments.frames - 1; seam < frames - 1; seam += segments.frames - 1) {
    const std::int64_t begin = std::max<std::int64_t>(seam - 1, 0);
    const std::int64_t count = std::min(seam + 2, frames) - begin;
    error.seam_psnr_db.push_back(
        psnr_db(exact_video.narrow(2, begin, count), merged_video.narrow(2, begin, count)));
  }
  return error;
}

}  // namespace kinema::vae
