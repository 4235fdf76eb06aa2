// SPDX-License-Identifier: Apache-2.0
// Guidance: one prediction from a conditional and an unconditional (or negative-prompt) one.
//
//   cfg         u + s (c - u)                                arXiv 2207.12598
//   cfg-zero    alpha u + s (c - alpha u), alpha = <c, u> / |u|^2, zeros at first steps
//                                                            CFG-Zero*, arXiv 2503.18886
//   apg         u + s (orthogonal + eta parallel part of c - u to c), after momentum and a limit of
//               its norm                                     arXiv 2410.02416
//   tangential  cfg with u projected on the first right singular vector of (c, u)
//                                                            arXiv 2503.18137
// All of them within an interval of steps (arXiv 2404.07724; outside it: c), with the standard
// deviation pulled back to that of c by `rescale` (arXiv 2305.08891 section 3.4), and optionally
// oscillating as in Open-Sora: from step `oscillate_from` on, every odd step uses scale 1.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/json.h"
#include "core/diffusion/denoiser.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

enum class GuidanceKind {
  kCfg,        ///< "cfg"
  kCfgZero,    ///< "cfg-zero"
  kApg,        ///< "apg"
  kTangential  ///< "tangential"
};

/// JSON keys are the field names; unknown keys throw.
struct GuidanceConfig {
  GuidanceKind kind = GuidanceKind::kCfg;
  double scale = 7.5;    ///< 1: no guidance (0 with from_conditional)
  double rescale = 0.0;  ///< 0 .. 1
  /// c + s (c - u) instead of u + s (c - u): the scale of the papers, one less than the usual one.
  bool from_conditional = false;
  double start = 0.0;  ///< guidance is on for int(start n) <= step < int(stop n) of n steps
  double stop = 1.0;
  /// Only the first so many channels are guided; nothing: all of the latents'. Open-Sora 1.0: 3
  /// of 4.
  std::optional<std::int64_t> guided_channels{};
  std::optional<std::int64_t> oscillate_from{};  ///< Open-Sora: 10
  std::int64_t zero_init_steps = 1;              ///< cfg-zero
  std::optional<double> momentum{};              ///< apg: -0.5 in the paper; nothing: none
  double norm_threshold = 15.0;                  ///< apg: limit of |c - u|; 0: none
  double eta = 1.0;                              ///< apg: weight of the parallel part

  static GuidanceConfig from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  void validate() const;  ///< throws kInvalidArgument [guidance.range]
  bool operator==(const GuidanceConfig&) const = default;
};

class Guidance {
 public:
  explicit Guidance(GuidanceConfig config);

  [[nodiscard]] const GuidanceConfig& config() const noexcept { return config_; }
  /// Whether the unconditional prediction is used at this step; else one network pass is saved.
  [[nodiscard]] bool needs_unconditional(std::int64_t step, std::int64_t num_steps) const;
  /// @param conditional, unconditional  [B, C or 2 C, ...]; the second may be undefined where it is
  /// not needed. Channels that are not guided (variances) are those of `conditional`.
  /// @param num_channels  C of the latents.
  /// Momentum makes the order of calls matter; step 0 starts afresh.
  [[nodiscard]] Tensor combine(const Tensor& conditional,
                               const Tensor& unconditional,
                               std::int64_t step,
                               std::int64_t num_steps,
                               std::int64_t num_channels);
  void reset() { running_ = Tensor(); }
  /// The momentum buffer; undefined when there is none. For a journal.
  [[nodiscard]] const Tensor& running() const noexcept { return running_; }
  void set_running(Tensor running) { running_ = std::move(running); }

 private:
  [[nodiscard]] bool is_active(std::int64_t step, std::int64_t num_steps) const;
  [[nodiscard]] double scale_at(std::int64_t step) const;
  [[nodiscard]] Tensor guide(const Tensor& c, const Tensor& u, double scale);

  GuidanceConfig config_;
  Tensor running_;
};

/// r * pred * std(c) / std(pred) + (1 - r) pred; unbiased std over all axes but the batch. A pred
/// without spread stays as it is.
[[nodiscard]] Tensor rescale_prediction(const Tensor& prediction,
                                        const Tensor& conditional,
                                        double rescale);

/// Text and image guidance of Open-Sora 2.0: n + s_image (u - n) + s_text (c - u), where c sees
/// text and image, u the negative text and the image, n neither.
/// @param image_scale_T  one scale for all frames (length 1) or one per latent frame.
[[nodiscard]] Tensor combine_text_and_image(const Tensor& conditional,
                                            const Tensor& without_text,
                                            const Tensor& without_both,
                                            double text_scale,
                                            std::span<const double> image_scale_T);

/// A denoiser with its prompt and negative prompt: both passes in one batch.
class GuidedDenoiser {
 public:
  /// Neither `denoiser` nor what it holds is owned.
  GuidedDenoiser(Denoiser& denoiser,
                 GuidanceConfig config,
                 Conditioning prompt,
                 Conditioning negative);

  /// @param frame_mask_BT  replaces the prompts' frame_mask_BT when defined.
  /// @return guided prediction of `latents_BCTHW`'s batch, variance channels included.
  [[nodiscard]] Tensor predict(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               std::int64_t step,
                               std::int64_t num_steps,
                               const Tensor& frame_mask_BT = {});
  [[nodiscard]] Guidance& guidance() noexcept { return guidance_; }
  /// The same prompts on latent frames [first, first + length); momentum is not shared.
  [[nodiscard]] GuidedDenoiser window(std::int64_t first, std::int64_t length) const;

 private:
  Denoiser* denoiser_;
  Guidance guidance_;
  Conditioning prompt_;
  Conditioning negative_;
};

}  // namespace kinema::diffusion
