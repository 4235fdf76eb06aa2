// SPDX-License-Identifier: Apache-2.0
#include "training/dit_training.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "training/dit_task.h"
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/diffusion/sampler.h"
#include "core/io/safetensors.h"
#include "dit/modules/vdit_model.h"
#include "vae/config_checks.h"

namespace kinema::training {
namespace {

namespace fs = std::filesystem;

void require(bool holds, std::string option, std::string expected, std::string got) {
  if (!holds) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "train.value",
                 .place = "train.dit",
                 .subject = std::move(option),
                 .expected = std::move(expected),
                 .got = std::move(got)});
  }
}

dit::VDitConfig transformer_config(const DitTrainConfig& config, std::int64_t latent_channels) {
  dit::VDitConfig c;
  if (!config.network.empty()) {
    std::vector<std::string> unknown;
    const Json json =
        read_json_file(config.network, {.place = "train.dit", .subject = config.network});
    c = dit::VDitConfig::from_json(json, config.network, unknown);
  } else {
    c.layout = dit::Layout::kFull;
    c.latent_channels = latent_channels;
    c.predict_variance = false;
    c.width = config.width;
    c.num_layers = config.layers;
    c.num_heads = config.heads;
    c.mlp_width = 4 * config.width;
    c.caption_channels = config.text_width;
    c.caption_tokens = 0;  // the empty prompt is the unconditional side
    c.pooled_channels = config.text_width;
    c.fps_condition = false;
    c.input_sq_size = std::min(config.buckets.front().width, config.buckets.front().height);
  }
  require(c.latent_channels == latent_channels,
          "--network",
          std::to_string(latent_channels) + " latent channels, as the autoencoder has",
          std::to_string(c.latent_channels));
  require(c.caption_tokens == 0 && !c.predict_variance,
          "--network",
          "caption_tokens 0 and predict_variance false",
          "another");
  require(c.caption_channels == config.text_width &&
              (c.pooled_channels == 0 || c.pooled_channels == config.text_width),
          "--network",
          "caption_channels (and pooled_channels) " + std::to_string(config.text_width),
          std::to_string(c.caption_channels));
  return c;
}

text::T5Config text_config(const DitTrainConfig& config, const text::Tokenizer& tokenizer) {
  text::T5Config c;
  c.vocab_size = tokenizer.vocab_size();
  c.d_model = config.text_width;
  c.num_layers = config.text_layers;
  c.num_heads = 4;
  c.d_kv = config.text_width / 4;
  c.d_ff = 2 * config.text_width;
  return c;
}

/// A name for the weights: their size and shape do not tell two trainings apart, a checksum does.
std::string identity_of(const std::string& vae_folder) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char* name : {"/config.json", "/diffusion_pytorch_model.safetensors"}) {
    const std::string path = vae_folder + name;
    if (!fs::exists(path)) {
      continue;
    }
    const MappedFile file = MappedFile::open(path, "train.dit");
    for (const std::byte byte : file.bytes()) {
      hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3U;
    }
  }
  return std::to_string(hash);
}

void copy_folder(const fs::path& from, const fs::path& to) {
  fs::remove_all(to);
  fs::create_directories(to);
  if (fs::is_directory(from)) {
    fs::copy(from, to, fs::copy_options::recursive);
  } else {
    fs::copy(from, to / from.filename());
  }
}

}  // namespace

BucketSize BucketSize::parse(const std::string& text) {
  BucketSize bucket;
  std::int64_t* const sides[3] = {&bucket.width, &bucket.height, &bucket.frames};
  const char* at = text.data();
  const char* const end = at + text.size();
  bool fits = true;
  for (std::size_t i = 0; i < 3 && fits; ++i) {
    const auto result = std::from_chars(at, end, *sides[i]);
    fits = result.ec == std::errc() && *sides[i] >= 1;
    at = result.ptr;
    fits = fits && (i == 2 || (at != end && *at++ == 'x'));
  }
  if (fits && at != end) {
    fits = *at++ == ':';
    const auto result = std::from_chars(at, end, bucket.weight);
    fits = fits && result.ec == std::errc() && result.ptr == end && bucket.weight > 0;
  }
  require(fits, "--buckets", "WxHxF or WxHxF:WEIGHT, for example 64x64x17", "'" + text + "'");
  return bucket;
}

std::string BucketSize::name() const {
  return fmt::format("{}x{}x{}", width, height, frames);
}

void DitTrainConfig::validate() const {
  require(!buckets.empty(), "--buckets", "at least one", "none");
  require(!folder.empty(), "--output", "a folder", "nothing");
  require(batch >= 1 && clips >= batch, "--clips", "at least --batch", std::to_string(clips));
  require(width % heads == 0, "--heads", "a divisor of --width", std::to_string(heads));
  require(text_width % 4 == 0, "--text-width", "a multiple of 4", std::to_string(text_width));
  require(text_dropout >= 0 && text_dropout <= 1 && mask_probability >= 0 && mask_probability <= 1,
          "--text-dropout",
          "probabilities of 0 to 1",
          "others");
  require(run.schedule.steps >= 0 && run.accumulate >= 1 && validation_clips >= 1,
          "--steps",
          "steps >= 0, accumulate and clips >= 1",
          "less");
}

OrderedJson DitTrainConfig::to_json() const {
  std::vector<std::string> names;
  for (const BucketSize& bucket : buckets) {
    names.push_back(fmt::format("{}:{:g}", bucket.name(), bucket.weight));
  }
  return {{"kind", "dit"},
          {"seed", seed},
          {"buckets", names},
          {"clips", clips},
          {"batch", batch},
          {"objective", kObjectiveNames[static_cast<std::size_t>(objective)]},
          {"network", network},
          {"text_encoder", text_encoder},
          {"width", width},
          {"layers", layers},
          {"heads", heads},
          {"text_width", text_width},
          {"text_layers", text_layers},
          {"max_length", max_length},
          {"text_dropout", text_dropout},
          {"mask_probability", mask_probability},
          {"attribute_weight", attribute_weight},
          {"pretrain_steps", pretrain_steps},
          {"validation_clips", validation_clips},
          {"judged_clips", judged_clips},
          {"sample_steps", sample_steps},
          {"guidance", guidance},
          {"optimizer", train::kMethodNames[static_cast<std::size_t>(optimizer.method)]},
          {"lr", optimizer.lr},
          {"muon_lr", optimizer.muon_lr},
          {"beta1", optimizer.beta1},
          {"beta2", optimizer.beta2},
          {"weight_decay", optimizer.weight_decay},
          {"steps", run.schedule.steps},
          {"schedule", train::kScheduleNames[static_cast<std::size_t>(run.schedule.kind)]},
          {"warmup", run.schedule.warmup},
          {"final_lr", run.schedule.final},
          {"accumulate", run.accumulate},
          {"clip", run.clip},
          {"ema", run.ema}};
}

DitTraining::DitTraining(DitTrainConfig config, Logger& logger)
    : config_(std::move(config)), logger_(logger) {
  config_.validate();
  config_.run.folder = config_.folder;
}
DitTraining::~DitTraining() = default;

DitTrainReport DitTraining::run(bool resume, ProgressObserver& progress) {
  const auto found = train::latest_checkpoint(config_.folder + "/checkpoints");
  if (found && !resume) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "train.unfinished",
                 .place = "train.dit",
                 .subject = config_.folder,
                 .expected = "a folder without a run",
                 .got = *found,
                 .hint = "--resume goes on with it; or name another folder"});
  }
  const auto vae = vae::Autoencoder::load(config_.vae, {}, logger_);
  for (const BucketSize& bucket : config_.buckets) {
    vae->check_size(bucket.frames, bucket.height, bucket.width);
  }
  const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::load(config_.tokenizer);
  TextTower text{nullptr};
  std::unique_ptr<FrozenText> frozen;
  if (config_.text_encoder.empty()) {
    text = TextTower(text_config(config_, *tokenizer), tokenizer);
    text->initialise(config_.seed);
  } else {
    frozen = std::make_unique<FrozenText>(config_.text_encoder, tokenizer, logger_);
    config_.text_width = frozen->width();
  }
  auto transformer =
      dit::VideoDit::create(transformer_config(config_, vae->info().latent_channels), config_.seed);
  transformer->module()->set_recompute(config_.recompute);
  DitTask task(config_, std::move(transformer), text, std::move(frozen), *vae);
  task.open_cache(identity_of(config_.vae), progress);
  if (!found && task.text() != nullptr && config_.pretrain_steps > 0) {
    task.pretrain_text(progress, logger_);
  }
  train::Trainer trainer(
      config_.run,
      config_.to_json(),
      task.module(),
      train::Optimizer(train::group_parameters(task.module(), config_.optimizer, DitTask::rules()),
                       config_.optimizer));
  trainer.resume(task);
  trainer.train(task, progress, logger_);
  {
    const train::EmaScope averaged(trainer.ema());
    export_model(task);
  }
  return {.folder = config_.folder + "/model",
          .steps = trainer.finished_steps(),
          .num_parameters = vae::count_parameters(task.module()),
          .validation = trainer.last_validation()};
}

void DitTraining::export_model(DitTask& task) {
  const fs::path folder = fs::path(config_.folder) / "model";
  fs::create_directories(folder / "scheduler");
  task.transformer().save((folder / "transformer").string());
  if (task.text() != nullptr) {
    task.text()->save_to((folder / "text_encoder").string());
  } else {
    copy_folder(config_.text_encoder, folder / "text_encoder");
  }
  copy_folder(config_.vae, folder / "vae");
  copy_folder(config_.tokenizer, folder / "tokenizer");
  const auto kind = config_.objective == Objective::kRflow ? diffusion::SamplerKind::kRflow
                                                           : diffusion::SamplerKind::kDdim;
  write_file((folder / "scheduler" / "scheduler_config.json").string(),
             diffusion::make_sampler(kind)->config_json().dump(2) + "\n");
  const BucketSize& size = config_.buckets.front();
  const OrderedJson generation = {{"width", size.width},
                                  {"height", size.height},
                                  {"frames", size.frames},
                                  {"fps", 8},
                                  {"steps", config_.sample_steps},
                                  {"guidance", config_.guidance},
                                  {"max_length", config_.max_length},
                                  {"clean", "lower"}};
  write_file((folder / "generation.json").string(), generation.dump(2) + "\n");
  const OrderedJson index = {{"_class_name", "KinemaTextToVideo"},
                             {"transformer", {"kinema", "VDiT"}},
                             {"vae", {"kinema", "VidVAE"}},
                             {"text_encoder", {"transformers", "T5EncoderModel"}},
                             {"tokenizer", {"transformers", "T5Tokenizer"}},
                             {"scheduler", {"kinema", "Scheduler"}}};
  write_file((folder / "model_index.json").string(), index.dump(2) + "\n");
}

}  // namespace kinema::training
