// SPDX-License-Identifier: Apache-2.0
// The walk from noise to clean latents, for one window or many, with or without given frames, with
// a journal. Knows models only as a Denoiser.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <c10/core/Device.h>

#include "core/base/progress.h"
#include "core/diffusion/denoiser.h"
#include "core/diffusion/sampler.h"
#include "core/tensor/noise.h"
#include "core/tensor/tensor.h"
#include "pipeline/journal.h"
#include "pipeline/long_video.h"

namespace kinema::pipeline {

/// What the network is told from one latent frame on.
struct ScenePrompts {
  std::int64_t first_latent = 0;
  diffusion::Conditioning conditional{};
  diffusion::Conditioning negative{};
};

struct SamplingTask {
  LongPlan plan;
  tensor::NoiseSize size;  ///< of the whole video
  std::uint64_t seed = 0;
  double guidance = 1.0;
  std::vector<ScenePrompts> scenes;  ///< by rising first_latent, the first at 0
  /// float32 [1, C, T, H, W] in model space and [1, T], 1 where a frame is generated, 0 where it is
  /// given; both undefined when nothing is given.
  Tensor given_BCTHW;
  Tensor mask_BT;
  c10::Device device = c10::Device(c10::kCPU);
};

/// Steps that the progress bar counts: those of the sampler, with fifo also the iterations.
[[nodiscard]] std::int64_t num_progress_steps(const LongPlan& plan,
                                              std::int64_t latent_frames,
                                              std::int64_t steps);

/// What the journal of a run holds whose steps are all done.
[[nodiscard]] std::optional<Tensor> finished_latents(const LongPlan& plan,
                                                     std::int64_t latent_frames,
                                                     std::int64_t steps,
                                                     const Journal& journal);

/// The scene that a window belongs to: the one of its middle frame.
[[nodiscard]] const ScenePrompts& scene_of(const std::vector<ScenePrompts>& scenes,
                                           std::int64_t first_latent,
                                           std::int64_t length);

/// Called after a step with the clean latents that it believes in (with fifo: of the last window).
using StepObserver = std::function<void(std::int64_t steps_done, const Tensor& x0_BCTHW)>;

/// Clean latents [1, C, T, H, W]. @param sampler  with its schedule. Continues from the journal and
/// writes it after every step. Throws kCancelled, kInternal [generate.not_finite] when the network
/// gives NaN or infinity, kUnsupported [sampler.per_frame] for fifo with a multistep solver,
/// kInvalidArgument [request.fifo_given] for fifo with given frames.
[[nodiscard]] Tensor sample_latents(const SamplingTask& task,
                                    diffusion::Denoiser& denoiser,
                                    std::unique_ptr<diffusion::Sampler> sampler,
                                    const Journal* journal,
                                    ProgressObserver& progress,
                                    const StepObserver& observer = {});

/// Throws kInternal [generate.not_finite] that names the stage, unless all numbers are finite.
void require_finite(const Tensor& tensor, std::string_view stage);

}  // namespace kinema::pipeline
