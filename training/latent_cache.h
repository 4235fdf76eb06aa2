// SPDX-License-Identifier: Apache-2.0
// Latents of training clips, encoded once and kept on disk: posterior means and deviations in model
// space as fp16, so that posterior noise stays fresh in every epoch. Shards of 512 clips are
// written atomically; a cache that was stopped goes on, a cache of another autoencoder or other
// clips is refused.
#pragma once

#include <cstdint>
#include <string>

#include "training/clip_source.h"

#include "core/base/progress.h"
#include "core/tensor/tensor.h"
#include "vae/autoencoder.h"

namespace kinema::training {

struct LatentCacheKey {
  std::string vae;     ///< what identifies the autoencoder
  std::string source;  ///< what identifies the clips
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t frames = 17;
};

class LatentCache {
 public:
  /// Encodes what is missing in `folder`. Throws kInvalidArgument [train.cache] when it belongs to
  /// something else, kCancelled.
  static LatentCache open(const std::string& folder,
                          const LatentCacheKey& key,
                          const ClipSource& source,
                          const vae::Autoencoder& vae,
                          ProgressObserver& progress);

  [[nodiscard]] std::int64_t size() const { return mean_NCTHW.size(0); }

  /// mean + deviation * noise of clips `indices_B` (0 .. size - 1), float32.
  [[nodiscard]] Tensor sample(const Tensor& indices_B, const Tensor& noise_BCTHW) const;

  Tensor mean_NCTHW;       ///< fp16, model space
  Tensor deviation_NCTHW;  ///< fp16
};

}  // namespace kinema::training
