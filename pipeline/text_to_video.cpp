// SPDX-License-Identifier: Apache-2.0
#include "pipeline/text_to_video.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/diffusion/fifo.h"
#include "core/diffusion/sampler.h"
#include "core/tensor/noise.h"
#include "dit/vdit.h"
#include "pipeline/pixels.h"
#include "pipeline/process_memory.h"
#include "text/text_encoder.h"
#include "text/tokenizer/prompt_cleaning.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::pipeline {
namespace {

std::string cleaned(const std::string& prompt, const std::string& mode) {
  if (mode == "caption") {
    return text::text_preprocessing(prompt);
  }
  return mode == "lower" ? text::plain_preprocessing(prompt) : prompt;
}

Tensor scalar_B(double value) {
  return at::full({1}, value, at::kFloat);
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Latent frames of a video of `frames` frames.
std::int64_t latents_of(const vae::Autoencoder& vae, std::int64_t frames) {
  return vae.latent_frames(vae.next_legal_frames(frames));
}

/// The index of the latent that shows the picture at `seconds`.
std::int64_t latent_at(const vae::Autoencoder& vae, double seconds, double fps) {
  const auto frame = static_cast<std::int64_t>(seconds * fps);
  return latents_of(vae, frame + 1) - 1;
}

bool has_negative_text(const VideoRequest& request, const dit::VDitConfig& config) {
  return request.guidance != 1.0 && (!request.negative.empty() || config.caption_tokens == 0);
}

Error long_error(std::string subject, std::string expected, std::string got, std::string hint) {
  return Error(ErrorKind::kUnsupported,
               {.code = "request.long_layout",
                .place = "pipeline",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

void check_long(const VideoRequest& request,
                const LongPlan& plan,
                std::int64_t latent_frames,
                const dit::VDitConfig& config) {
  const std::string layout(to_string(config.layout));
  if (plan.mode == LongMode::kFreeNoise && !config.has_temporal_windows()) {
    throw long_error("--long freenoise",
                     "a transformer with temporal attention of its own (stdit2, stdit3)",
                     layout,
                     "use --long fused or fifo");
  }
  if (plan.mode == LongMode::kFifo && config.patch[0] != 1) {
    throw long_error("--long fifo",
                     "a transformer whose patches have one frame",
                     fmt::format("{} frames in a patch", config.patch[0]),
                     "use --long fused");
  }
  if (config.layout == dit::Layout::kLatte && plan.window != 1 &&
      plan.window != config.video_length) {
    throw long_error(
        "frames",
        fmt::format("1 or {} latent frames in a window of this model", config.video_length),
        fmt::format("{} in a window, {} in all", plan.window, latent_frames),
        "use --long fused with --window");
  }
  if (!request.scenes.empty() && plan.mode != LongMode::kFused && plan.mode != LongMode::kFifo) {
    throw long_error("scenes",
                     "a video of several windows, made by --long fused or fifo",
                     fmt::format("--long {}", request.long_mode),
                     "make the video longer, or --window smaller");
  }
}

}  // namespace

OrderedJson Plan::to_json() const {
  OrderedJson json = {{"latents", {1, latent_channels, latent_frames, latent_height, latent_width}},
                      {"tokens", tokens},
                      {"network_passes", network_passes},
                      {"decoded_frames", decoded_frames},
                      {"long", to_string(windows.mode)},
                      {"window_latents", windows.window},
                      {"windows", windows.windows.size()}};
  OrderedJson list = OrderedJson::array();
  for (const StageCost& stage : stages) {
    list.push_back(stage.to_json());
  }
  json["stages"] = list;
  return json;
}

TextToVideo::TextToVideo(ModelFolder model, const tensor::Place& place, Logger& logger)
    : model_(std::move(model)), place_(place), logger_(logger), program_bytes_(resident_bytes()) {}
TextToVideo::~TextToVideo() = default;

const vae::Autoencoder& TextToVideo::autoencoder() {
  if (autoencoder_ == nullptr) {
    autoencoder_ = vae::Autoencoder::load(model_.vae, place_, logger_);
  }
  return *autoencoder_;
}

VideoRequest TextToVideo::resolve(VideoRequest request) {
  request.validate();
  const dit::VDitConfig config = read_transformer_config(model_.transformer);
  const vae::Autoencoder& vae = autoencoder();
  const std::int64_t trained = config.layout == dit::Layout::kLatte
                                   ? vae.video_frames(config.video_length)
                                   : model_.defaults.max_frames;
  if (request.long_mode.empty()) {
    const std::int64_t limit = request.window > 0 ? request.window : trained;
    const bool fits = limit == 0 || request.frames <= limit;
    const bool freenoise = config.has_temporal_windows() && request.scenes.empty();
    request.long_mode = fits ? "exact" : freenoise ? "freenoise" : "fused";
  }
  if (request.long_mode == "exact") {
    request.window = 0;
  } else if (request.window == 0) {
    request.window = trained > 0 ? trained : model_.defaults.frames;
  }
  return request;
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
  const std::int64_t window = request.window > 0 ? latents_of(vae, request.window) : 0;
  plan.windows = plan_long_video(
      parse_long_mode(request.long_mode), plan.latent_frames, window, request.steps);
  check_long(request, plan.windows, plan.latent_frames, config);
  plan.tokens = ceil_divide(plan.latent_frames, config.patch[0]) *
                ceil_divide(plan.latent_height, config.patch[1]) *
                ceil_divide(plan.latent_width, config.patch[2]);
  plan.network_passes = window_passes(plan.windows, plan.latent_frames, request.steps) *
                        (request.guidance == 1.0 ? 1 : 2);
  const auto sampler = make_sampler(request, plan.windows);
  if (plan.windows.mode == LongMode::kFifo) {
    static_cast<void>(diffusion::FifoQueue({.window = plan.windows.window,
                                            .num_partitions = plan.windows.fifo_partitions,
                                            .look_ahead = plan.windows.fifo_look_ahead},
                                           *sampler));
  }
  return plan;
}

void TextToVideo::check_components(const VideoRequest& request) {
  const auto tokenizer = text::Tokenizer::load(model_.tokenizer);
  {
    const auto encoder = text::TextEncoder::load(model_.text_encoder, place_, logger_);
    if (encoder->info().max_tokens && request.max_length > *encoder->info().max_tokens) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "request.max_length",
                   .place = "pipeline",
                   .subject = "prompt tokens",
                   .expected = fmt::format("at most {}", *encoder->info().max_tokens),
                   .got = std::to_string(request.max_length)});
    }
    const std::int64_t wanted = read_transformer_config(model_.transformer).caption_channels;
    if (encoder->info().width != wanted) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "model.caption_channels",
                   .place = "pipeline",
                   .subject = model_.path,
                   .expected = fmt::format("a text encoder of width {}", wanted),
                   .got = std::to_string(encoder->info().width)});
    }
  }
  const auto denoiser = dit::VideoDit::load(model_.transformer, place_, logger_);
  const std::int64_t rows = denoiser->config().caption_tokens;
  if (request.guidance != 1.0 && request.negative.empty() && rows > 0 &&
      rows < request.max_length) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "request.max_length",
                 .place = "pipeline",
                 .subject = "prompt tokens",
                 .expected = fmt::format("at most {}, the length of the null caption", rows),
                 .got = std::to_string(request.max_length)});
  }
  static_cast<void>(autoencoder());
}

std::vector<TextToVideo::TextKey> TextToVideo::texts_of(const VideoRequest& request) const {
  std::vector<TextKey> texts;
  const auto add = [&](const std::string& prompt) {
    texts.emplace_back(cleaned(prompt, request.clean), request.max_length);
  };
  add(request.prompt);
  for (const Scene& scene : request.scenes) {
    add(scene.prompt);
  }
  if (has_negative_text(request, read_transformer_config(model_.transformer))) {
    add(request.negative);
  }
  return texts;
}

void TextToVideo::encode_prompts(std::span<const VideoRequest> requests,
                                 ProgressObserver& progress) {
  const at::InferenceMode inference;
  std::map<TextKey, diffusion::Conditioning> kept;
  std::vector<TextKey> missing;
  for (const VideoRequest& request : requests) {
    for (const TextKey& key : texts_of(request)) {
      const auto found = encoded_.find(key);
      const bool is_new = kept.emplace(key, diffusion::Conditioning()).second;
      if (found != encoded_.end()) {
        kept[key] = found->second;
      } else if (is_new) {
        missing.push_back(key);
      }
    }
  }
  if (missing.empty()) {
    return;
  }
  encoded_ = std::move(kept);
  progress.on_stage("encode prompt", static_cast<std::int64_t>(missing.size()), "prompt");
  const auto tokenizer = text::Tokenizer::load(model_.tokenizer);
  const auto encoder = text::TextEncoder::load(model_.text_encoder, place_, logger_);
  const std::int64_t pooled_channels = read_transformer_config(model_.transformer).pooled_channels;
  std::int64_t done = 0;
  for (const TextKey& key : missing) {
    check_cancelled(progress, "pipeline");
    const std::vector<std::string> texts = {key.first};
    const auto batch = tokenizer->encode_batch(texts, {.max_length = key.second});
    const Tensor ids_BM = at::tensor(batch.input_ids, at::kLong).view({1, -1}).to(place_.device);
    const Tensor mask_BM =
        at::tensor(batch.attention_mask, at::kLong).view({1, -1}).to(place_.device);
    const text::TextEncoding encoding = encoder->encode(ids_BM, mask_BM);
    require_finite(encoding.context_BMD, "text features of '" + key.first.substr(0, 60) + "'");
    diffusion::Conditioning& result = encoded_.at(key);
    result.context_BMD = encoding.context_BMD;
    result.context_mask_BM = mask_BM;
    if (encoding.pooled_BD) {
      result.pooled_BD = *encoding.pooled_BD;
    } else if (pooled_channels > 0) {
      result.pooled_BD = text::mean_of_tokens(encoding.context_BMD, mask_BM);
    }
    progress.on_step(++done, {});
  }
  progress.on_stage_end();
}

diffusion::Conditioning TextToVideo::conditioning(const VideoRequest& request,
                                                  const std::string& prompt,
                                                  std::int64_t num_frames) const {
  diffusion::Conditioning result =
      encoded_.at({cleaned(prompt, request.clean), request.max_length});
  // Open-Sora tells an image from a video by the frame rate 120.
  result.fps_B = scalar_B(request.frames == 1 ? 120.0 : request.fps);
  result.height_B = scalar_B(static_cast<double>(request.height));
  result.width_B = scalar_B(static_cast<double>(request.width));
  result.num_frames_B = scalar_B(static_cast<double>(num_frames));
  result.aspect_ratio_B =
      scalar_B(static_cast<double>(request.height) / static_cast<double>(request.width));
  return result;
}

/// The length that the network is told: that of one window.
std::int64_t TextToVideo::told_frames(const VideoRequest& request, const LongPlan& plan) {
  return plan.mode == LongMode::kExact ? request.frames : autoencoder().video_frames(plan.window);
}

std::unique_ptr<diffusion::Sampler> TextToVideo::make_sampler(const VideoRequest& request,
                                                              const LongPlan& plan) {
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
    schedule.num_frames = told_frames(request, plan);
  }
  sampler->set_timesteps(schedule);
  return sampler;
}

GivenFrames TextToVideo::given_frames(const VideoRequest& request,
                                      const SampleOptions& options,
                                      ProgressObserver& progress) {
  if (options.journal != nullptr) {
    if (auto stored = options.journal->load_given()) {
      return {.latents_BCTHW = stored->latents_BCTHW, .mask_BT = stored->mask_BT};
    }
  }
  if (options.frames == nullptr) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "request.given",
                 .place = "pipeline",
                 .subject = "an image or a video to go on from",
                 .expected = "a FrameSource",
                 .got = "none"});
  }
  GivenFrames given = encode_given(request, autoencoder(), *options.frames, progress);
  if (options.journal != nullptr) {
    options.journal->save_given(given.latents_BCTHW, given.mask_BT);
  }
  return given;
}

StepObserver TextToVideo::preview_observer(const PreviewOptions& preview,
                                           std::int64_t total_steps) {
  if (!preview.consumer) {
    return {};
  }
  return [this, preview, total_steps](std::int64_t done, const Tensor& x0_BCTHW) {
    if (done == total_steps || done % std::max<std::int64_t>(preview.every, 1) != 0) {
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    // Each latent frame as a picture of its own, at most 32 latents wide and high: a cheap decode.
    constexpr std::int64_t kMaxSide = 32;
    const std::int64_t side = std::max(x0_BCTHW.size(3), x0_BCTHW.size(4));
    const auto reduced = [&](std::int64_t size) {
      return side <= kMaxSide ? size : std::max<std::int64_t>(1, size * kMaxSide / side);
    };
    const std::int64_t count = std::min(preview.frames, x0_BCTHW.size(2));
    const vae::Autoencoder& vae = autoencoder();
    std::vector<Tensor> pictures;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t t = (2 * i + 1) * x0_BCTHW.size(2) / (2 * count);
      const Tensor small =
          at::adaptive_avg_pool2d(x0_BCTHW.select(2, t).to(at::kFloat),
                                  {reduced(x0_BCTHW.size(3)), reduced(x0_BCTHW.size(4))});
      const Tensor latents =
          vae.from_model_space(small.unsqueeze(2).to(place_.device, place_.dtype));
      pictures.push_back(to_images(vae.decode(latents, {.num_frames = 1})));
    }
    const Tensor frames_FHWC = at::cat(pictures);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    preview.consumer(frames_FHWC, done, seconds);
  };
}

std::vector<ScenePrompts> TextToVideo::scenes(const VideoRequest& request,
                                              const dit::VideoDit& denoiser,
                                              const std::vector<std::int64_t>& first_latents,
                                              std::int64_t num_frames) const {
  const bool negative_text =
      has_negative_text(request, read_transformer_config(model_.transformer));
  std::vector<ScenePrompts> result;
  for (std::size_t i = 0; i < first_latents.size(); ++i) {
    const std::string& prompt = i == 0 ? request.prompt : request.scenes[i - 1].prompt;
    ScenePrompts& scene = result.emplace_back();
    scene.first_latent = first_latents[i];
    scene.conditional = conditioning(request, prompt, num_frames);
    if (request.guidance == 1.0) {
      scene.negative = scene.conditional;
    } else {
      scene.negative = negative_text ? conditioning(request, request.negative, num_frames)
                                     : denoiser.unconditional(scene.conditional);
    }
  }
  return result;
}

Tensor TextToVideo::sample(const VideoRequest& request,
                           const SampleOptions& options,
                           ProgressObserver& progress) {
  const at::InferenceMode inference;
  const Plan size = plan(request);
  if (options.journal != nullptr) {
    if (auto latents =
            finished_latents(size.windows, size.latent_frames, request.steps, *options.journal)) {
      return *latents;
    }
  }
  SamplingTask task;
  task.plan = size.windows;
  task.size = {.channels = size.latent_channels,
               .frames = size.latent_frames,
               .height = size.latent_height,
               .width = size.latent_width};
  task.seed = static_cast<std::uint64_t>(request.seed);
  task.guidance = request.guidance;
  task.device = place_.device;
  if (request.has_given()) {
    const GivenFrames given = given_frames(request, options, progress);
    task.given_BCTHW = given.latents_BCTHW;
    task.mask_BT = given.mask_BT;
  }
  auto sampler = make_sampler(request, size.windows);
  const std::int64_t num_frames = told_frames(request, size.windows);
  std::vector<std::int64_t> scene_starts = {0};
  for (const Scene& scene : request.scenes) {
    scene_starts.push_back(latent_at(autoencoder(), scene.seconds, request.fps));
  }
  // Weights of one stage at a time.
  autoencoder_.reset();
  encode_prompts(std::span(&request, 1), progress);
  check_cancelled(progress, "pipeline");

  const auto denoiser = dit::VideoDit::load(model_.transformer, place_, logger_);
  dit::DitExecution execution = denoiser->execution();
  execution.cached_prompts = static_cast<std::int64_t>(scene_starts.size()) + 1;
  denoiser->set_execution(execution);
  if (task.plan.mode == LongMode::kFreeNoise) {
    denoiser->set_temporal_windows(task.plan.windows);
  }
  task.scenes = scenes(request, *denoiser, scene_starts, num_frames);
  return sample_latents(
      task,
      *denoiser,
      std::move(sampler),
      options.journal,
      progress,
      preview_observer(options.preview,
                       num_progress_steps(task.plan, task.size.frames, request.steps)));
}

std::vector<StageCost> TextToVideo::costs(const VideoRequest& request,
                                          const Plan& plan,
                                          bool measured) {
  CostInput input{.plan = plan.windows,
                  .latent_frames = plan.latent_frames,
                  .latent_height = plan.latent_height,
                  .latent_width = plan.latent_width,
                  .num_frames = plan.decoded_frames,
                  .steps = request.steps,
                  .guided = request.guidance != 1.0,
                  .max_length = request.max_length,
                  .num_scenes = static_cast<std::int64_t>(request.scenes.size()) + 1,
                  .program_bytes = program_bytes_};
  const auto tokenizer = text::Tokenizer::load(model_.tokenizer);
  for (const TextKey& text : texts_of(request)) {
    input.text_tokens.push_back(
        static_cast<std::int64_t>(tokenizer->encode_truncated(text.first, text.second).size()));
  }
  std::vector<StageCost> stages = {text_cost(model_, input, place_),
                                   denoise_cost(model_, input, place_),
                                   decode_cost(autoencoder(), input, place_)};
  if (measured) {
    measure_text(stages[0], model_, input, place_);
    measure_denoise(stages[1], model_, input, place_);
    measure_decode(stages[2], model_, autoencoder(), input, place_);
  }
  return stages;
}

void TextToVideo::decode(const VideoRequest& request,
                         const Tensor& latents_BCTHW,
                         const ImageConsumer& consumer,
                         ProgressObserver& progress) {
  const at::InferenceMode inference;
  progress.on_stage("decode", request.frames, "frame");
  const vae::Autoencoder& vae = autoencoder();
  std::int64_t done = 0;
  const Tensor latents = vae.from_model_space(latents_BCTHW.to(place_.device, place_.dtype));
  vae.decode(latents, {.num_frames = request.frames}, [&](const Tensor& frames_BCFHW) {
    require_finite(frames_BCFHW, fmt::format("decoded frames from {}", done + 1));
    const Tensor frames_FHWC = to_images(frames_BCFHW);
    for (std::int64_t f = 0; f < frames_FHWC.size(0); ++f) {
      check_cancelled(progress, "pipeline");
      consumer(frames_FHWC[f]);
      progress.on_step(++done, {});
    }
  });
  progress.on_stage_end();
}

}  // namespace kinema::pipeline
