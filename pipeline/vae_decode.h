// SPDX-License-Identifier: Apache-2.0
// Latent files back to pictures, streamed: memory does not grow with the number of latents.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/base/progress.h"
#include "core/tensor/tensor.h"
#include "pipeline/clip_codec.h"
#include "pipeline/latent_file.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

struct DecodeRequest {
  CodecRun run{};
  bool sample = false;  ///< draw from the posterior instead of taking its mean
  std::uint64_t seed = 0;
  std::optional<std::int64_t> clip{};  ///< only this one; else all, one after the other
};

/// Frames that decode_latents() will give.
[[nodiscard]] std::int64_t frames_to_decode(const LatentFile& file, const DecodeRequest& request);

/// Throws kBadData [latents.model] when the latents do not fit the autoencoder, kInvalidArgument
/// [latents.clip] for a clip that the file lacks, and what CodecRun::check() throws.
void check_fit(const vae::Autoencoder& vae, const LatentFile& file, const DecodeRequest& request);

/// Hands on uint8 pictures [H, W, 3] of the size that was encoded. Throws what check_fit() throws.
void decode_latents(const vae::Autoencoder& vae,
                    const LatentFile& file,
                    const DecodeRequest& request,
                    const std::function<void(const Tensor& frame_HWC)>& consumer,
                    ProgressObserver& progress);

}  // namespace kinema::pipeline
