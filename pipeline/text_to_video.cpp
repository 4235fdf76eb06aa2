// SPDX-License-Identifier: Apache-2.0
#include "pipeline/text_to_video.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/diffusion/guidance.h"
#include "core/diffusion/sampler.h"
#include "core/tensor/noise.h"
#include "dit/vdit.h"
#include "text/text_encoder.h"
#include "text/tokenizer/prompt_cleaning.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::pipeline {
namespace {

dit::VDitConfig read_transformer_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  std::vector<std::string> unknown;
  return dit::VDitConfig::from_json(
      read_json_file(path, {.place = "pipeline", .subject = path}), path, unknown);
}

std::string cleaned(const std::string& prompt, const std::string& mode) {
  if (mode == "caption") {
    return text::text_preprocessing(prompt);
  }
  return mode == "lower" ? text::plain_preprocessing(prompt) : prompt;
}

Tensor scalar_B(double value) {
  return at::full({1}, value, at::kFloat);
}

void describe_video(const VideoRequest& request, diffusion::Conditioning& conditioning) {
  // Open-Sora tells an image from a video by the frame rate 120.
  conditioning.fps_B = scalar_B(request.frames == 1 ? 120.0 : request.fps);
  conditioning.height_B = scalar_B(static_cast<double>(request.height));
  conditioning.width_B = scalar_B(static_cast<double>(request.width));
  conditioning.num_frames_B = scalar_B(static_cast<double>(request.frames));
  conditioning.aspect_ratio_B =
      scalar_B(static_cast<double>(request.height) / static_cast<double>(request.width));
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

void require_finite(const Tensor& tensor, std::string_view stage, std::int64_t step) {
  if (!tensor.isfinite().all().item<bool>()) {
    throw Error(ErrorKind::kInternal,
                {.code = "generate.not_finite",
                 .place = "pipeline",
                 .subject = fmt::format("{} after step {}", stage, step),
                 .expected = "finite numbers",
                 .got = "NaN or infinity",
                 .hint = "try --dtype fp32, or a smaller guidance scale"});
  }
}

}  // namespace

OrderedJson Plan::to_json() const {
  return {{"latents", {1, latent_channels, latent_frames, latent_height, latent_width}},
          {"tokens", tokens},
          {"network_passes", network_passes},
          {"decoded_frames", decoded_frames}};
}

TextToVideo::TextToVideo(ModelFolder model, const tensor::Place& place, Logger& logger)
    : model_(std::move(model)), place_(place), logger_(logger) {}
TextToVideo::~TextToVideo() = default;

const vae::Autoencoder& TextToVideo::autoencoder() {
  if (autoencoder_ == nullptr) {
    autoencoder_ = vae::Autoencoder::load(model_.vae, place_, logger_);
  }
  return *autoencoder_;
}

Plan TextToVideo::plan(const VideoRequest& request) {
  request.validate();
  const vae::Autoencoder& vae = autoencoder();
  const dit::VDitConfig config = read_transformer_config(model_.transformer);
  if (config.latent_channels != vae.info().latent_channels) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "model.latent_channels",
                 .place = "pipeline",
                 .subject = model_.path,
                 .expected = fmt::format("a transformer for {} latent channels",
                                         vae.info().latent_channels),
                 .got = std::to_string(config.latent_channels)});
  }
  Plan plan;
  plan.decoded_frames = vae.next_legal_frames(request.frames);
  vae.check_size(plan.decoded_frames, request.height, request.width);
  plan.latent_channels = config.latent_channels;
  plan.latent_frames = vae.latent_frames(plan.decoded_frames);
  plan.latent_height = request.height / vae.info().spatial_ratio;
  plan.latent_width = request.width / vae.info().spatial_ratio;
  plan.tokens = ceil_divide(plan.latent_frames, config.patch[0]) *
                ceil_divide(plan.latent_height, config.patch[1]) *
                ceil_divide(plan.latent_width, config.patch[2]);
  plan.network_passes = request.steps * (request.guidance == 1.0 ? 1 : 2);
  static_cast<void>(make_sampler(request));
  return plan;
}

TextToVideo::Prompts TextToVideo::encode_prompts(const VideoRequest& request) {
  const auto tokenizer = text::Tokenizer::load(model_.tokenizer);
  const auto encoder = text::TextEncoder::load(model_.text_encoder, place_, logger_);
  const auto encode = [&](const std::string& prompt) {
    const std::vector<std::string> texts = {cleaned(prompt, request.clean)};
    const auto batch = tokenizer->encode_batch(texts, {.max_length = request.max_length});
    const Tensor ids_BM = at::tensor(batch.input_ids, at::kLong).view({1, -1}).to(place_.device);
    const Tensor mask_BM =
        at::tensor(batch.attention_mask, at::kLong).view({1, -1}).to(place_.device);
    const text::TextEncoding encoding = encoder->encode(ids_BM, mask_BM);
    diffusion::Conditioning conditioning;
    conditioning.context_BMD = encoding.context_BMD;
    conditioning.context_mask_BM = mask_BM;
    if (encoding.pooled_BD) {
      conditioning.pooled_BD = *encoding.pooled_BD;
    }
    describe_video(request, conditioning);
    return conditioning;
  };
  Prompts prompts{.conditional = encode(request.prompt), .negative = std::nullopt};
  if (!request.negative.empty() ||
      read_transformer_config(model_.transformer).caption_tokens == 0) {
    prompts.negative = encode(request.negative);
  }
  return prompts;
}

std::unique_ptr<diffusion::Sampler> TextToVideo::make_sampler(const VideoRequest& request) const {
  std::unique_ptr<diffusion::Sampler> sampler;
  if (model_.scheduler) {
    const Json config = diffusion::read_scheduler_config(*model_.scheduler);
    sampler = request.sampler.empty()
                  ? diffusion::make_sampler(config)
                  : diffusion::make_sampler(diffusion::parse_sampler_kind(request.sampler), config);
  } else {
    sampler = diffusion::make_sampler(request.sampler.empty()
                                          ? diffusion::SamplerKind::kRflow
                                          : diffusion::parse_sampler_kind(request.sampler));
  }
  diffusion::ScheduleRequest schedule{.num_steps = request.steps};
  const Json config = sampler->config_json();
  if (config.value("use_timestep_transform", false)) {
    schedule.height = request.height;
    schedule.width = request.width;
    schedule.num_frames = request.frames;
  }
  sampler->set_timesteps(schedule);
  return sampler;
}

Tensor TextToVideo::sample(const VideoRequest& request,
                           const Journal* journal,
                           ProgressObserver& progress) {
  const at::InferenceMode inference;
  const Plan size = plan(request);
  auto state = journal == nullptr ? std::nullopt : journal->load();
  if (state && state->steps_done >= request.steps) {
    return state->latents_BCTHW;
  }

  progress.on_stage("encode prompt", 1, "prompt");
  const Prompts prompts = encode_prompts(request);
  progress.on_step(1, {});
  progress.on_stage_end();
  check_cancelled(progress, "pipeline");

  const auto denoiser = dit::VideoDit::load(model_.transformer, place_, logger_);
  const diffusion::Conditioning negative =
      prompts.negative ? *prompts.negative : denoiser->unconditional(prompts.conditional);
  diffusion::GuidedDenoiser guided(
      *denoiser, {.scale = request.guidance}, prompts.conditional, negative);

  const auto seed = static_cast<std::uint64_t>(request.seed);
  const tensor::NoiseSize noise_size{.channels = size.latent_channels,
                                     .frames = size.latent_frames,
                                     .height = size.latent_height,
                                     .width = size.latent_width};
  auto sampler = state ? std::move(state->sampler) : make_sampler(request);
  Tensor latents_BCTHW =
      state ? state->latents_BCTHW
            : tensor::normal_noise({.seed = seed, .name = "latents"}, noise_size).unsqueeze(0) *
                  sampler->init_noise_sigma();
  if (state && state->guidance_running.defined()) {
    guided.guidance().set_running(state->guidance_running);
  }

  const std::int64_t first = state ? state->steps_done : 0;
  progress.on_stage("denoise", request.steps, "step");
  for (std::int64_t i = first; i < request.steps; ++i) {
    check_cancelled(progress, "pipeline");
    const Tensor input_BCTHW = sampler->scale_model_input(latents_BCTHW, i).to(place_.device);
    const Tensor timestep_B =
        scalar_B(sampler->timesteps()[static_cast<std::size_t>(i)]).to(place_.device);
    const Tensor prediction =
        guided.predict(input_BCTHW, timestep_B, i, request.steps).to(at::kCPU, at::kFloat);
    Tensor noise_BCTHW;
    if (sampler->needs_noise(i)) {
      const std::string name = "step/" + std::to_string(i);
      noise_BCTHW = tensor::normal_noise({.seed = seed, .name = name}, noise_size).unsqueeze(0);
    }
    latents_BCTHW = sampler->step(prediction, i, latents_BCTHW, noise_BCTHW).sample;
    require_finite(latents_BCTHW, "latents", i + 1);
    if (journal != nullptr) {
      journal->save(i + 1, latents_BCTHW, *sampler, guided.guidance().running());
    }
    progress.on_step(i + 1, {});
  }
  progress.on_stage_end();
  return latents_BCTHW;
}

void TextToVideo::decode(const VideoRequest& request,
                         const Tensor& latents_BCTHW,
                         const ImageConsumer& consumer,
                         ProgressObserver& progress) {
  const at::InferenceMode inference;
  const vae::Autoencoder& vae = autoencoder();
  progress.on_stage("decode", request.frames, "frame");
  std::int64_t done = 0;
  const Tensor latents = vae.from_model_space(latents_BCTHW.to(place_.device, place_.dtype));
  vae.decode(latents, {.num_frames = request.frames}, [&](const Tensor& frames_BCFHW) {
    const Tensor pixels =
        frames_BCFHW[0].to(at::kCPU, at::kFloat).add(1).mul(127.5).round().clamp(0, 255);
    const Tensor frames_FHWC = pixels.to(at::kByte).permute({1, 2, 3, 0}).contiguous();
    for (std::int64_t f = 0; f < frames_FHWC.size(0); ++f) {
      check_cancelled(progress, "pipeline");
      consumer(frames_FHWC[f]);
      progress.on_step(++done, {});
    }
  });
  progress.on_stage_end();
}

}  // namespace kinema::pipeline
