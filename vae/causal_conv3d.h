// SPDX-License-Identifier: Apache-2.0
// Convolution that sees a frame and what came before it, in one shot or chunk by chunk with the
// same result. With time kernel k and stride s, k - s input frames are kept between chunks.
//
// Layers pass video as [B, C, T, H, W] in channels-last memory (innermost C, then W, H, T, B).
#pragma once

#include <array>
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "core/tensor/tensor.h"
#include "vae/stream_state.h"

namespace kinema::vae {

/// What stands to the left of the first frame of a clip.
enum class TimePadding {
  kFirst,  ///< the first frame, k - 1 times (Open-Sora-Plan, CogVideoX, VidVAE)
  kZeros,  ///< zero frames, (k - 1) + (1 - s) of them (Wan, Open-Sora 1.2)
};

/// Past frames and x, joined in time: [B, C, left + T, H, W]. The past is the cache of a started
/// `state`, else the padding. Afterwards `state` (if any) holds the last `keep` frames and counts
/// one more chunk.
/// @param left  frames of padding when not started.  @param keep  frames to remember.
[[nodiscard]] Tensor extend_time(const Tensor& x_BCTHW,
                                 std::int64_t left,
                                 std::int64_t keep,
                                 TimePadding padding,
                                 TimeState* state);

/// Causal in time; in space as `conv` says (its time padding must be 0).
/// @param x_BCTHW  first chunk 1 + a s frames, later chunks b s frames, for stride s and kFirst.
/// @param addend   undefined, or a tensor that is added to the result; it belongs to the caller
///                 alone and may become the result.
[[nodiscard]] Tensor causal_conv3d(const Tensor& x_BCTHW,
                                   const nn::Conv3dImpl& conv,
                                   TimePadding padding,
                                   TimeState* state,
                                   Tensor addend = {});

/// conv(silu(norm(x))).
[[nodiscard]] Tensor norm_silu_conv3d(const Tensor& x_BCTHW,
                                      const nn::GroupNormImpl& norm,
                                      nn::NormScope scope,
                                      const nn::Conv3dImpl& conv,
                                      TimePadding padding,
                                      TimeState* state);
/// The same of an x that is used up (when no gradient is wanted), plus `addend`, which may be
/// undefined; it belongs to the caller alone and may become the result.
[[nodiscard]] Tensor norm_silu_conv3d_consume(Tensor x_BCTHW,
                                              const nn::GroupNormImpl& norm,
                                              nn::NormScope scope,
                                              const nn::Conv3dImpl& conv,
                                              TimePadding padding,
                                              TimeState* state,
                                              Tensor addend);

/// One zero column on the right and one zero row at the bottom. [..., H, W] -> [..., H + 1, W + 1].
[[nodiscard]] Tensor pad_right_bottom(const Tensor& x);

/// The layer as most checkpoints name it: parameters "conv.weight" and "conv.bias". Register a bare
/// nn::Conv3d and call causal_conv3d() where the extra level is missing.
class CausalConv3dImpl final : public torch::nn::Module {
 public:
  /// @param options  time padding must be 0.
  CausalConv3dImpl(const nn::Conv3dOptions& options,
                   TimePadding padding,
                   const nn::ParameterOptions& parameters = {});

  /// A kernel with k = 1 takes no state from the stream.
  [[nodiscard]] Tensor forward(const Tensor& x_BCTHW, StreamState* stream) const;
  /// conv(silu(norm(x))).
  [[nodiscard]] Tensor forward(const Tensor& x_BCTHW,
                               const nn::GroupNormImpl& norm,
                               nn::NormScope scope,
                               StreamState* stream) const;
  /// conv(silu(norm(x))) + addend; see norm_silu_conv3d_consume().
  [[nodiscard]] Tensor forward_consume(Tensor x_BCTHW,
                                       const nn::GroupNormImpl& norm,
                                       nn::NormScope scope,
                                       Tensor addend,
                                       StreamState* stream) const;

  nn::Conv3d conv{nullptr};

 private:
  TimePadding padding_;
};
TORCH_MODULE(CausalConv3d);

}  // namespace kinema::vae
