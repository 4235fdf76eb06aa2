// SPDX-License-Identifier: Apache-2.0
// A 3-D patch discriminator (arXiv 1611.07004 in three dimensions, as Open-Sora-Plan uses it) and
// the hinge losses of adversarial training. GroupNorm in place of BatchNorm: small batches, and the
// same result however a batch is cut.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/tensor/tensor.h"

namespace kinema::training {

class PatchDiscriminatorImpl final : public torch::nn::Module {
 public:
  /// @param base  channels of the first layer, a multiple of 8.
  PatchDiscriminatorImpl(std::int64_t in_channels, std::int64_t base);
  /// Kernels uniform in +-1/sqrt(fan in).
  void initialise(std::uint64_t seed);

  /// Scores of patches [B, 1, t, h, w]; large: real.
  [[nodiscard]] Tensor forward(const Tensor& video_BCFHW) const;

 private:
  std::vector<nn::Conv3d> convs_;
  std::vector<nn::GroupNorm> norms_;  ///< of all layers but the first and the last
};
TORCH_MODULE(PatchDiscriminator);

/// mean(relu(1 - real)) / 2 + mean(relu(1 + fake)) / 2.
[[nodiscard]] Tensor hinge_discriminator_loss(const Tensor& real, const Tensor& fake);

/// |d reconstruction / d w| / (|d adversarial / d w| + 1e-4), in 0 .. 1e4, a constant: how much the
/// adversarial loss weighs so that both pull equally at the last layer (arXiv 2012.09841, equation
/// 7). Both graphs stay alive.
[[nodiscard]] double adaptive_weight(const Tensor& reconstruction,
                                     const Tensor& adversarial,
                                     const Tensor& last_weight);

}  // namespace kinema::training
