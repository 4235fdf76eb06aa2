// SPDX-License-Identifier: Apache-2.0
// The journal of a generation: after every step the request, the latents and the sampler's state
// are on disk, in a folder ".<output>.kinema" beside the output, so that a run that was killed
// loses at most the step in hand. Removed when the output is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/diffusion/sampler.h"
#include "core/tensor/tensor.h"
#include "pipeline/video_request.h"

namespace kinema::pipeline {

/// An empty folder for a journal; what an earlier run left there goes. Throws kOutput
/// [output.unwritable].
void make_journal_folder(const std::string& folder);

class Journal {
 public:
  /// Folder of the journal that belongs to `output`.
  [[nodiscard]] static std::string folder_of(const std::string& output);
  [[nodiscard]] static bool exists(const std::string& output);

  /// Begins a journal. Throws kOutput when it cannot be written.
  static Journal create(const std::string& output, const VideoRequest& request);
  /// Opens what a stopped run left. Throws kIo [journal.none], kBadData [config.*, json.*].
  static Journal open(const std::string& output);

  [[nodiscard]] const VideoRequest& request() const noexcept { return request_; }

  struct State {
    std::int64_t steps_done = 0;
    Tensor latents_BCTHW;  ///< float32
    std::unique_ptr<diffusion::Sampler> sampler;
    Tensor guidance_running;  ///< momentum of guidance; undefined without
  };
  /// Nothing when no step was finished. Throws kBadData or kBadCheckpoint for a damaged file.
  [[nodiscard]] std::optional<State> load() const;
  /// Atomic: the state on disk is always that of one whole step.
  void save(std::int64_t steps_done,
            const Tensor& latents_BCTHW,
            const diffusion::Sampler& sampler,
            const Tensor& guidance_running) const;
  /// Frames that left a fifo queue, each [1, C, 1, H, W], in a file of its own: what is done is
  /// written once. Save a frame before the state that counts it.
  void save_frame(std::int64_t index, const Tensor& latents_BC1HW) const;
  /// The first `count`. Throws kIo, kBadCheckpoint for a missing or damaged one.
  [[nodiscard]] std::vector<Tensor> load_frames(std::int64_t count) const;

  /// Latents of given frames and the mask of generated ones, as they were encoded at the start.
  void save_given(const Tensor& given_BCTHW, const Tensor& mask_BT) const;
  struct Given {
    Tensor latents_BCTHW;
    Tensor mask_BT;
  };
  [[nodiscard]] std::optional<Given> load_given() const;

  /// The output is complete.
  void remove() const;

 private:
  Journal(std::string folder, VideoRequest request);

  std::string folder_;
  VideoRequest request_;
};

}  // namespace kinema::pipeline
