// SPDX-License-Identifier: Apache-2.0
// Sampling with given frames: image to video, continuation, and edits of a video.
//
// A mask m[b, t] in [0, 1] says for each latent frame: 1 generate, 0 keep, between: how much of it
// to redo. A frame with m < 1 enters the loop only when the walk has come down to its level: it is
// then noised to that level, and generated from there on. Until then the network sees it clean
// (time 0) and the step does not change it. When a frame is generated, with n steps of which k are
// left after this one:
//   by time (flow models)       1000 m >= t, as Open-Sora 1.2
//   by step                     int(m n) > k
//   as Open-Sora 1.1 (iddpm)    q = int(m n): told as generated while q > k, put back while q < k;
//                               at q = k noised and stepped, but told as given. So a frame with m =
//                               0 takes the last step too.
//
//   MaskedSampling masked(mask_BT, *sampler);
//   for (i ...) {
//     x = masked.before_step(*sampler, i, x, fresh_noise);
//     conditioning.frame_mask_BT = masked.generated_BT();
//     const Tensor out = predict(masked.model_input(*sampler, i, x));
//     x = masked.after_step(sampler->step(out, i, x, noise).sample);
//   }
#pragma once

#include <cstdint>

#include "core/diffusion/sampler.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

class MaskedSampling {
 public:
  enum class Rule { kTime, kStep, kOpenSoraStep };

  /// By time for rflow and flow-euler, Open-Sora's for iddpm, by step for the others.
  [[nodiscard]] static Rule rule_for(SamplerKind kind);

  /// @param mask_BT  any float type, values 0 .. 1, else kInvalidArgument [mask.range]. Multistep
  /// solvers take 0 and 1 only, else kUnsupported [mask.multistep]: a frame that enters late has no
  /// history.
  MaskedSampling(const Tensor& mask_BT, const Sampler& sampler);

  /// Noises the frames that begin here. @param latents_BCTHW the given frames hold their latents.
  /// @param noise_BCTHW  fresh at every step, and another one than the sampler's own.
  [[nodiscard]] Tensor before_step(const Sampler& sampler,
                                   std::int64_t index,
                                   const Tensor& latents_BCTHW,
                                   const Tensor& noise_BCTHW);
  /// Whether this step uses its noise argument at all.
  [[nodiscard]] bool uses_noise(const Sampler& sampler, std::int64_t index) const;
  /// bool [B, T]: the frames to tell the network as generated, for the step begun.
  [[nodiscard]] const Tensor& generated_BT() const { return generated_BT_; }
  /// What the network sees: given frames as they are, the others as the sampler scales them.
  [[nodiscard]] Tensor model_input(const Sampler& sampler,
                                   std::int64_t index,
                                   const Tensor& latents_BCTHW) const;
  /// Puts kept frames back. @param stepped_BCTHW what the sampler made of before_step()'s result.
  [[nodiscard]] Tensor after_step(const Tensor& stepped_BCTHW) const;

 private:
  /// Frames noised here, told as generated, and put back, for a step; bool [B, T].
  struct Frames {
    Tensor noised_BT;
    Tensor generated_BT;
    Tensor kept_BT;
  };
  [[nodiscard]] Frames frames_at(const Sampler& sampler, std::int64_t index) const;

  Rule rule_;
  Tensor mask_BT_;
  Tensor generated_BT_;
  Tensor kept_BT_;
  Tensor before_BCTHW_;
};

}  // namespace kinema::diffusion
