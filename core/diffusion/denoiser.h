// SPDX-License-Identifier: Apache-2.0
// What a diffusion model looks like from outside: dit/ implements it, pipeline/ and style/ use it.
//
// Letters: B batch, C channels, T latent frames, H W latent rows and columns, M context tokens,
// D context width. Times are in the model's own unit, 0 (clean) .. 1000 (noise) for every model
// that kinema ships; a Sampler hands them out.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace kinema::diffusion {

/// Everything a denoiser is told besides latents and time. An undefined tensor means "not given";
/// a model skips what it has no use for and refuses what it needs and does not get.
struct Conditioning {
  Tensor context_BMD;      ///< text features, any float type
  Tensor context_mask_BM;  ///< true (or 1) where the token counts; undefined: all count
  Tensor pooled_BD;        ///< pooled text features, for models that use them
  Tensor fps_B;            ///< float, frames per second of the video
  Tensor height_B;         ///< float, pixel rows
  Tensor width_B;          ///< float, pixel columns
  Tensor num_frames_B;     ///< float, pixel frames
  Tensor aspect_ratio_B;   ///< float, height / width
  Tensor frame_mask_BT;    ///< bool: true = generated frame (time t), false = given frame (time 0)
  Tensor image_BCTHW;      ///< latents of given frames, for models that take them as channels
  std::int64_t frame_offset = 0;  ///< index of the first latent frame in the whole video

  /// The same for latent frames [first, first + length): slices frame_mask_BT and image_BCTHW,
  /// moves frame_offset. Throws kInvalidArgument [conditioning.window] when that is out of range.
  [[nodiscard]] Conditioning window(std::int64_t first, std::int64_t length) const;
};

/// Both, batch after batch (`first` before `second`). Context of different lengths is padded with
/// zeros and masked. Throws kShapeMismatch [conditioning.concat] when only one side has a field.
[[nodiscard]] Conditioning concat(const Conditioning& first, const Conditioning& second);

class Denoiser {
 public:
  virtual ~Denoiser() = default;

  /// One forward pass.
  /// @param latents_BCTHW  what the sampler's scale_model_input() returned.
  /// @param timesteps      [B], or [B, T] with a time of its own for every frame; float.
  /// @return [B, C, T, H, W], or [B, 2 C, T, H, W] for models that also predict a variance.
  [[nodiscard]] virtual Tensor predict(const Tensor& latents_BCTHW,
                                       const Tensor& timesteps,
                                       const Conditioning& conditioning) = 0;
};

}  // namespace kinema::diffusion
