// SPDX-License-Identifier: Apache-2.0
// Overlapping windows over the frames of a video, and what is merged from them.
//
// Fused sampling (MultiDiffusion, arXiv 2302.08113; Gen-L-Video, arXiv 2305.18264): at each step
// the network looks at each window, the predictions of a frame are averaged with weights, and the
// sampler steps once on the whole video. Steps are affine in the prediction, so this equals
// stepping the crops and averaging those, and it keeps one history and one noise for every sampler.
//
//   const FusedPredictor fused(plan_windows(num_frames, 16, 8), WindowWeights::kTriangular);
//   const Tensor prediction = fused.predict(x, timesteps, [&](const Tensor& crop, const Tensor& t,
//                                                             const Window& w) { ... });
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::diffusion {

struct Window {
  std::int64_t first = 0;
  std::int64_t length = 0;
  std::int64_t index = 0;  ///< position in the plan
  [[nodiscard]] std::int64_t end() const noexcept { return first + length; }
  bool operator==(const Window&) const = default;
};

/// Windows of `window` frames at 0, stride, 2 stride, ..., the last one moved back to end with the
/// video. A video that fits gives one window of its own length. Every frame is covered.
/// Throws kInvalidArgument [windows.size] unless 1 <= stride <= window and num_frames >= 1.
[[nodiscard]] std::vector<Window> plan_windows(std::int64_t num_frames,
                                               std::int64_t window,
                                               std::int64_t stride);

enum class WindowWeights {
  kFlat,        ///< 1
  kTriangular,  ///< 1, 2, .., 2, 1; the top twice for even lengths (1 2 2 1)
  kRamp,        ///< linear cross-fades over the overlaps, none at the ends of the video
};

/// min(i + 1, length - i).
[[nodiscard]] std::vector<double> triangular_weights(std::int64_t length);
/// min(1, (i + 1) / (overlap + 1), (length - i) / (overlap + 1)); no left ramp for the first, no
/// right ramp for the last.
[[nodiscard]] std::vector<double> ramp_weights(std::int64_t length,
                                               std::int64_t overlap,
                                               bool is_first,
                                               bool is_last);

/// Weights of every window's frames, divided by the sum over all windows of that frame. A frame
/// with one window has weight exactly 1. Throws kInvalidArgument [windows.coverage] for a frame
/// without a window, a window outside, or none at all.
[[nodiscard]] std::vector<std::vector<double>> normalised_weights(std::span<const Window> windows,
                                                                  std::int64_t num_frames,
                                                                  WindowWeights weights);

/// sum_j w_j z_j / sum_j w_j per frame. @param parts  parts[j] holds window j's frames on `axis`.
[[nodiscard]] Tensor merge_windows(std::span<const Tensor> parts,
                                   std::span<const Window> windows,
                                   WindowWeights weights,
                                   std::int64_t axis);

class FusedPredictor {
 public:
  /// (crop [B, C, f, H, W], times [B] or [B, f], window) -> prediction of the crop.
  using Predict = std::function<Tensor(const Tensor&, const Tensor&, const Window&)>;

  /// Throws as normalised_weights() does. Windows end where the video ends.
  FusedPredictor(std::vector<Window> windows, WindowWeights weights);

  /// The averaged prediction for all frames; each window is run once, in order.
  [[nodiscard]] Tensor predict(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               const Predict& predict) const;
  [[nodiscard]] const std::vector<Window>& windows() const noexcept { return windows_; }
  [[nodiscard]] std::int64_t num_frames() const noexcept { return num_frames_; }

 private:
  std::vector<Window> windows_;
  std::int64_t num_frames_ = 0;
  std::vector<std::vector<double>> weights_;
};

}  // namespace kinema::diffusion
