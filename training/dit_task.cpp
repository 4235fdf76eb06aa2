// SPDX-License-Identifier: Apache-2.0
#include "training/dit_task.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <ATen/ATen.h>

#include "core/diffusion/losses.h"
#include "core/diffusion/mask_generator.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/sampler.h"
#include "core/io/image.h"
#include "core/tensor/noise.h"
#include "core/tensor/pictures.h"
#include "dit/modules/vdit_model.h"
#include "world/caption.h"
#include "world/evaluation.h"

namespace kinema::training {
namespace {

constexpr std::int64_t kPretrainBatch = 64;
constexpr std::int64_t kJudgeBatch = 16;
constexpr std::int64_t kSheetClips = 8;
constexpr std::int64_t kSheetColumns = 9;
constexpr std::int64_t kFirstJudgedClip = kFirstValidationClip + (std::int64_t{1} << 20);
constexpr double kFps = 8;

world::WorldConfig world_of(const BucketSize& size) {
  return {.width = size.width,
          .height = size.height,
          .frames = size.frames,
          .fps = kFps,
          .split = world::Split::kSeen};
}

diffusion::MaskGenerator mask_generator(double probability) {
  std::array<double, diffusion::kNumMaskRules> rules{};
  for (const auto rule : {diffusion::MaskRule::kQuarterHead,
                          diffusion::MaskRule::kImageHead,
                          diffusion::MaskRule::kImageHeadTail,
                          diffusion::MaskRule::kRandom}) {
    rules[static_cast<std::size_t>(rule)] = probability / 4;
  }
  return diffusion::MaskGenerator(rules);
}

/// The sampler that belongs to an objective.
diffusion::SamplerKind sampler_of(Objective objective) {
  return objective == Objective::kRflow ? diffusion::SamplerKind::kRflow
                                        : diffusion::SamplerKind::kDdim;
}

}  // namespace

DitTask::DitTask(const DitTrainConfig& config,
                 std::unique_ptr<dit::VideoDit> transformer,
                 TextTower text,
                 std::unique_ptr<FrozenText> frozen,
                 const vae::Autoencoder& vae)
    : config_(config),
      vae_(vae),
      transformer_(std::move(transformer)),
      text_(std::move(text)),
      frozen_(std::move(frozen)),
      both_(std::make_shared<torch::nn::Module>()),
      alphas_cumprod_(diffusion::make_alphas_cumprod({})) {
  both_->register_module("transformer",
                         std::static_pointer_cast<torch::nn::Module>(transformer_->module()));
  if (!text_.is_empty()) {
    both_->register_module("text", text_);
  }
  for (const BucketSize& size : config.buckets) {
    Bucket& bucket = buckets_.emplace_back();
    bucket.size = size;
    bucket.clips = std::make_unique<WorldClips>(world_of(size), config.seed);
  }
}

train::ParameterRules DitTask::rules() {
  return [](const std::string& name, const Tensor&) -> train::ParameterRule {
    for (const char* part : {"x_embedder.",
                             "final_layer.",
                             "t_embedder.",
                             "_embedder.",
                             "table",
                             "shared.",
                             "relative_attention_bias",
                             "head_"}) {
      if (name.find(part) != std::string::npos) {
        return {.muon = false};
      }
    }
    return {};
  };
}

void DitTask::pretrain_text(ProgressObserver& progress, Logger& logger) {
  train::OptimizerConfig adamw = {.method = train::Method::kAdamW, .lr = 2e-3};
  train::Optimizer optimizer(train::group_parameters(*text_, adamw), adamw);
  const train::Schedule schedule = {.warmup = 20, .steps = config_.pretrain_steps};
  progress.on_stage("pretrain text", config_.pretrain_steps, "step");
  double correct = 0;
  for (std::int64_t step = 0; step < config_.pretrain_steps; ++step) {
    check_cancelled(progress, "train.dit");
    std::vector<std::string> texts;
    std::vector<SceneLabels> labels;
    for (std::int64_t i = 0; i < kPretrainBatch; ++i) {
      const std::int64_t index = step * kPretrainBatch + i;
      const world::Scene scene = buckets_.front().clips->scene(index);
      texts.push_back(world::caption(scene, index));
      labels.push_back(labels_of(scene, texts.back()));
    }
    const TextFeatures features = text_->encode(texts, config_.max_length);
    const Tensor loss = text_->attribute_loss(features.pooled_BD, labels, &correct);
    loss.backward();
    static_cast<void>(train::clip_gradients(optimizer.parameters(), 1.0));
    optimizer.step(schedule.factor(step));
    optimizer.zero_grad();
    progress.on_step(step + 1, {{"loss", loss.item<double>()}, {"correct", correct}});
  }
  progress.on_stage_end();
  logger.info("pretrained text correct=" + std::to_string(correct));
}

void DitTask::open_cache(const std::string& vae_identity, ProgressObserver& progress) {
  const std::string folder = config_.cache.empty() ? config_.folder + "/latents" : config_.cache;
  for (Bucket& bucket : buckets_) {
    const LatentCacheKey key = {
        .vae = vae_identity,
        .source = "world/seen/" + bucket.size.name() + "/" + std::to_string(config_.seed),
        .count = config_.clips,
        .frames = bucket.size.frames};
    bucket.cache =
        LatentCache::open(folder + "/" + bucket.size.name(), key, *bucket.clips, vae_, progress);
  }
  const at::NoGradGuard no_grad;
  const Bucket& first = buckets_.front();
  std::vector<Tensor> latents;
  for (std::int64_t i = 0; i < config_.validation_clips; ++i) {
    const Clip clip = first.clips->clip(kFirstValidationClip + i, first.size.frames);
    const Tensor video = to_network_range(clip.video_CFHW.unsqueeze(0));
    latents.push_back(vae_.to_model_space(vae_.encode(video, {.frames_per_step = 0}).mode()));
    validation_captions_.push_back(clip.caption);
  }
  validation_NCTHW_ = at::cat(latents).to(at::kFloat).clone();
}

TextFeatures DitTask::encode(const std::vector<std::string>& texts) const {
  return frozen_ != nullptr ? frozen_->encode(texts, config_.max_length)
                            : text_->encode(texts, config_.max_length);
}

DitTask::Bucket& DitTask::bucket_of(std::int64_t number) {
  double total = 0;
  for (const Bucket& bucket : buckets_) {
    total += bucket.size.weight;
  }
  double left = total * tensor::uniform_noise_flat({.seed = config_.seed, .name = "dit/bucket"},
                                                   {1},
                                                   static_cast<std::uint64_t>(number))
                            .item<double>();
  for (Bucket& bucket : buckets_) {
    left -= bucket.size.weight;
    if (left < 0) {
      return bucket;
    }
  }
  return buckets_.back();
}

diffusion::Conditioning DitTask::conditioning(const TextFeatures& text,
                                              const BucketSize& size) const {
  diffusion::Conditioning conditions;
  conditions.context_BMD = text.context_BMD;
  conditions.context_mask_BM = text.mask_BM;
  if (transformer_->config().pooled_channels > 0) {
    conditions.pooled_BD = text.pooled_BD;
  }
  const auto one = [](double value) { return at::full({1}, value, at::kFloat); };
  conditions.fps_B = one(size.frames == 1 ? 120.0 : kFps);
  conditions.height_B = one(static_cast<double>(size.height));
  conditions.width_B = one(static_cast<double>(size.width));
  conditions.num_frames_B = one(static_cast<double>(size.frames));
  conditions.aspect_ratio_B =
      one(static_cast<double>(size.height) / static_cast<double>(size.width));
  return conditions;
}

Tensor DitTask::indices_of(Bucket& bucket, std::int64_t number) const {
  const std::int64_t size = bucket.cache.size();
  const std::int64_t count = std::min(config_.batch, size);
  const std::int64_t per_epoch = size / count;
  const std::int64_t epoch = number / per_epoch;
  if (epoch != bucket.epoch) {
    const std::string name = "dit/order/" + std::to_string(epoch);
    bucket.order_N = tensor::uniform_noise_flat({.seed = config_.seed, .name = name}, {size})
                         .argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
    bucket.epoch = epoch;
  }
  return bucket.order_N.narrow(0, (number % per_epoch) * count, count);
}

DitTask::Prompts DitTask::prompts_of(const Bucket& bucket,
                                     const Tensor& indices_B,
                                     std::int64_t number) const {
  const std::int64_t count = indices_B.size(0);
  const Tensor dropped_B =
      tensor::uniform_noise_flat({.seed = config_.seed, .name = "dit/text dropout"},
                                 {count},
                                 static_cast<std::uint64_t>(number * count)) < config_.text_dropout;
  Prompts prompts;
  for (std::int64_t b = 0; b < count; ++b) {
    if (dropped_B[b].item<bool>()) {
      prompts.texts.emplace_back();
      prompts.labels.emplace_back();
      continue;
    }
    const world::Scene scene = bucket.clips->scene(indices_B[b].item<std::int64_t>());
    prompts.texts.push_back(world::caption(scene, number));
    prompts.labels.push_back(labels_of(scene, prompts.texts.back()));
  }
  return prompts;
}

Tensor DitTask::diffusion_loss(const Tensor& x0_BCTHW,
                               const TextFeatures& text,
                               const BucketSize& size,
                               const std::string& stream,
                               std::int64_t first_time,
                               const Tensor& frame_mask_BT) const {
  const std::int64_t count = x0_BCTHW.size(0);
  const auto first = static_cast<std::uint64_t>(first_time);
  const Tensor noise = tensor::normal_noise_flat(
      {.seed = config_.seed, .name = stream + "/noise/" + std::to_string(first_time)},
      x0_BCTHW.sizes());
  diffusion::Conditioning conditions = conditioning(text, size);
  conditions.frame_mask_BT = frame_mask_BT;
  const auto predict = [&](const Tensor& noisy, const Tensor& times_B) {
    return transformer_->module()->forward(noisy, times_B, conditions);
  };
  if (config_.objective == Objective::kRflow) {
    const Tensor times_B =
        diffusion::sample_rflow_timesteps({}, {}, config_.seed, stream + "/time", first, count);
    const Tensor noisy = diffusion::rflow_add_noise(x0_BCTHW, noise, times_B, frame_mask_BT);
    return diffusion::rflow_loss(predict(noisy, times_B), x0_BCTHW, noise, frame_mask_BT);
  }
  const Tensor times_B = diffusion::sample_discrete_timesteps(
      std::ssize(alphas_cumprod_), config_.seed, stream + "/time", first, count);
  Tensor noisy = diffusion::add_noise_at(alphas_cumprod_, x0_BCTHW, noise, times_B);
  if (frame_mask_BT.defined()) {
    noisy = at::where(frame_mask_BT.view({count, 1, -1, 1, 1}), noisy, x0_BCTHW);
  }
  return diffusion::ddpm_loss(alphas_cumprod_,
                              diffusion::PredictionType::kEpsilon,
                              predict(noisy, times_B.to(at::kFloat)),
                              x0_BCTHW,
                              noise,
                              times_B,
                              frame_mask_BT);
}

Tensor DitTask::loss(std::int64_t step, std::int64_t micro, Metrics& parts) {
  const std::int64_t number = step * config_.run.accumulate + micro;
  Bucket& bucket = bucket_of(number);
  const Tensor indices_B = indices_of(bucket, number);
  const Prompts prompts = prompts_of(bucket, indices_B, number);
  const TextFeatures text = encode(prompts.texts);
  auto shape = bucket.cache.mean_NCTHW.sizes().vec();
  shape[0] = indices_B.size(0);
  const Tensor fresh = tensor::normal_noise_flat(
      {.seed = config_.seed, .name = "dit/posterior/" + std::to_string(number)}, shape);
  const Tensor x0_BCTHW = bucket.cache.sample(indices_B, fresh);
  Tensor mask_BT;
  if (config_.mask_probability > 0 && shape[2] > 1) {
    mask_BT = mask_generator(config_.mask_probability)
                  .masks_BT(config_.seed,
                            "dit/mask",
                            static_cast<std::uint64_t>(number * shape[0]),
                            shape[0],
                            shape[2]);
  }
  const Tensor diffusion =
      diffusion_loss(x0_BCTHW, text, bucket.size, "dit", number * shape[0], mask_BT).mean();
  parts = {{"diffusion", diffusion.item<double>()}};
  if (text_.is_empty()) {
    return diffusion;
  }
  double correct = 0;
  const Tensor attributes = text_->attribute_loss(text.pooled_BD, prompts.labels, &correct);
  parts.emplace_back("attributes", attributes.item<double>());
  parts.emplace_back("attributes_correct", correct);
  return diffusion + config_.attribute_weight * attributes;
}

Metrics DitTask::validate(std::int64_t finished_steps) {
  double with_text = 0;
  double without_text = 0;
  const std::int64_t total = validation_NCTHW_.size(0);
  for (std::int64_t begin = 0; begin < total; begin += config_.batch) {
    const std::int64_t count = std::min(config_.batch, total - begin);
    const Tensor x0 = validation_NCTHW_.narrow(0, begin, count);
    const auto first = validation_captions_.begin() + begin;
    const std::vector<std::string> captions(first, first + count);
    const std::vector<std::string> nothing(captions.size());
    for (auto& [texts, sum] : {std::pair{&captions, &with_text}, {&nothing, &without_text}}) {
      const TextFeatures text = encode(*texts);
      *sum += diffusion_loss(x0, text, buckets_.front().size, "validation", begin, {})
                  .sum()
                  .item<double>();
    }
  }
  const auto n = static_cast<double>(total);
  Metrics metrics = {{"loss", with_text / n}, {"loss_without_caption", without_text / n}};
  if (config_.judged_clips > 0) {
    const Metrics judged = judge(finished_steps);
    metrics.insert(metrics.end(), judged.begin(), judged.end());
  }
  return metrics;
}

Tensor DitTask::sample(const std::vector<std::string>& prompts, std::uint64_t seed) const {
  const at::NoGradGuard no_grad;
  const auto count = std::ssize(prompts);
  const BucketSize& size = buckets_.front().size;
  const std::vector<std::string> nothing(prompts.size());
  const auto with_text = conditioning(encode(prompts), size);
  const auto without_text = conditioning(encode(nothing), size);
  auto shape = validation_NCTHW_.sizes().vec();
  shape[0] = count;
  const auto sampler = diffusion::make_sampler(sampler_of(config_.objective));
  sampler->set_timesteps({.num_steps = config_.sample_steps});
  Tensor latents = tensor::normal_noise_flat({.seed = seed, .name = "dit/sample"}, shape) *
                   sampler->init_noise_sigma();
  for (std::int64_t i = 0; i < sampler->num_steps(); ++i) {
    const Tensor input = sampler->scale_model_input(latents, i);
    const Tensor times_B =
        at::full({count}, sampler->timesteps()[static_cast<std::size_t>(i)], at::kFloat);
    const auto predict = [&](const diffusion::Conditioning& conditions) {
      return transformer_->module()->forward(input, times_B, conditions);
    };
    Tensor output = predict(with_text);
    if (config_.guidance != 1.0) {
      const Tensor base = predict(without_text);
      output = base + config_.guidance * (output - base);
    }
    latents = sampler->step(output, i, latents).sample;
  }
  return latents;
}

Metrics DitTask::judge(std::int64_t finished_steps) const {
  const world::Judge judge;
  world::Accuracy accuracy;
  std::vector<Tensor> pictures;
  for (std::int64_t begin = 0; begin < config_.judged_clips; begin += kJudgeBatch) {
    const std::int64_t count = std::min(kJudgeBatch, config_.judged_clips - begin);
    std::vector<world::Scene> scenes;
    std::vector<std::string> prompts;
    for (std::int64_t i = 0; i < count; ++i) {
      scenes.push_back(buckets_.front().clips->scene(kFirstJudgedClip + begin + i));
      prompts.push_back(world::plain_caption(scenes.back()));
    }
    const Tensor latents = sample(prompts, config_.seed + static_cast<std::uint64_t>(begin));
    const Tensor video = vae_.decode(vae_.from_model_space(latents), {.latents_per_step = 0});
    for (std::int64_t i = 0; i < count; ++i) {
      const Tensor clip = video[i].add(1).mul(0.5).clamp(0, 1);
      accuracy.add(world::score(judge(clip), scenes[static_cast<std::size_t>(i)]));
      if (std::ssize(pictures) < kSheetClips) {
        pictures.push_back(clip);
      }
    }
  }
  const std::string folder = config_.folder + "/samples";
  std::filesystem::create_directories(folder);
  io::write_png(folder + "/step-" + std::to_string(finished_steps) + ".png",
                tensor::contact_sheet(pictures, std::min(kSheetColumns, pictures[0].size(1))));
  Metrics metrics;
  for (const std::string_view name : world::kAttributeNames) {
    metrics.emplace_back("judge_" + std::string(name), accuracy[name].value());
  }
  return metrics;
}

}  // namespace kinema::training
