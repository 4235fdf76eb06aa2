// SPDX-License-Identifier: Apache-2.0
// What the `kinema vae` commands share: the model, its plan of memory, how to read and run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "apps/cli/console.h"
#include "apps/cli/vae_options.h"
#include "core/base/json.h"
#include "core/tensor/place.h"
#include "pipeline/clip_codec.h"
#include "pipeline/clip_source.h"
#include "vae/autoencoder.h"

namespace kinema::engine {

/// Folder of the autoencoder that --vae or --model names. Throws kBadCheckpoint
/// [model.component_missing].
[[nodiscard]] std::string autoencoder_folder(const cli::VaeRunOptions& options);

[[nodiscard]] pipeline::CodecRun codec_run(const cli::VaeRunOptions& options);
[[nodiscard]] pipeline::ClipOptions clip_options(const cli::VaeClipOptions& options);

/// What a command does with the autoencoder.
struct VaeWork {
  bool encodes = false;
  bool decodes = false;
  bool twice = false;       ///< two streams at once (the seam)
  std::int64_t frames = 0;  ///< 0: unknown
  std::int64_t width = 0;   ///< pixels, before padding
  std::int64_t height = 0;
};

struct MemoryEstimate {
  std::int64_t peak_bytes = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t state_bytes = 0;       ///< what streams remember, in memory
  std::int64_t file_bytes = 0;        ///< what streams remember, in a temporary file
  std::int64_t activation_bytes = 0;  ///< of a step
  std::uint64_t available_bytes = 0;  ///< on this machine, now; 0: unknown or not asked (GPU)
  double flops = 0;
  [[nodiscard]] OrderedJson to_json() const;
  [[nodiscard]] std::string to_text() const;
};

/// An autoencoder that can plan before its weights are read.
class VaeModel {
 public:
  VaeModel(const cli::VaeRunOptions& options, const cli::CommonOptions& common, Logger& logger);

  /// The config alone, to ask for sizes; it cannot run.
  [[nodiscard]] const vae::Autoencoder& shape() const { return *shape_; }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] const tensor::Place& place() const { return place_; }
  [[nodiscard]] MemoryEstimate estimate(const VaeWork& work) const;
  /// Throws kOutOfMemory [memory.plan] when the estimate does not fit, unless --force.
  void require_memory(const MemoryEstimate& estimate, const std::string& subject) const;
  /// Reads the weights.
  [[nodiscard]] std::unique_ptr<vae::Autoencoder> load() const;

 private:
  const cli::VaeRunOptions& options_;
  Logger& logger_;
  tensor::Place place_;
  std::string folder_;
  std::unique_ptr<vae::Autoencoder> shape_;
};

/// The length of a clip, counted where the model must know it.
[[nodiscard]] std::optional<std::int64_t> clip_length(const vae::AutoencoderInfo& info,
                                                      const std::string& path,
                                                      const pipeline::ClipOptions& options);

}  // namespace kinema::engine
