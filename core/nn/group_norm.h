// SPDX-License-Identifier: Apache-2.0
// Group normalisation (arXiv 1803.08494) of images and video, alone or followed by SiLU in one
// pass.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::nn {

/// Over which elements of a group of channels the statistics of a video run.
enum class NormScope {
  kFrame,  ///< H, W of each frame
  kClip,   ///< T, H, W together
};

/// Parameters "weight" and "bias" [C]. Statistics in fp32 or better.
class GroupNormImpl final : public torch::nn::Module {
 public:
  GroupNormImpl(std::int64_t num_groups,
                std::int64_t num_channels,
                double eps,
                const ParameterOptions& options = {});

  /// @param x  [B, C, H, W] (scope has no meaning) or [B, C, T, H, W].
  /// @return the same shape and dtype, channels-last.
  [[nodiscard]] Tensor forward(const Tensor& x, NormScope scope = NormScope::kFrame) const;
  /// The plain twin of forward(), by LibTorch. For training and tests.
  [[nodiscard]] Tensor forward_reference(const Tensor& x,
                                         NormScope scope = NormScope::kFrame) const;
  /// silu(forward(x)).
  [[nodiscard]] Tensor forward_silu(const Tensor& x, NormScope scope = NormScope::kFrame) const;
  /// The same written into `out`, a channels-last tensor or a slice in time of one; may be x. No
  /// autograd.
  void forward_silu_out(Tensor& out, const Tensor& x, NormScope scope) const;

  /// forward_silu() into x itself when gradients are off; x must belong to the caller alone.
  [[nodiscard]] Tensor forward_silu_consume(Tensor x, NormScope scope) const;

  [[nodiscard]] std::int64_t num_groups() const noexcept { return num_groups_; }
  [[nodiscard]] double eps() const noexcept { return eps_; }

  Tensor weight;
  Tensor bias;

 private:
  std::int64_t num_groups_;
  double eps_;
};
TORCH_MODULE(GroupNorm);

/// silu(x); into x itself when no gradient is wanted and x needs none.
[[nodiscard]] Tensor silu_consume(Tensor x);
/// a + b; into a itself when no gradient is wanted. `a` must belong to the caller alone.
[[nodiscard]] Tensor add_consume(Tensor a, const Tensor& b);

}  // namespace kinema::nn
