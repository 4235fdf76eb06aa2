// SPDX-License-Identifier: Apache-2.0
// Text to video: validate, encode the prompt, plan, draw noise, loop, decode. Every step is a
// method. Components are loaded when their stage comes and dropped after it, so that the peak is
// the largest stage and not the sum.
//
//   TextToVideo pipeline(ModelFolder::open(folder), place, logger);
//   request = pipeline.resolve(request);                 // fills what the model decides
//   const Plan plan = pipeline.plan(request);            // throws for sizes that are not legal
//   const Tensor latents_BCTHW = pipeline.sample(request, {.journal = &journal}, progress);
//   pipeline.decode(request, latents_BCTHW, consumer, progress);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/diffusion/denoiser.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "pipeline/given_frames.h"
#include "pipeline/journal.h"
#include "pipeline/long_video.h"
#include "pipeline/model_folder.h"
#include "pipeline/sampling.h"
#include "pipeline/stage_cost.h"
#include "pipeline/video_request.h"
#include "vae/autoencoder.h"

namespace kinema::dit {
class VideoDit;
}

namespace kinema::pipeline {

/// What a request costs, before any weight is read.
struct Plan {
  std::int64_t latent_channels = 0;
  std::int64_t latent_frames = 0;
  std::int64_t latent_height = 0;
  std::int64_t latent_width = 0;
  std::int64_t tokens = 0;          ///< of the transformer, for the whole video
  std::int64_t network_passes = 0;  ///< over a window; twice with guidance
  std::int64_t decoded_frames = 0;  ///< legal count at or above the frames asked for
  LongPlan windows;
  std::vector<StageCost> stages;  ///< text, denoise, decode; from TextToVideo::costs()
  [[nodiscard]] OrderedJson to_json() const;
};

/// Small pictures of what is being made, uint8 [F, H, W, 3], and what they cost.
using PreviewConsumer =
    std::function<void(const Tensor& frames_FHWC, std::int64_t steps_done, double seconds)>;

struct PreviewOptions {
  std::int64_t every = 5;   ///< steps between previews
  std::int64_t frames = 1;  ///< latent frames shown, evenly spread; 1: the middle one
  PreviewConsumer consumer{};
};

struct SampleOptions {
  const Journal* journal = nullptr;  ///< continued and written after every step
  FrameSource* frames = nullptr;     ///< needed for requests with given frames
  PreviewOptions preview{};
};

class TextToVideo {
 public:
  TextToVideo(ModelFolder model, const tensor::Place& place, Logger& logger = null_logger());
  ~TextToVideo();

  /// The request with what the model decides filled in: how a video that is longer than the model
  /// was trained on is made, and in which windows. resolve(resolve(r)) == resolve(r).
  [[nodiscard]] VideoRequest resolve(VideoRequest request);

  /// Throws kInvalidArgument [request.*, vae.size] with the nearest legal value, kUnsupported
  /// [request.long_layout] for a way of making long videos that the transformer does not know.
  [[nodiscard]] Plan plan(const VideoRequest& request);

  /// Memory and arithmetic of the stages, without reading weights; with `measured` also their
  /// times, from a few seconds of measuring.
  [[nodiscard]] std::vector<StageCost> costs(const VideoRequest& request,
                                             const Plan& plan,
                                             bool measured);

  /// Opens every component and checks its tensors, so that a wrong file is told before the first
  /// minute is spent. Throws what the loaders throw.
  void check_components(const VideoRequest& request);

  /// Text features of the prompts of these requests, kept for sample(). The encoder is loaded once,
  /// and only when there is a prompt that is not kept already; then others are forgotten.
  void encode_prompts(std::span<const VideoRequest> requests, ProgressObserver& progress);

  /// The clean latents [1, C, T, H, W] in model space. Throws kCancelled when `progress` says so,
  /// kInternal [generate.not_finite] when a model gives NaN or infinity.
  [[nodiscard]] Tensor sample(const VideoRequest& request,
                              const SampleOptions& options,
                              ProgressObserver& progress);

  /// Decodes and hands on exactly request.frames frames, in order.
  void decode(const VideoRequest& request,
              const Tensor& latents_BCTHW,
              const ImageConsumer& consumer,
              ProgressObserver& progress);

  [[nodiscard]] const ModelFolder& model() const noexcept { return model_; }
  [[nodiscard]] const tensor::Place& place() const noexcept { return place_; }
  /// The autoencoder, loaded when it is first asked for.
  [[nodiscard]] const vae::Autoencoder& autoencoder();

 private:
  /// Text, cleaning and length, what the features depend on.
  using TextKey = std::pair<std::string, std::int64_t>;

  [[nodiscard]] std::unique_ptr<diffusion::Sampler> make_sampler(const VideoRequest& request,
                                                                 const LongPlan& plan);
  [[nodiscard]] std::vector<TextKey> texts_of(const VideoRequest& request) const;
  [[nodiscard]] std::int64_t told_frames(const VideoRequest& request, const LongPlan& plan);
  [[nodiscard]] diffusion::Conditioning conditioning(const VideoRequest& request,
                                                     const std::string& prompt,
                                                     std::int64_t num_frames) const;
  [[nodiscard]] std::vector<ScenePrompts> scenes(const VideoRequest& request,
                                                 const dit::VideoDit& denoiser,
                                                 const std::vector<std::int64_t>& first_latents,
                                                 std::int64_t num_frames) const;
  [[nodiscard]] GivenFrames given_frames(const VideoRequest& request,
                                         const SampleOptions& options,
                                         ProgressObserver& progress);
  [[nodiscard]] StepObserver preview_observer(const PreviewOptions& preview,
                                              std::int64_t total_steps);

  ModelFolder model_;
  tensor::Place place_;
  Logger& logger_;
  std::int64_t program_bytes_;
  std::unique_ptr<vae::Autoencoder> autoencoder_;
  std::map<TextKey, diffusion::Conditioning> encoded_;
};

}  // namespace kinema::pipeline
