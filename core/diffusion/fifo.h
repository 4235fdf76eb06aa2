// SPDX-License-Identifier: Apache-2.0
// FIFO-Diffusion: videos of any length in constant memory. arXiv 2405.11473.
//
// A queue holds N = partitions x window frames at N falling noise levels, one per sampling step:
// slot 0 is one step from clean, slot N - 1 is pure noise. One iteration steps every frame once
// (each with its own time), pops the clean one, shifts, and appends noise. With look-ahead, window
// / 2 clean slots are kept in front, windows overlap by half, and only the second half of a
// window's prediction is used, so that every frame is predicted beside cleaner ones.
//
//   FifoQueue queue({.window = 16, .num_partitions = 4}, *sampler);   // sampler with 64 steps
//   queue.fill(*sampler, clip_BCTHW, noise_BCTHW);
//   while (emitted < wanted) {
//     const Tensor frame = queue.step(*sampler, predict, step_noise, fresh_noise);
//     if (frame.defined()) { ... }
//   }
#pragma once

#include <cstdint>
#include <functional>

#include "core/diffusion/sampler.h"
#include "core/diffusion/windows.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

struct FifoConfig {
  std::int64_t window = 16;  ///< f, frames that the network sees at once; even for look-ahead
  std::int64_t num_partitions = 4;  ///< n
  bool look_ahead = true;
};

class FifoQueue {
 public:
  /// (crop [B, C, f, H, W], times [B, f], window of the queue) -> prediction of the crop.
  using Predict = FusedPredictor::Predict;

  /// Throws kInvalidArgument [fifo.steps] unless the sampler has window x num_partitions steps, and
  /// kUnsupported [sampler.per_frame] for multistep solvers.
  FifoQueue(FifoConfig config, const Sampler& sampler);

  /// Slots of the queue, N or N + f / 2.
  [[nodiscard]] std::int64_t size() const noexcept;
  /// Iterations that return no frame before the first one.
  [[nodiscard]] std::int64_t num_warm_up() const noexcept;
  /// Step that slot `slot` takes next.
  [[nodiscard]] std::int64_t step_index(std::int64_t slot) const;

  /// Starts from a normally sampled clip: slot i (counted from the cleanest of N) holds frame
  /// max(0, i - (N - f)) of it, noised to its level. The copies of frame 0 are what warms up.
  /// @param clip_BCTHW   clean latents, f frames.   @param noise_BCTHW  size() frames.
  void fill(const Sampler& sampler, const Tensor& clip_BCTHW, const Tensor& noise_BCTHW);

  /// One iteration. @param step_noise_BCTHW  size() frames for samplers that want noise, else
  /// undefined. @param fresh_BC1HW  standard normal noise of the frame that enters.
  /// @return the clean frame [B, C, 1, H, W], or an undefined tensor while warming up.
  [[nodiscard]] Tensor step(Sampler& sampler,
                            const Predict& predict,
                            const Tensor& step_noise_BCTHW,
                            const Tensor& fresh_BC1HW);

  /// Frames returned so far.
  [[nodiscard]] std::int64_t num_emitted() const noexcept;
  /// For a journal: the queue and the iterations done.
  [[nodiscard]] const Tensor& latents_BCTHW() const noexcept { return latents_BCTHW_; }
  [[nodiscard]] std::int64_t num_iterations() const noexcept { return num_iterations_; }
  /// Continues a queue. Throws kShapeMismatch [tensor.shape] for other than size() frames.
  void restore(const Tensor& latents_BCTHW, std::int64_t num_iterations);

 private:
  [[nodiscard]] std::int64_t num_front() const noexcept;  ///< clean slots of look-ahead

  FifoConfig config_;
  std::int64_t num_steps_ = 0;
  std::int64_t num_iterations_ = 0;
  Tensor latents_BCTHW_;
};

}  // namespace kinema::diffusion
