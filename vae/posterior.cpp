// SPDX-License-Identifier: Apache-2.0
#include "vae/posterior.h"

#include <string>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::vae {
namespace {

constexpr double kMinLogvar = -30.0;
constexpr double kMaxLogvar = 20.0;

}  // namespace

Posterior Posterior::from_moments(const Tensor& moments) {
  if (moments.dim() < 2 || moments.size(1) % 2 != 0) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "vae.moments",
                 .place = "vae.posterior",
                 .subject = "moments",
                 .expected = "an even number of channels (mean, log variance)",
                 .got = tensor::shape_text(moments)});
  }
  const auto halves = moments.chunk(2, 1);
  return {halves[0], halves[1].clamp(kMinLogvar, kMaxLogvar)};
}

Tensor Posterior::std() const {
  return (0.5 * logvar_BCTHW).exp();
}

Tensor Posterior::variance() const {
  return logvar_BCTHW.exp();
}

Tensor Posterior::sample(const Tensor& noise) const {
  return mean_BCTHW + std() * noise.to(mean_BCTHW.options());
}

Tensor Posterior::kl_elements() const {
  return 0.5 * (mean_BCTHW.square() + variance() - 1.0 - logvar_BCTHW);
}

Tensor Posterior::kl() const {
  return kl_elements().flatten(1).sum(1);
}

}  // namespace kinema::vae
