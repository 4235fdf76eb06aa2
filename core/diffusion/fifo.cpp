// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/fifo.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.fifo";
constexpr std::int64_t kMaxSteps = 1'000'000;

}  // namespace

FifoQueue::FifoQueue(FifoConfig config, const Sampler& sampler)
    : config_(config), num_steps_(sampler.num_steps()) {
  const bool valid = config.window >= 1 && config.window <= kMaxSteps &&
                     config.num_partitions >= 1 && config.num_partitions <= kMaxSteps &&
                     (!config.look_ahead || config.window % 2 == 0);
  if (!valid || config.window * config.num_partitions != num_steps_) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "fifo.steps",
         .place = kPlace,
         .subject = "window and partitions",
         .expected = "window x partitions = " + std::to_string(num_steps_) +
                     " sampling steps, an even window for look-ahead",
         .got = std::to_string(config.window) + " x " + std::to_string(config.num_partitions)});
  }
  if (sampler.is_multistep()) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "sampler.per_frame",
                 .place = kPlace,
                 .subject = std::string(to_string(sampler.kind())),
                 .expected = "a sampler without history",
                 .got = "a multistep solver",
                 .hint = "use rflow, flow-euler, ddim, ddpm, iddpm or euler"});
  }
}

std::int64_t FifoQueue::num_front() const noexcept {
  return config_.look_ahead ? config_.window / 2 : 0;
}
std::int64_t FifoQueue::size() const noexcept {
  return num_steps_ + num_front();
}
std::int64_t FifoQueue::num_warm_up() const noexcept {
  return num_steps_ - config_.window;
}
std::int64_t FifoQueue::num_emitted() const noexcept {
  return std::max<std::int64_t>(num_iterations_ - num_warm_up(), 0);
}

std::int64_t FifoQueue::step_index(std::int64_t slot) const {
  return num_steps_ - 1 - std::max<std::int64_t>(slot - num_front(), 0);
}

void FifoQueue::fill(const Sampler& sampler, const Tensor& clip_BCTHW, const Tensor& noise_BCTHW) {
  tensor::check_shape(clip_BCTHW,
                      {tensor::kAny, tensor::kAny, config_.window, tensor::kAny, tensor::kAny},
                      kPlace,
                      "clip_BCTHW");
  tensor::check_shape(
      noise_BCTHW,
      {clip_BCTHW.size(0), clip_BCTHW.size(1), size(), clip_BCTHW.size(3), clip_BCTHW.size(4)},
      kPlace,
      "noise_BCTHW");
  std::vector<Tensor> slots;
  for (std::int64_t slot = 0; slot < size(); ++slot) {
    const std::int64_t frame = std::max<std::int64_t>(slot - num_front() - num_warm_up(), 0);
    slots.push_back(sampler.add_noise(
        clip_BCTHW.narrow(2, frame, 1), noise_BCTHW.narrow(2, slot, 1), step_index(slot)));
  }
  latents_BCTHW_ = at::cat(slots, 2);
  num_iterations_ = 0;
}

void FifoQueue::restore(const Tensor& latents_BCTHW, std::int64_t num_iterations) {
  tensor::check_shape(latents_BCTHW,
                      {tensor::kAny, tensor::kAny, size(), tensor::kAny, tensor::kAny},
                      kPlace,
                      "latents_BCTHW");
  latents_BCTHW_ = latents_BCTHW;
  num_iterations_ = num_iterations;
}

Tensor FifoQueue::step(Sampler& sampler,
                       const Predict& predict,
                       const Tensor& step_noise_BCTHW,
                       const Tensor& fresh_BC1HW) {
  if (!latents_BCTHW_.defined() || sampler.num_steps() != num_steps_) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "fifo.steps",
         .place = kPlace,
         .subject = "queue",
         .expected = "fill() first, and a sampler of " + std::to_string(num_steps_) + " steps",
         .got = std::to_string(sampler.num_steps()) + " steps"});
  }
  const std::int64_t num_batch = latents_BCTHW_.size(0);
  std::vector<std::int64_t> indices;
  std::vector<double> times;
  std::vector<Tensor> inputs;
  for (std::int64_t slot = 0; slot < size(); ++slot) {
    indices.push_back(step_index(slot));
    times.push_back(sampler.timesteps()[static_cast<std::size_t>(indices.back())]);
    inputs.push_back(sampler.scale_model_input(latents_BCTHW_.narrow(2, slot, 1), indices.back()));
  }
  const Tensor input_BCTHW = at::cat(inputs, 2);
  const Tensor times_BT =
      at::tensor(times, at::kDouble).to(latents_BCTHW_.options()).repeat({num_batch, 1});
  // Windows from the noisiest to the cleanest; each gives the frames behind its front half.
  const std::int64_t used = config_.look_ahead ? config_.window / 2 : config_.window;
  std::vector<Tensor> predictions;
  for (std::int64_t end = size(); end > num_front(); end -= used) {
    const Window window{.first = end - config_.window,
                        .length = config_.window,
                        .index = static_cast<std::int64_t>(predictions.size())};
    const Tensor part = predict(input_BCTHW.narrow(2, window.first, window.length),
                                times_BT.narrow(1, window.first, window.length),
                                window);
    predictions.insert(predictions.begin(), part.narrow(2, window.length - used, used));
  }
  const auto moving = [&](const Tensor& all) {
    return all.defined() ? all.narrow(2, num_front(), num_steps_) : all;
  };
  const StepResult stepped =
      sampler.step_frames(at::cat(predictions, 2),
                          std::span(indices).subspan(static_cast<std::size_t>(num_front())),
                          moving(latents_BCTHW_),
                          moving(step_noise_BCTHW));
  const Tensor emitted = stepped.sample.narrow(2, 0, 1).clone();
  // Clean frames move into the front; the oldest of them leaves.
  const Tensor kept = at::cat(
      {latents_BCTHW_.narrow(2, 0, num_front()).to(stepped.sample.options()), stepped.sample}, 2);
  const Tensor fresh = fresh_BC1HW.to(kept.options()) * sampler.init_noise_sigma();
  latents_BCTHW_ = at::cat({kept.narrow(2, 1, size() - 1), fresh}, 2);
  num_iterations_ += 1;
  return num_iterations_ > num_warm_up() ? emitted : Tensor();
}

}  // namespace kinema::diffusion
