// SPDX-License-Identifier: Apache-2.0
#include "training/vae_training.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <utility>

#include "training/patch_discriminator.h"
#include "training/perceptual_loss.h"
#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/checkpoint.h"
#include "core/io/image.h"
#include "core/nn/conv.h"
#include "core/tensor/from_view.h"
#include "core/tensor/load_weights.h"
#include "core/tensor/noise.h"
#include "core/tensor/pictures.h"
#include "vae/autoencoder.h"
#include "vae/config_checks.h"
#include "vae/linear_shortcut.h"
#include "vae/posterior.h"
#ifdef KINEMA_WITH_MEDIA
#include "training/video_clips.h"
#endif

namespace kinema::training {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBlockClips = 96;        ///< for the principal components
constexpr std::int64_t kShortcutSlowness = 10;  ///< the linear map starts right and moves slowly
constexpr std::int64_t kSheetClips = 4;
constexpr std::int64_t kSheetColumns = 5;

Error bad_value(std::string option, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "train.value",
                .place = "train.vae",
                .subject = std::move(option),
                .expected = std::move(expected),
                .got = std::move(got)});
}

std::int64_t longest(const VaeTrainConfig& config) {
  return *std::max_element(config.lengths.begin(), config.lengths.end());
}

std::unique_ptr<ClipSource> source_of(const VaeTrainConfig& config,
                                      [[maybe_unused]] Logger& logger) {
  if (config.data.empty()) {
    const world::WorldConfig world = {
        .width = config.size, .height = config.size, .frames = longest(config)};
    return std::make_unique<WorldClips>(world, config.seed);
  }
#ifdef KINEMA_WITH_MEDIA
  return std::make_unique<VideoClips>(
      config.data, config.size, longest(config), config.seed, logger);
#else
  throw Error(ErrorKind::kUnsupported,
              {.code = "build.no_media",
               .place = "train.vae",
               .subject = "--data " + config.data,
               .expected = "a build with KINEMA_MEDIA=ON",
               .got = "one without FFmpeg"});
#endif
}

/// Mean absolute difference of neighbouring pixels' differences, rows and columns.
Tensor gradient_loss(const Tensor& error_BCFHW) {
  const std::int64_t rows = error_BCFHW.size(3);
  const std::int64_t columns = error_BCFHW.size(4);
  const Tensor down = error_BCFHW.narrow(3, 1, rows - 1) - error_BCFHW.narrow(3, 0, rows - 1);
  const Tensor right =
      error_BCFHW.narrow(4, 1, columns - 1) - error_BCFHW.narrow(4, 0, columns - 1);
  return down.abs().mean() + right.abs().mean();
}

/// First, last and input-output layers are no hidden matrices; the linear map starts right.
train::ParameterRules vae_rules(bool freeze_encoder) {
  return [freeze_encoder](const std::string& name, const Tensor&) -> train::ParameterRule {
    const bool is_encoder = name.starts_with("encoder.") || name.starts_with("quant_conv.") ||
                            name.starts_with("linear_shortcut.encoder.");
    if (freeze_encoder && is_encoder) {
      return {.lr_scale = 0};
    }
    if (name.starts_with("linear_shortcut.")) {
      return {.lr_scale = 1.0 / static_cast<double>(kShortcutSlowness), .muon = false};
    }
    const bool is_border = name.find("conv_in.") != std::string::npos ||
                           name.find("conv_out.") != std::string::npos ||
                           name.find("quant_conv.") != std::string::npos;
    return {.muon = !is_border};
  };
}

vae::VidVaeConfig world_network() {
  vae::VidVaeConfig c;
  c.latent_channels = 8;
  c.base = 16;
  c.mult = {1, 2, 6};
  c.res_blocks = 1;
  c.groups = 8;
  c.conv3d_levels_enc = {false, false, true};
  c.space_down = {vae::SpaceDown::kCausal, vae::SpaceDown::kCausal};
  c.time_down = {vae::TimeDown::kPool, vae::TimeDown::kPool, vae::TimeDown::kNone};
  c.time_up = {vae::TimeUp::kNone, vae::TimeUp::kRepeat, vae::TimeUp::kRepeat};
  c.patch = 2;
  c.linear_shortcut = true;
  return c;
}

}  // namespace

void VaeTrainConfig::validate() const {
  if (folder.empty()) {
    throw bad_value("--output", "a folder", "nothing");
  }
  if (batch < 1 || size < 16) {
    throw bad_value("--batch", "batch >= 1 and size >= 16", "less");
  }
  const double total = std::accumulate(length_weights.begin(), length_weights.end(), 0.0);
  if (lengths.empty() || lengths.size() != length_weights.size() || !(total > 0) ||
      *std::min_element(lengths.begin(), lengths.end()) < 1 ||
      *std::min_element(length_weights.begin(), length_weights.end()) < 0) {
    throw bad_value("--lengths", "as many weights as lengths, some above 0", "others");
  }
  if (stream_probability < 0 || stream_probability > 1) {
    throw bad_value("--stream-probability", "0 to 1", std::to_string(stream_probability));
  }
  if (run.schedule.steps < 0 || run.accumulate < 1 || validation_clips < 1 || measured_clips < 1) {
    throw bad_value("--steps", "steps >= 0, accumulate and clips >= 1", "less");
  }
  static_cast<void>(tensor::parse_dtype(export_dtype));
}

OrderedJson VaeTrainConfig::to_json() const {
  return {{"kind", "vae"},
          {"network", network},
          {"data", data},
          {"start", start},
          {"seed", seed},
          {"size", size},
          {"batch", batch},
          {"lengths", lengths},
          {"length_weights", length_weights},
          {"stream_probability", stream_probability},
          {"freeze_encoder", freeze_encoder},
          {"loss_l1", loss.l1},
          {"loss_mse", loss.mse},
          {"loss_gradient", loss.gradient},
          {"loss_kl", loss.kl},
          {"loss_perceptual", loss.perceptual},
          {"loss_adversarial", loss.adversarial},
          {"vgg", vgg},
          {"adversarial_start", adversarial_start},
          {"discriminator_base", discriminator_base},
          {"validation_clips", validation_clips},
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

vae::VidVaeConfig vae_network(const std::string& preset_or_path, Logger& logger) {
  vae::VidVaeConfig c;
  if (preset_or_path == "world") {
    c = world_network();
  } else if (preset_or_path == "nano" || preset_or_path == "tiny") {
    const bool nano = preset_or_path == "nano";
    c.base = nano ? 16 : 32;
    c.mult = nano ? std::vector<std::int64_t>{1, 2, 2, 4} : std::vector<std::int64_t>{1, 2, 4, 4};
    c.res_blocks = 1;
    c.groups = nano ? 8 : 16;
  } else if (fs::exists(preset_or_path)) {
    const Json json =
        read_json_file(preset_or_path, {.place = "train.vae", .subject = preset_or_path});
    return vae::VidVaeConfig::from_json(json, preset_or_path, logger);
  } else {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "train.network",
                 .place = "train.vae",
                 .subject = "--network " + preset_or_path,
                 .expected = "world, nano, tiny, or the path of a config.json",
                 .got = "nothing of that name"});
  }
  const auto channels = static_cast<std::size_t>(c.latent_channels);
  c.scale.assign(channels, 1.0);
  c.shift.assign(channels, 0.0);
  c.validate("preset " + preset_or_path);
  return c;
}

Tensor psnr_B(const Tensor& video_BCFHW, const Tensor& original_BCFHW) {
  const Tensor mse_B = (video_BCFHW - original_BCFHW).square().flatten(1).mean(1);
  return 10.0 * (4.0 / mse_B.clamp_min(1e-12)).log10();
}

class VaeTraining::VaeTask final : public train::Task {
 public:
  VaeTask(const VaeTrainConfig& config,
          const ClipSource& clips,
          vae::VidVae network,
          std::int64_t first_step)
      : config_(config),
        clips_(clips),
        network_(std::move(network)),
        last_weight_(network_->named_parameters()["decoder.conv_out.conv.weight"]),
        queue_([this](std::int64_t number) { return make_batch(number); },
               first_step * config.run.accumulate,
               /*depth=*/4) {
    if (!config.vgg.empty()) {
      perceptual_ = std::make_unique<PerceptualLoss>(config.vgg);
    }
    if (config.loss.adversarial > 0) {
      const train::OptimizerConfig adamw = {.method = train::Method::kAdamW,
                                            .lr = config.optimizer.lr,
                                            .beta1 = 0.5,
                                            .beta2 = 0.9,
                                            .weight_decay = 0};
      discriminator_ =
          PatchDiscriminator(network_->config().in_channels, config.discriminator_base);
      discriminator_->initialise(config.seed);
      discriminator_optimizer_ = std::make_unique<train::Optimizer>(
          train::group_parameters(*discriminator_, adamw), adamw);
    }
  }

  [[nodiscard]] Tensor loss(std::int64_t step, std::int64_t micro, Metrics& parts) override {
    const std::int64_t number = step * config_.run.accumulate + micro;
    const Tensor video = to_network_range(queue_.next());
    const Passes passes = run_network(video, number);
    const Tensor error = passes.video - video;
    const Tensor l1 = error.abs().mean();
    const Tensor mse = error.square().mean();
    const Tensor gradient = gradient_loss(error);
    const VaeLossWeights& w = config_.loss;
    parts = {{"l1", l1.item<double>()},
             {"mse", mse.item<double>()},
             {"kl", passes.kl.item<double>()},
             {"frames", static_cast<double>(video.size(2))}};
    Tensor reconstruction = w.l1 * l1 + w.mse * mse + w.gradient * gradient;
    if (perceptual_ != nullptr) {
      const Tensor perceptual = (*perceptual_)(passes.video, video);
      parts.emplace_back("perceptual", perceptual.item<double>());
      reconstruction = reconstruction + w.perceptual * perceptual;
    }
    const Tensor total = reconstruction + w.kl * passes.kl;
    if (discriminator_.is_empty() || step < config_.adversarial_start) {
      return total;
    }
    return total + adversarial_loss(reconstruction, passes.video, video, parts);
  }

  void after_step(std::int64_t /*step*/) override {
    if (discriminator_optimizer_ != nullptr) {
      static_cast<void>(
          train::clip_gradients(discriminator_optimizer_->parameters(), config_.run.clip));
      discriminator_optimizer_->step(1.0);
      discriminator_optimizer_->zero_grad();
    }
  }

  [[nodiscard]] TensorMap state() const override {
    TensorMap state;
    if (discriminator_optimizer_ != nullptr) {
      for (const auto& item : discriminator_->named_parameters()) {
        state["discriminator." + item.key()] = item.value().detach();
      }
      for (const auto& [name, tensor] : discriminator_optimizer_->state()) {
        state["optimizer." + name] = tensor;
      }
    }
    return state;
  }

  void load_state(const TensorMap& state) override {
    if (discriminator_optimizer_ == nullptr) {
      return;
    }
    const at::NoGradGuard no_grad;
    TensorMap moments;
    for (const auto& [name, tensor] : state) {
      if (name.starts_with("optimizer.")) {
        moments[name.substr(std::string_view("optimizer.").size())] = tensor;
      }
    }
    discriminator_optimizer_->load_state(moments);
    for (auto& item : discriminator_->named_parameters()) {
      item.value().copy_(state.at("discriminator." + item.key()));
    }
  }

  [[nodiscard]] Metrics validate(std::int64_t finished_steps) override {
    const std::int64_t frames = longest(config_);
    double psnr = 0;
    double worst = 1e9;
    for (std::int64_t done = 0; done < config_.validation_clips; done += config_.batch) {
      const std::int64_t count = std::min(config_.batch, config_.validation_clips - done);
      const Tensor pixels = batch_of(clips_, kFirstValidationClip + done, count, frames);
      const Tensor video = to_network_range(pixels);
      const Tensor again =
          network_
              ->decode(vae::Posterior::from_moments(network_->encode(video, nullptr)).mode(),
                       nullptr)
              .clamp(-1, 1);
      const Tensor per_clip = psnr_B(again, video);
      psnr += per_clip.sum().item<double>();
      worst = std::min(worst, per_clip.min().item<double>());
      if (done == 0) {
        write_sheet(video, again, finished_steps);
      }
    }
    return {{"psnr_db", psnr / static_cast<double>(config_.validation_clips)},
            {"worst_psnr_db", worst}};
  }

 private:
  struct Passes {
    Tensor video;
    Tensor kl;
  };

  /// The generator's part; the discriminator's gradients are added to it on the way.
  [[nodiscard]] Tensor adversarial_loss(const Tensor& reconstruction,
                                        const Tensor& again,
                                        const Tensor& video,
                                        Metrics& parts) const {
    const auto count = static_cast<double>(config_.run.accumulate);
    const Tensor judged = hinge_discriminator_loss(discriminator_->forward(video),
                                                   discriminator_->forward(again.detach()));
    (judged / count).backward();
    parts.emplace_back("discriminator", judged.item<double>());
    set_discriminator_trains(false);
    const Tensor fooled = -discriminator_->forward(again).mean();
    set_discriminator_trains(true);
    const double weight = adaptive_weight(reconstruction, fooled, last_weight_);
    parts.emplace_back("adversarial", fooled.item<double>());
    parts.emplace_back("adaptive_weight", weight);
    return config_.loss.adversarial * weight * fooled;
  }

  void set_discriminator_trains(bool trains) const {
    for (Tensor& parameter : discriminator_->parameters()) {
      parameter.requires_grad_(trains);
    }
  }

  [[nodiscard]] float uniform(std::string_view name, std::int64_t number) const {
    return tensor::uniform_noise_flat(
               {.seed = config_.seed, .name = name}, {1}, static_cast<std::uint64_t>(number))
        .item<float>();
  }

  [[nodiscard]] std::int64_t length_of(std::int64_t number) const {
    const double total =
        std::accumulate(config_.length_weights.begin(), config_.length_weights.end(), 0.0);
    double left = static_cast<double>(uniform("vae/length", number)) * total;
    for (std::size_t i = 0; i + 1 < config_.lengths.size(); ++i) {
      left -= config_.length_weights[i];
      if (left < 0) {
        return config_.lengths[i];
      }
    }
    return config_.lengths.back();
  }

  [[nodiscard]] Tensor make_batch(std::int64_t number) const {
    return batch_of(clips_, number * config_.batch, config_.batch, length_of(number));
  }

  [[nodiscard]] Passes run_network(const Tensor& video, std::int64_t number) const {
    const std::int64_t ratio = network_->config().temporal_ratio();
    const std::int64_t latents = (video.size(2) - 1) / ratio + 1;
    // Two streamed chunks: 1 + a latents, then the rest.
    std::int64_t head = latents;
    if (latents > 1 && uniform("vae/stream", number) < config_.stream_probability) {
      head = 1 + static_cast<std::int64_t>(uniform("vae/cut", number) *
                                           static_cast<float>(latents - 1));
    }
    const auto chunks = [&](const Tensor& x, std::int64_t cut, const auto& pass) {
      if (head == latents) {
        return pass(x, nullptr);
      }
      vae::StreamState state;
      state.begin_chunk();
      const Tensor first = pass(x.narrow(2, 0, cut), &state);
      state.begin_chunk();
      return at::cat({first, pass(x.narrow(2, cut, x.size(2) - cut), &state)}, 2);
    };
    const Tensor moments =
        chunks(video, 1 + (head - 1) * ratio, [this](const Tensor& x, vae::StreamState* state) {
          return network_->encode(x, state);
        });
    const auto posterior = vae::Posterior::from_moments(moments);
    const std::string stream = "vae/posterior/" + std::to_string(number);
    const Tensor noise = tensor::normal_noise_flat({.seed = config_.seed, .name = stream},
                                                   posterior.mean_BCTHW.sizes());
    const Tensor again =
        chunks(posterior.sample(noise), head, [this](const Tensor& z, vae::StreamState* state) {
          return network_->decode(z, state);
        });
    return {again, posterior.kl_elements().mean()};
  }

  /// Clips and, below each, its reconstruction.
  void write_sheet(const Tensor& video, const Tensor& again, std::int64_t step) const {
    const std::string folder = config_.folder + "/samples";
    fs::create_directories(folder);
    std::vector<Tensor> rows;
    for (std::int64_t i = 0; i < std::min(kSheetClips, video.size(0)); ++i) {
      rows.push_back(video[i].add(1).mul(0.5));
      rows.push_back(again[i].add(1).mul(0.5));
    }
    io::write_png(folder + "/step-" + std::to_string(step) + ".png",
                  tensor::contact_sheet(rows, std::min(kSheetColumns, video.size(2))));
  }

  const VaeTrainConfig& config_;
  const ClipSource& clips_;
  vae::VidVae network_;
  Tensor last_weight_;
  std::unique_ptr<PerceptualLoss> perceptual_;
  PatchDiscriminator discriminator_{nullptr};
  std::unique_ptr<train::Optimizer> discriminator_optimizer_;
  BatchQueue queue_;
};

VaeTraining::VaeTraining(VaeTrainConfig config, Logger& logger)
    : config_((config.validate(), std::move(config))),
      logger_(logger),
      clips_(source_of(config_, logger)) {
  config_.run.folder = config_.folder;
}
VaeTraining::~VaeTraining() = default;

void VaeTraining::prepare_network() {
  if (config_.start.empty()) {
    network_ = vae::VidVae(vae_network(config_.network, logger_));
    vae::initialise_vid_vae(*network_, config_.seed);
  } else {
    const std::string path = config_.start + "/config.json";
    const Json json = read_json_file(path, {.place = "train.vae", .subject = path});
    network_ = vae::VidVae(vae::VidVaeConfig::from_json(json, path, logger_));
    tensor::load_weights(*network_,
                         io::Checkpoint::open(config_.start),
                         {},
                         {.dtype = at::kFloat, .place = "train.vae"});
  }
  const vae::VidVaeConfig& c = network_->config();
  for (const std::int64_t length : config_.lengths) {
    if ((length - 1) % c.temporal_ratio() != 0) {
      throw bad_value("--lengths",
                      "1 + k " + std::to_string(c.temporal_ratio()) + " frames",
                      std::to_string(length));
    }
  }
  if (config_.size % c.spatial_ratio() != 0) {
    throw bad_value("--size",
                    "a multiple of " + std::to_string(c.spatial_ratio()),
                    std::to_string(config_.size));
  }
  nn::use_channels_last_weights(*network_);
}

VaeTrainReport VaeTraining::run(bool resume, ProgressObserver& progress) {
  const auto found = train::latest_checkpoint(config_.folder + "/checkpoints");
  if (found && !resume) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "train.unfinished",
                 .place = "train.vae",
                 .subject = config_.folder,
                 .expected = "a folder without a run",
                 .got = *found,
                 .hint = "--resume goes on with it; or name another folder"});
  }
  prepare_network();
  if (!found && config_.start.empty() && network_->config().linear_shortcut) {
    const std::int64_t frames = longest(config_);
    const Tensor video =
        to_network_range(batch_of(*clips_, kFirstMeasuringClip, kBlockClips, frames));
    const Tensor blocks = vae::causal_blocks(
        video,
        {.time = network_->config().temporal_ratio(), .space = network_->config().spatial_ratio()},
        /*is_start=*/true);
    vae::start_from_principal_components(*network_, blocks.reshape({-1, blocks.size(4)}));
  }
  train::Trainer trainer(
      config_.run,
      config_.to_json(),
      *network_,
      train::Optimizer(
          train::group_parameters(*network_, config_.optimizer, vae_rules(config_.freeze_encoder)),
          config_.optimizer));
  const std::int64_t first_step = found ? train::load_checkpoint(*found).step : std::int64_t{0};
  VaeTask task(config_, *clips_, network_, first_step);
  trainer.resume(task);
  trainer.train(task, progress, logger_);
  export_model(trainer, progress);
  VaeTrainReport report;
  report.folder = config_.folder + "/vae";
  report.steps = trainer.finished_steps();
  report.num_parameters = vae::count_parameters(*network_);
  for (const auto& [name, value] : trainer.last_validation()) {
    if (name == "psnr_db") {
      report.psnr_db = value;
    }
  }
  return report;
}

void VaeTraining::export_model(train::Trainer& trainer, ProgressObserver& progress) {
  const at::NoGradGuard no_grad;
  const train::EmaScope averaged(trainer.ema());
  const std::int64_t frames = longest(config_);
  std::vector<Tensor> means;
  progress.on_stage("measure latents", config_.measured_clips, "clip");
  for (std::int64_t done = 0; done < config_.measured_clips; done += config_.batch) {
    const std::int64_t count = std::min(config_.batch, config_.measured_clips - done);
    const Tensor pixels = batch_of(*clips_, kFirstMeasuringClip + done, count, frames);
    const Tensor moments = network_->encode(to_network_range(pixels), nullptr);
    means.push_back(vae::Posterior::from_moments(moments).mode().clone());
    progress.on_step(done + count, {});
  }
  progress.on_stage_end();
  const Tensor latents_CN = at::cat(means).transpose(0, 1).flatten(1).to(at::kDouble);
  vae::VidVaeConfig c = network_->config();
  const Tensor shift_C = latents_CN.mean(1);
  const Tensor scale_C = latents_CN.std(1);
  for (std::int64_t i = 0; i < c.latent_channels; ++i) {
    c.shift[static_cast<std::size_t>(i)] = shift_C[i].item<double>();
    c.scale[static_cast<std::size_t>(i)] = scale_C[i].item<double>();
  }
  const std::string folder = config_.folder + "/vae";
  fs::create_directories(folder);
  const auto dtype = tensor::parse_dtype(config_.export_dtype).value_or(at::kFloat);
  TensorMap weights;
  for (const auto& item : network_->named_parameters()) {
    weights[item.key()] = item.value().detach().to(dtype);
  }
  tensor::save_tensors(folder + "/diffusion_pytorch_model.safetensors", weights);
  write_file(folder + "/config.json", c.to_json().dump(2) + "\n");
}

}  // namespace kinema::training
