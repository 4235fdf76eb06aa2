// SPDX-License-Identifier: Apache-2.0
// Times of stages: the layers that do the work, run for a moment at the sizes of the request.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <sys/mman.h>
#include <vector>

#include <ATen/ATen.h>
#include <unistd.h>

#include "core/io/checkpoint.h"
#include "core/nn/linear.h"
#include "core/tensor/from_view.h"
#include "dit/modules/vdit_model.h"
#include "dit/vdit.h"
#include "pipeline/process_memory.h"
#include "pipeline/stage_cost.h"
#include "vae/memory_plan.h"

namespace kinema::pipeline {
namespace {

/// Arithmetic of the transformer layer that is measured, 1e9.
constexpr double kLayerGflop = 150;

/// Seconds by the clock and of all threads; the second is steadier on a machine that others use.
struct Duration {
  double seconds = 0;
  double cpu = 0;
};

Duration duration_of(const std::function<void()>& call) {
  const double cpu = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  call();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {.seconds = seconds.count(), .cpu = cpu_seconds() - cpu};
}

/// Best of some runs within about a second.
Duration best_of(const std::function<void()>& call) {
  Duration best = duration_of(call);
  double sum = best.seconds;
  for (int i = 0; i < 10 && sum < 1.0; ++i) {
    const Duration next = duration_of(call);
    best = {.seconds = std::min(best.seconds, next.seconds), .cpu = std::min(best.cpu, next.cpu)};
    sum += next.seconds;
  }
  return best;
}

/// `times` as long as the measured piece, and the time of the disk.
void set_time(StageCost& cost, const Duration& piece, double times, double loading) {
  cost.seconds = piece.seconds * times + loading;
  cost.cpu_seconds = piece.cpu * times;
}

/// Seconds to bring what is not in memory yet from the disk, at the rate of its first megabytes.
double loading_seconds(const io::TensorViews& tensors) {
  constexpr std::size_t kSample = 64U << 20U;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::size_t cold = 0;
  std::size_t touched = 0;
  double touching = 0;
  std::vector<unsigned char> present;
  for (const auto& [name, view] : tensors) {
    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes.data());
    const std::uintptr_t begin = address / page * page;
    const std::size_t length = address + view.bytes.size() - begin;
    present.assign((length + page - 1) / page, 0);
    if (view.bytes.empty() ||
        ::mincore(reinterpret_cast<void*>(begin), length, present.data()) != 0) {
      continue;
    }
    const auto missing = static_cast<std::size_t>(std::count_if(
        present.begin(), present.end(), [](unsigned char p) { return (p & 1) == 0; }));
    cold += missing * page;
    if (missing == present.size() && touched < kSample && view.bytes.size() >= (1U << 20U)) {
      const std::size_t end = std::min(view.bytes.size(), kSample - touched);
      touching += duration_of([&] {
                    for (std::size_t i = 0; i < end; i += page) {
                      const volatile std::byte& byte = view.bytes[i];
                      static_cast<void>(static_cast<std::byte>(byte));
                    }
                  }).seconds;
      touched += end;
    }
  }
  return touched == 0 ? 0.0 : touching * static_cast<double>(cold) / static_cast<double>(touched);
}

/// A transformer of one layer whose weights are stored as those of the model.
std::unique_ptr<dit::VideoDit> one_layer(const dit::VDitConfig& config,
                                         const io::TensorViews& tensors,
                                         const tensor::Place& place) {
  auto layer = dit::VideoDit::create(config, 1, place);
  const auto found = std::find_if(tensors.begin(), tensors.end(), [](const auto& item) {
    return item.second.shape.size() == 2;
  });
  if (found == tensors.end()) {
    return layer;
  }
  const c10::ScalarType stored = tensor::to_scalar_type(found->second.dtype);
  if (c10::elementSize(stored) < c10::elementSize(place.dtype)) {
    for (Tensor& parameter : layer->module()->parameters()) {
      parameter.set_data(parameter.to(stored));
    }
  }
  return layer;
}

diffusion::Conditioning any_conditioning(const dit::VDitConfig& config,
                                         std::int64_t batch,
                                         std::int64_t prompt_tokens,
                                         const CostInput& input,
                                         const at::TensorOptions& options) {
  const auto told = [&](double value) { return at::full({batch}, value, options); };
  diffusion::Conditioning conditioning;
  conditioning.context_BMD =
      at::full({batch, prompt_tokens, config.caption_channels}, 0.1, options);
  conditioning.fps_B = told(8);
  conditioning.height_B = told(static_cast<double>(8 * input.latent_height));
  conditioning.width_B = told(static_cast<double>(8 * input.latent_width));
  conditioning.num_frames_B = told(static_cast<double>(input.num_frames));
  conditioning.aspect_ratio_B = told(1);
  if (config.pooled_channels > 0) {
    conditioning.pooled_BD = at::full({batch, config.pooled_channels}, 0.1, options);
  }
  return conditioning;
}

}  // namespace

void measure_text(StageCost& cost,
                  const ModelFolder& model,
                  const CostInput& input,
                  const tensor::Place& place) {
  const at::InferenceMode inference;
  const io::Checkpoint checkpoint = io::Checkpoint::open(model.text_encoder);
  const io::TensorView* widest = nullptr;
  for (const auto& [name, view] : checkpoint.tensors) {
    const bool table =
        name.find("shared") != std::string::npos || name.find("embed") != std::string::npos;
    if (view.shape.size() == 2 && !table &&
        (widest == nullptr || view.bytes.size() > widest->bytes.size())) {
      widest = &view;
    }
  }
  if (widest == nullptr || input.text_tokens.empty()) {
    return;
  }
  // Several weights in turn, so that none waits in a cache for its next use.
  constexpr std::size_t kSpan = 256U << 20U;
  const auto copies = static_cast<std::int64_t>(
      std::clamp<std::size_t>(kSpan / std::max<std::size_t>(widest->bytes.size(), 1), 1, 4));
  const c10::ScalarType stored = tensor::to_scalar_type(widest->dtype);
  const auto options =
      at::TensorOptions()
          .device(place.device)
          .dtype(c10::elementSize(stored) <= c10::elementSize(place.dtype) ? stored : place.dtype);
  std::vector<Tensor> weights;
  for (std::int64_t i = 0; i < copies; ++i) {
    weights.push_back(at::full({widest->shape[0], widest->shape[1]}, 0.25, options));
  }
  double sum_tokens = 0;
  for (const std::int64_t tokens : input.text_tokens) {
    sum_tokens += static_cast<double>(tokens);
  }
  std::int64_t measured = 0;
  Duration one;
  Duration all;
  for (const std::int64_t tokens : input.text_tokens) {
    if (tokens != measured) {
      const Tensor x = at::full({tokens, widest->shape[1]},
                                0.5,
                                at::TensorOptions().device(place.device).dtype(place.dtype));
      one = best_of([&] {
        for (const Tensor& weight : weights) {
          static_cast<void>(nn::linear(x, weight));
        }
      });
      measured = tokens;
    }
    const double gflop =
        2e-9 * static_cast<double>(tokens * widest->shape[0] * widest->shape[1] * copies);
    const double share = static_cast<double>(tokens) / sum_tokens;
    all.seconds += one.seconds * share * cost.gflop / gflop;
    all.cpu += one.cpu * share * cost.gflop / gflop;
  }
  set_time(cost, all, 1.0, loading_seconds(checkpoint.tensors));
}

void measure_denoise(StageCost& cost,
                     const ModelFolder& model,
                     const CostInput& input,
                     const tensor::Place& place) {
  const at::InferenceMode inference;
  dit::VDitConfig config = read_transformer_config(model.transformer);
  const io::Checkpoint checkpoint = io::Checkpoint::open(model.transformer);
  config.num_layers = 1;
  config.caption_tokens = 0;
  const std::int64_t batch = input.guided ? 2 : 1;
  const std::int64_t prompt = std::max<std::int64_t>(
      1, input.text_tokens.empty() ? input.max_length : input.text_tokens[0]);
  const std::int64_t patch_frames = config.patch[0];
  const std::int64_t window =
      input.plan.mode == LongMode::kFreeNoise ? input.latent_frames : input.plan.window;
  const std::int64_t positions = (input.latent_height + config.patch[1] - 1) / config.patch[1] *
                                 ((input.latent_width + config.patch[2] - 1) / config.patch[2]);
  const auto gflop_of = [&](std::int64_t latents) {
    const std::int64_t frames = (latents + patch_frames - 1) / patch_frames;
    return forward_gflop(config, batch, frames, positions, static_cast<double>(frames), prompt);
  };
  std::int64_t frames = window;
  while (frames > patch_frames && gflop_of(frames) > kLayerGflop) {
    frames = std::max(patch_frames, frames / 2);
  }
  if (config.layout == dit::Layout::kLatte) {
    config.video_length = frames;
  }
  const auto layer = one_layer(config, checkpoint.tensors, place);
  const auto options = at::TensorOptions().device(place.device).dtype(at::kFloat);
  const diffusion::Conditioning conditioning =
      any_conditioning(config, batch, prompt, input, options);
  const Tensor latents_BCTHW =
      at::full({batch, config.latent_channels, frames, input.latent_height, input.latent_width},
               0.5,
               options);
  const Tensor times_B = at::full({batch}, 500.0, options);
  const Duration pass =
      best_of([&] { static_cast<void>(layer->predict(latents_BCTHW, times_B, conditioning)); });
  set_time(cost, pass, cost.gflop / gflop_of(frames), loading_seconds(checkpoint.tensors));
}

void measure_decode(StageCost& cost,
                    const ModelFolder& model,
                    const vae::Autoencoder& vae,
                    const CostInput& input,
                    const tensor::Place& place) {
  const at::InferenceMode inference;
  const io::Checkpoint checkpoint = io::Checkpoint::open(model.vae);
  const double loading = loading_seconds(checkpoint.tensors);
  // The largest piece of a picture that a second or two suffice for.
  std::int64_t height = input.latent_height;
  std::int64_t width = input.latent_width;
  const auto plan_of = [&](std::int64_t h, std::int64_t w) {
    return 1e-9 * plan_memory(vae,
                              {.direction = vae::Direction::kDecode,
                               .frames = vae.video_frames(1),
                               .rows = h * vae.info().spatial_ratio,
                               .columns = w * vae.info().spatial_ratio,
                               .place = place})
                      .flops;
  };
  while (height * width > 64 && plan_of(height, width) > kLayerGflop) {
    (height > width ? height : width) /= 2;
  }
  const Tensor latents_BCTHW =
      at::full({1, vae.info().latent_channels, 1, height, width},
               0.5,
               at::TensorOptions().device(place.device).dtype(place.dtype));
  const Duration piece = best_of([&] { static_cast<void>(vae.decode(latents_BCTHW, {})); });
  set_time(cost, piece, cost.gflop / plan_of(height, width), loading);
}

}  // namespace kinema::pipeline
