// SPDX-License-Identifier: Apache-2.0
#include "pipeline/sampling.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/diffusion/fifo.h"
#include "core/diffusion/freenoise.h"
#include "core/diffusion/guidance.h"
#include "core/diffusion/masked_sampling.h"
#include "core/diffusion/windows.h"

namespace kinema::pipeline {
namespace {

using diffusion::GuidedDenoiser;
using diffusion::Sampler;
using diffusion::Window;

Tensor scalar_B(double value) {
  return at::full({1}, value, at::kFloat);
}

tensor::NoiseSize with_frames(tensor::NoiseSize size, std::int64_t frames) {
  size.frames = frames;
  return size;
}

Tensor noise_of(const SamplingTask& task, const std::string& name, const tensor::NoiseSize& size) {
  return tensor::normal_noise({.seed = task.seed, .name = name}, size).unsqueeze(0);
}

/// The latents before the first step.
Tensor initial_latents(const SamplingTask& task, const Sampler& sampler) {
  Tensor noise_BCTHW;
  if (task.plan.mode == LongMode::kFreeNoise) {
    const diffusion::FreeNoiseConfig config{.window = task.plan.window, .stride = task.plan.stride};
    const auto orders = diffusion::block_orders(
        task.seed, "freenoise", num_noise_blocks(task.size.frames, config), config.stride);
    noise_BCTHW =
        diffusion::extend_noise(noise_of(task, "latents", with_frames(task.size, config.window)),
                                task.size.frames,
                                config,
                                orders);
  } else {
    noise_BCTHW = noise_of(task, "latents", task.size);
  }
  const Tensor start_BCTHW = noise_BCTHW * sampler.init_noise_sigma();
  if (!task.mask_BT.defined()) {
    return start_BCTHW;
  }
  const Tensor generated = task.mask_BT.eq(1.0).view({1, 1, -1, 1, 1});
  return at::where(generated, start_BCTHW, task.given_BCTHW);
}

/// Predictions of the whole video at one step, window by window where there are several.
class Predictor {
 public:
  Predictor(const SamplingTask& task, diffusion::Denoiser& denoiser)
      : task_(task), denoiser_(denoiser), whole_(guided(0, task.size.frames)) {
    if (task.plan.mode == LongMode::kFused) {
      fused_.emplace(task.plan.windows, diffusion::WindowWeights::kRamp);
    }
  }

  [[nodiscard]] Tensor predict(const Tensor& input_BCTHW,
                               double time,
                               const Tensor& mask_BT,
                               std::int64_t step,
                               std::int64_t num_steps) {
    const Tensor input = input_BCTHW.to(task_.device);
    const Tensor timestep_B = scalar_B(time).to(task_.device);
    if (!fused_) {
      return whole_.predict(input, timestep_B, step, num_steps, mask_BT).to(at::kCPU, at::kFloat);
    }
    return fused_->predict(
        input, timestep_B, [&](const Tensor& crop, const Tensor& times, const Window& window) {
          const Tensor mask =
              mask_BT.defined() ? mask_BT.narrow(1, window.first, window.length) : mask_BT;
          return guided(window.first, window.length)
              .predict(crop, times, step, num_steps, mask)
              .to(at::kCPU, at::kFloat);
        });
  }
  [[nodiscard]] diffusion::Guidance& guidance() { return whole_.guidance(); }

 private:
  [[nodiscard]] GuidedDenoiser guided(std::int64_t first, std::int64_t length) const {
    const ScenePrompts& scene = scene_of(task_.scenes, first, length);
    const GuidedDenoiser all(
        denoiser_, {.scale = task_.guidance}, scene.conditional, scene.negative);
    return first == 0 && length == task_.size.frames ? all : all.window(first, length);
  }

  const SamplingTask& task_;
  diffusion::Denoiser& denoiser_;
  GuidedDenoiser whole_;
  std::optional<diffusion::FusedPredictor> fused_;
};

/// Everything but fifo, and the clip that fifo starts from. @param first  steps done before.
Tensor walk(const SamplingTask& task,
            diffusion::Denoiser& denoiser,
            Sampler& sampler,
            std::optional<Journal::State> state,
            const Journal* journal,
            ProgressObserver& progress,
            const StepObserver& observer) {
  Predictor predictor(task, denoiser);
  Tensor latents_BCTHW = state ? state->latents_BCTHW : initial_latents(task, sampler);
  if (state && state->guidance_running.defined()) {
    predictor.guidance().set_running(state->guidance_running);
  }
  std::optional<diffusion::MaskedSampling> masked;
  if (task.mask_BT.defined()) {
    masked.emplace(task.mask_BT, sampler);
  }
  const std::int64_t num_steps = sampler.num_steps();
  for (std::int64_t i = state ? state->steps_done : 0; i < num_steps; ++i) {
    check_cancelled(progress, "pipeline");
    Tensor mask_BT;
    if (masked) {
      const Tensor fresh = masked->uses_noise(sampler, i)
                               ? noise_of(task, "mask/" + std::to_string(i), task.size)
                               : Tensor();
      latents_BCTHW = masked->before_step(sampler, i, latents_BCTHW, fresh);
      mask_BT = masked->generated_BT();
    }
    const Tensor input = masked ? masked->model_input(sampler, i, latents_BCTHW)
                                : sampler.scale_model_input(latents_BCTHW, i);
    const double time = sampler.timesteps()[static_cast<std::size_t>(i)];
    const Tensor prediction = predictor.predict(input, time, mask_BT, i, num_steps);
    const Tensor noise =
        sampler.needs_noise(i) ? noise_of(task, "step/" + std::to_string(i), task.size) : Tensor();
    const diffusion::StepResult result = sampler.step(prediction, i, latents_BCTHW, noise);
    latents_BCTHW = masked ? masked->after_step(result.sample) : result.sample;
    require_finite(latents_BCTHW, fmt::format("latents after step {}", i + 1));
    if (journal != nullptr) {
      journal->save(i + 1, latents_BCTHW, sampler, predictor.guidance().running());
    }
    progress.on_step(i + 1, {});
    if (observer) {
      observer(i + 1, result.x0);
    }
  }
  return latents_BCTHW;
}

/// FIFO: a clip of one window, then the queue until all frames left it.
Tensor walk_queue(const SamplingTask& task,
                  diffusion::Denoiser& denoiser,
                  Sampler& sampler,
                  std::optional<Journal::State> state,
                  const Journal* journal,
                  ProgressObserver& progress,
                  const StepObserver& observer) {
  const std::int64_t num_steps = sampler.num_steps();
  diffusion::FifoQueue queue({.window = task.plan.window,
                              .num_partitions = task.plan.fifo_partitions,
                              .look_ahead = task.plan.fifo_look_ahead},
                             sampler);
  const tensor::NoiseSize queue_size = with_frames(task.size, queue.size());
  std::vector<Tensor> frames;
  std::int64_t done = state ? state->steps_done : 0;
  if (done > num_steps) {
    queue.restore(state->latents_BCTHW, done - num_steps);
    frames = journal->load_frames(queue.num_emitted());
  } else {
    SamplingTask clip = task;
    clip.size = with_frames(task.size, task.plan.window);
    clip.plan = plan_long_video(LongMode::kExact, task.plan.window, 0, num_steps);
    const Tensor clip_BCTHW =
        walk(clip, denoiser, sampler, std::move(state), journal, progress, observer);
    queue.fill(sampler, clip_BCTHW, noise_of(task, "fifo/queue", queue_size));
    done = num_steps;
  }
  // Slot of the queue -> frame of the video, at the first iteration.
  const std::int64_t first_slot = queue.size() - num_steps + queue.num_warm_up();
  while (queue.num_emitted() < task.size.frames) {
    check_cancelled(progress, "pipeline");
    const std::int64_t iteration = queue.num_iterations();
    const auto predict = [&](const Tensor& crop, const Tensor& times_BT, const Window& window) {
      const std::int64_t frame = iteration + window.first - first_slot;
      const ScenePrompts& scene = scene_of(task.scenes, frame, window.length);
      return GuidedDenoiser(denoiser, {.scale = task.guidance}, scene.conditional, scene.negative)
          .predict(crop.to(task.device), times_BT.to(task.device), 0, num_steps)
          .to(at::kCPU, at::kFloat);
    };
    bool noisy = false;
    for (std::int64_t i = 0; i < num_steps; ++i) {
      noisy = noisy || sampler.needs_noise(i);
    }
    const Tensor step_noise =
        noisy ? noise_of(task, "fifo/step/" + std::to_string(iteration), queue_size) : Tensor();
    const Tensor fresh = tensor::normal_noise({.seed = task.seed, .name = "fifo/fresh"},
                                              with_frames(task.size, 1),
                                              {.first_frame = iteration})
                             .unsqueeze(0);
    const Tensor frame_BC1HW = queue.step(sampler, predict, step_noise, fresh);
    require_finite(queue.latents_BCTHW(), fmt::format("latents after iteration {}", iteration + 1));
    ++done;
    if (frame_BC1HW.defined()) {
      if (journal != nullptr) {
        journal->save_frame(queue.num_emitted() - 1, frame_BC1HW);
      }
      frames.push_back(frame_BC1HW);
      if (observer) {
        observer(done, frame_BC1HW);
      }
    }
    if (journal != nullptr) {
      journal->save(done, queue.latents_BCTHW(), sampler, {});
    }
    progress.on_step(done, {});
  }
  return at::cat(frames, 2);
}

}  // namespace

std::int64_t num_progress_steps(const LongPlan& plan,
                                std::int64_t latent_frames,
                                std::int64_t steps) {
  return plan.mode == LongMode::kFifo ? 2 * steps - plan.window + latent_frames : steps;
}

std::optional<Tensor> finished_latents(const LongPlan& plan,
                                       std::int64_t latent_frames,
                                       std::int64_t steps,
                                       const Journal& journal) {
  const auto state = journal.load();
  if (!state || state->steps_done < num_progress_steps(plan, latent_frames, steps)) {
    return std::nullopt;
  }
  return plan.mode == LongMode::kFifo ? at::cat(journal.load_frames(latent_frames), 2)
                                      : state->latents_BCTHW;
}

const ScenePrompts& scene_of(const std::vector<ScenePrompts>& scenes,
                             std::int64_t first_latent,
                             std::int64_t length) {
  const std::int64_t middle = first_latent + length / 2;
  std::size_t best = 0;
  for (std::size_t i = 0; i < scenes.size() && scenes[i].first_latent <= middle; ++i) {
    best = i;
  }
  return scenes.at(best);
}

Tensor sample_latents(const SamplingTask& task,
                      diffusion::Denoiser& denoiser,
                      std::unique_ptr<Sampler> sampler,
                      const Journal* journal,
                      ProgressObserver& progress,
                      const StepObserver& observer) {
  auto state = journal == nullptr ? std::nullopt : journal->load();
  if (state) {
    sampler = std::move(state->sampler);
  }
  if (task.plan.mode == LongMode::kFifo && task.mask_BT.defined()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "request.fifo_given",
                 .place = "pipeline",
                 .subject = "--long fifo",
                 .expected = "no given frames",
                 .got = "an image or a video",
                 .hint = "use --long fused or freenoise"});
  }
  progress.on_stage(
      "denoise", num_progress_steps(task.plan, task.size.frames, sampler->num_steps()), "step");
  const auto run = task.plan.mode == LongMode::kFifo ? walk_queue : walk;
  Tensor latents_BCTHW =
      run(task, denoiser, *sampler, std::move(state), journal, progress, observer);
  progress.on_stage_end();
  return latents_BCTHW;
}

void require_finite(const Tensor& tensor, std::string_view stage) {
  if (!tensor.isfinite().all().item<bool>()) {
    throw Error(ErrorKind::kInternal,
                {.code = "generate.not_finite",
                 .place = "pipeline",
                 .subject = std::string(stage),
                 .expected = "finite numbers",
                 .got = "NaN or infinity",
                 .hint = "try --dtype fp32, or a smaller guidance scale"});
  }
}

}  // namespace kinema::pipeline
