// SPDX-License-Identifier: Apache-2.0
// The diagonal Gaussian that an autoencoder's encoder gives (Auto-Encoding Variational Bayes,
// arXiv 1312.6114): mean and log variance of every latent element.
#pragma once

#include "core/tensor/tensor.h"

namespace kinema::vae {

struct Posterior {
  Tensor mean_BCTHW;
  Tensor logvar_BCTHW;  ///< clamped to [-30, 20]

  /// Splits moments [B, 2C, T, H, W] (mean first) and clamps the log variance.
  /// Throws kShapeMismatch [vae.moments] for an odd number of channels.
  [[nodiscard]] static Posterior from_moments(const Tensor& moments);

  /// The most likely latents: the mean.
  [[nodiscard]] const Tensor& mode() const noexcept { return mean_BCTHW; }
  [[nodiscard]] Tensor std() const;
  [[nodiscard]] Tensor variance() const;
  /// mean + std * noise. @param noise  standard normal, shape of the mean.
  [[nodiscard]] Tensor sample(const Tensor& noise) const;
  /// Divergence from the standard normal, 0.5 (mean^2 + var - 1 - logvar), per element.
  [[nodiscard]] Tensor kl_elements() const;
  /// The same summed over all axes but the batch: [B].
  [[nodiscard]] Tensor kl() const;
};

}  // namespace kinema::vae
