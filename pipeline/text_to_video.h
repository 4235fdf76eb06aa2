// SPDX-License-Identifier: Apache-2.0
// Text to video: validate, encode the prompt, plan, draw noise, loop, decode. Every step is a
// method. Components are loaded when their stage comes and dropped after it, so that the peak is
// the largest stage and not the sum.
//
//   TextToVideo pipeline(ModelFolder::open(folder), place, logger);
//   const Plan plan = pipeline.plan(request);            // throws for sizes that are not legal
//   const Tensor latents_BCTHW = pipeline.sample(request, journal, progress);
//   pipeline.decode(request, latents_BCTHW, consumer, progress);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/diffusion/denoiser.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "pipeline/journal.h"
#include "pipeline/model_folder.h"
#include "pipeline/video_request.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

/// What a request costs, before any weight is read.
struct Plan {
  std::int64_t latent_channels = 0;
  std::int64_t latent_frames = 0;
  std::int64_t latent_height = 0;
  std::int64_t latent_width = 0;
  std::int64_t tokens = 0;          ///< of the transformer
  std::int64_t network_passes = 0;  ///< steps, twice with guidance
  std::int64_t decoded_frames = 0;  ///< legal count at or above the frames asked for
  [[nodiscard]] OrderedJson to_json() const;
};

/// One RGB frame, uint8 [H, W, 3] on the CPU.
using ImageConsumer = std::function<void(const Tensor& frame_HWC)>;

class TextToVideo {
 public:
  TextToVideo(ModelFolder model, const tensor::Place& place, Logger& logger = null_logger());
  ~TextToVideo();

  /// Throws kInvalidArgument [request.*, vae.size] with the nearest legal value.
  [[nodiscard]] Plan plan(const VideoRequest& request);

  /// Text features of the prompt and of its unconditional side.
  struct Prompts {
    diffusion::Conditioning conditional;
    std::optional<diffusion::Conditioning> negative;  ///< absent: the model's null caption serves
  };
  [[nodiscard]] Prompts encode_prompts(const VideoRequest& request);

  /// The clean latents [1, C, T, H, W] in model space. With a journal, continues where it stands
  /// and writes it after every step. Throws kCancelled when `progress` says so, kInternal
  /// [generate.not_finite] when the network gives NaN or infinity.
  [[nodiscard]] Tensor sample(const VideoRequest& request,
                              const Journal* journal,
                              ProgressObserver& progress);

  /// Decodes and hands on exactly request.frames frames, in order.
  void decode(const VideoRequest& request,
              const Tensor& latents_BCTHW,
              const ImageConsumer& consumer,
              ProgressObserver& progress);

 private:
  [[nodiscard]] const vae::Autoencoder& autoencoder();
  [[nodiscard]] std::unique_ptr<diffusion::Sampler> make_sampler(const VideoRequest& request) const;

  ModelFolder model_;
  tensor::Place place_;
  Logger& logger_;
  std::unique_ptr<vae::Autoencoder> autoencoder_;
};

}  // namespace kinema::pipeline
