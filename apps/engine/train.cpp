// SPDX-License-Identifier: Apache-2.0
#include "training/dit_training.h"
#include "training/vae_training.h"
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "core/base/file.h"
#include "core/tensor/place.h"
#include "world/caption.h"

namespace kinema::engine {
namespace {

train::OptimizerConfig optimizer_config(const cli::TrainRunOptions& o) {
  return {.method = o.optimizer == "adamw" ? train::Method::kAdamW : train::Method::kMuon,
          .lr = o.lr,
          .muon_lr = o.muon_lr,
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .weight_decay = o.weight_decay};
}

train::RunConfig run_config(const cli::TrainRunOptions& o, const tensor::Place& place) {
  return {.folder = o.output,
          .schedule = {.kind = o.schedule == "constant" ? train::ScheduleKind::kConstant
                                                        : train::ScheduleKind::kCosine,
                       .warmup = o.warmup,
                       .steps = o.steps,
                       .final = o.final_lr},
          .accumulate = o.accumulate,
          .clip = o.clip,
          .ema = o.ema,
          .log_every = o.log_every,
          .validate_every = o.validate_every,
          .save_every = o.save_every,
          .keep = o.keep,
          .place = place};
}

std::vector<training::BucketSize> buckets_of(const std::vector<std::string>& texts) {
  std::vector<training::BucketSize> buckets;
  for (const std::string& text : texts) {
    buckets.push_back(training::BucketSize::parse(text));
  }
  return buckets;
}

}  // namespace

void train_vae(const cli::TrainVaeOptions& options,
               const cli::CommonOptions& common,
               cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  training::VaeTraining training({.folder = options.run.output,
                                  .network = options.network,
                                  .data = options.data,
                                  .start = options.start,
                                  .seed = static_cast<std::uint64_t>(options.run.seed),
                                  .size = options.size,
                                  .batch = options.run.batch,
                                  .lengths = options.lengths,
                                  .length_weights = options.length_weights,
                                  .stream_probability = options.stream_probability,
                                  .freeze_encoder = options.freeze_encoder,
                                  .loss = {.l1 = options.l1,
                                           .mse = options.mse,
                                           .gradient = options.gradient,
                                           .kl = options.kl,
                                           .perceptual = options.perceptual,
                                           .adversarial = options.adversarial},
                                  .vgg = options.vgg,
                                  .adversarial_start = options.adversarial_start,
                                  .validation_clips = options.validation_clips,
                                  .measured_clips = options.measured_clips,
                                  .export_dtype = options.export_dtype,
                                  .optimizer = optimizer_config(options.run),
                                  .run = run_config(options.run, place)},
                                 console.logger());
  const training::VaeTrainReport report = training.run(options.run.resume, console.progress());
  console.finish({{"folder", report.folder},
                  {"steps", report.steps},
                  {"parameters", report.num_parameters},
                  {"psnr_db", report.psnr_db}},
                 fmt::format("{}: {} parameters, {} steps, {:.2f} dB on held-out clips\n",
                             report.folder,
                             report.num_parameters,
                             report.steps,
                             report.psnr_db));
}

void train_dit(const cli::TrainDitOptions& options,
               const cli::CommonOptions& common,
               cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  training::DitTraining training(
      {.folder = options.run.output,
       .vae = options.vae,
       .tokenizer = options.tokenizer,
       .text_encoder = options.text_encoder,
       .cache = options.cache,
       .seed = static_cast<std::uint64_t>(options.run.seed),
       .buckets = buckets_of(options.buckets),
       .clips = options.clips,
       .batch = options.run.batch,
       .objective =
           options.objective == "ddpm" ? training::Objective::kDdpm : training::Objective::kRflow,
       .network = options.network,
       .width = options.width,
       .layers = options.layers,
       .heads = options.heads,
       .text_width = options.text_width,
       .text_layers = options.text_layers,
       .max_length = options.max_length,
       .text_dropout = options.text_dropout,
       .mask_probability = options.mask_probability,
       .attribute_weight = options.attribute_weight,
       .pretrain_steps = options.pretrain_steps,
       .validation_clips = options.validation_clips,
       .judged_clips = options.judged_clips,
       .sample_steps = options.sample_steps,
       .guidance = options.guidance,
       .recompute = options.recompute,
       .optimizer = optimizer_config(options.run),
       .run = run_config(options.run, place)},
      console.logger());
  const training::DitTrainReport report = training.run(options.run.resume, console.progress());
  OrderedJson result = {
      {"folder", report.folder}, {"steps", report.steps}, {"parameters", report.num_parameters}};
  std::string text = fmt::format(
      "{}: {} parameters, {} steps\n", report.folder, report.num_parameters, report.steps);
  for (const auto& [name, value] : report.validation) {
    result[name] = value;
    text += fmt::format("  {} {:.4g}\n", name, value);
  }
  console.finish(result, text);
}

void train_captions(const cli::TrainCaptionsOptions& options, cli::Console& console) {
  const training::WorldClips clips({.split = world::Split::kSeen},
                                   static_cast<std::uint64_t>(options.seed));
  AtomicFile file(options.output);
  for (std::int64_t i = 0; i < options.count; ++i) {
    file.write(world::caption(clips.scene(i), i) + "\n");
  }
  file.commit();
  console.finish({{"output", options.output}, {"captions", options.count}},
                 fmt::format("{}: {} captions\n", options.output, options.count));
}

}  // namespace kinema::engine
