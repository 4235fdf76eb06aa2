// SPDX-License-Identifier: Apache-2.0
// Config, loading and step rules of the Open-Sora 1.2 autoencoder.
#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "vae/config_checks.h"
#include "vae/memory_networks.h"
#include "vae/open_sora_vae.h"

namespace kinema::vae {
namespace {

constexpr const char* kPlace = "vae.open_sora";

/// One number or a list of them.
bool read_numbers(JsonReader& reader, const char* key, std::vector<double>& values) {
  const Json* found = reader.find(key);
  if (found != nullptr && found->is_number()) {
    values = {found->get<double>()};
    return true;
  }
  reader.optional(key, values);
  return false;
}

void read_flags(JsonReader& reader, const char* key, std::vector<bool>& flags) {
  const Json* found = reader.find(key);
  if (found == nullptr) {
    return;
  }
  const bool is_list =
      found->is_array() && std::all_of(found->begin(), found->end(), [](const Json& value) {
        return value.is_boolean();
      });
  if (!is_list) {
    throw reader.error("config.type", key, "a list of true and false", found->type_name());
  }
  flags = found->get<std::vector<bool>>();
}

/// A part of the config, or null when the key is absent.
const Json* read_object(JsonReader& reader, const char* key) {
  const Json* found = reader.find(key);
  if (found != nullptr && !found->is_object()) {
    throw reader.error("config.type", key, "an object", found->type_name());
  }
  return found;
}

std::optional<std::int64_t> read_micro_batch(const Json& json,
                                             const std::string& subject,
                                             Logger& logger) {
  JsonReader reader(json, {.place = kPlace, .subject = subject}, "vae_2d");
  reader.ignore({"from_pretrained", "subfolder", "local_files_only", "cache_dir"});
  std::string type = "VideoAutoencoderKL";
  reader.optional("type", type);
  if (type != "VideoAutoencoderKL") {
    throw reader.error("vae.config", "type", "VideoAutoencoderKL", type);
  }
  std::optional<std::int64_t> size;
  reader.optional("micro_batch_size", size);
  warn_unknown_keys(logger, subject, reader.unknown_keys());
  return size;
}

class OpenSoraCodec final : public Codec {
 public:
  OpenSoraCodec(OpenSoraVae module, const tensor::Place& place) : module_(std::move(module)) {
    const OpenSoraVaeConfig& config = module_->config();
    const TemporalVaeConfig& temporal = config.temporal;
    info_.family = "open_sora_1_2";
    info_.time_mode =
        config.micro_frame_size.has_value() ? TimeMode::kMicroClips : TimeMode::kWhole;
    info_.temporal_ratio = temporal.temporal_ratio();
    info_.spatial_ratio = config.spatial.spatial_ratio();
    info_.image_channels = config.spatial.in_channels;
    info_.latent_channels = temporal.embed_dim;
    info_.num_parameters = count_parameters(*module_);
    // The file's buffers decide, not its config.
    const auto channels = static_cast<std::size_t>(temporal.embed_dim);
    const Tensor scale = module_->scale.to(at::kCPU, at::kDouble).flatten();
    const Tensor shift = module_->shift.to(at::kCPU, at::kDouble).flatten();
    for (std::size_t c = 0; c < channels; ++c) {
      const auto at = std::min(static_cast<std::int64_t>(c), scale.numel() - 1);
      info_.latent_scale.push_back(1.0 / scale[at].item<double>());
      info_.latent_shift.push_back(shift[at].item<double>());
    }
    info_.place = place;
  }

  [[nodiscard]] const AutoencoderInfo& info() const noexcept override { return info_; }
  [[nodiscard]] StepRule encode_rule() const override { return rule(micro_frames()); }
  [[nodiscard]] StepRule decode_rule() const override { return rule(micro_latents()); }

  [[nodiscard]] std::optional<std::int64_t> latent_frames(std::int64_t frames) const override {
    return module_->config().latent_frames(frames);
  }
  /// The most; a clip that was padded on the left is shorter.
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const override {
    if (!micro_frames().has_value()) {
      return latents * info_.temporal_ratio;
    }
    return latents / *micro_latents() * *micro_frames() +
           latents % *micro_latents() * info_.temporal_ratio;
  }

  [[nodiscard]] Tensor encode_step(const Tensor& x_BCFHW,
                                   StreamState& /*state*/,
                                   const StepContext& /*step*/) const override {
    return module_->temporal()->encode(module_->encode_frames(x_BCFHW));
  }

  [[nodiscard]] Tensor decode_step(const Tensor& z_BCTHW,
                                   StreamState& /*state*/,
                                   const StepContext& step) const override {
    return module_->decode_frames(
        module_->temporal()->decode(z_BCTHW, frames_of_step(z_BCTHW.size(2), step)));
  }

  [[nodiscard]] Live book_step(Ledger& ledger,
                               Direction direction,
                               const Live& input,
                               bool /*is_first*/) const override {
    return book_network(module_->config(), ledger, direction, input);
  }
  [[nodiscard]] const torch::nn::Module& network() const noexcept override { return *module_; }

 private:
  [[nodiscard]] std::optional<std::int64_t> micro_frames() const {
    return module_->config().micro_frame_size;
  }
  [[nodiscard]] std::optional<std::int64_t> micro_latents() const {
    return module_->config().micro_latents();
  }

  [[nodiscard]] static StepRule rule(std::optional<std::int64_t> size) {
    if (!size.has_value()) {
      return {.independent = true, .whole = true};
    }
    return {.first = *size, .later = *size, .independent = true};
  }

  /// Frames that a piece stands for: as many as the clip has left, if that is known and fits; what
  /// the caller does not want at the end of the clip is cut later.
  [[nodiscard]] std::int64_t frames_of_step(std::int64_t latents, const StepContext& step) const {
    const auto& temporal = module_->config().temporal;
    std::int64_t most = latents * info_.temporal_ratio;
    if (micro_frames().has_value() && latents == *micro_latents()) {
      most = *micro_frames();
    }
    if (!step.num_frames.has_value()) {
      return most;
    }
    const std::int64_t before =
        micro_frames().has_value() ? step.span.begin / *micro_latents() * *micro_frames() : 0;
    const std::int64_t left = std::min(*step.num_frames - before, most);
    return left > 0 && temporal.latent_frames(left) == latents ? left : most;
  }

  OpenSoraVae module_;
  AutoencoderInfo info_;
};

}  // namespace

SdVaeConfig sdxl_vae_config() {
  SdVaeConfig config;
  config.block_out_channels = {128, 256, 512, 512};
  config.layers_per_block = 2;
  config.sample_size = 512;
  config.scaling_factor = 0.13025;
  return config;
}

std::int64_t TemporalVaeConfig::temporal_ratio() const {
  return std::int64_t{1} << std::count(
             temporal_downsample.begin(), temporal_downsample.end(), true);
}

TemporalVaeConfig TemporalVaeConfig::from_json(const Json& json,
                                               const std::string& subject,
                                               Logger& logger) {
  TemporalVaeConfig config;
  JsonReader reader(json, {.place = kPlace, .subject = subject}, "vae_temporal");
  reader.ignore({"from_pretrained"});
  std::string type = "VAE_Temporal_SD";
  reader.optional("type", type);
  if (type != "VAE_Temporal_SD" && type != "VAE_Temporal") {
    throw reader.error("vae.config", "type", "VAE_Temporal_SD or VAE_Temporal", type);
  }
  if (type == "VAE_Temporal") {
    config.temporal_downsample = {true, true, false};  // the plain class's own default
  }
  reader.optional("in_out_channels", config.in_out_channels);
  reader.optional("latent_embed_dim", config.latent_embed_dim);
  reader.optional("embed_dim", config.embed_dim);
  reader.optional("filters", config.filters);
  reader.optional("num_res_blocks", config.num_res_blocks);
  reader.optional("channel_multipliers", config.channel_multipliers);
  read_flags(reader, "temporal_downsample", config.temporal_downsample);
  reader.optional("num_groups", config.num_groups);
  std::string activation = "swish";
  reader.optional("activation_fn", activation);
  if (activation != "swish") {
    throw reader.error("vae.config", "activation_fn", "swish", activation);
  }
  warn_unknown_keys(logger, subject, reader.unknown_keys());
  config.validate(subject);
  return config;
}

Json TemporalVaeConfig::to_json() const {
  return {{"type", "VAE_Temporal"},
          {"in_out_channels", in_out_channels},
          {"latent_embed_dim", latent_embed_dim},
          {"embed_dim", embed_dim},
          {"filters", filters},
          {"num_res_blocks", num_res_blocks},
          {"channel_multipliers", channel_multipliers},
          {"temporal_downsample", temporal_downsample},
          {"num_groups", num_groups},
          {"activation_fn", "swish"}};
}

void TemporalVaeConfig::validate(const std::string& subject) const {
  constexpr std::int64_t kMaxWidth = 1 << 16;
  ConfigProblems problems(subject);
  problems.check_size("in_out_channels", in_out_channels, kMaxWidth);
  problems.check_size("latent_embed_dim", latent_embed_dim, kMaxWidth);
  problems.check_size("embed_dim", embed_dim, kMaxWidth);
  problems.check_size("filters", filters, kMaxWidth);
  problems.check_size("num_res_blocks", num_res_blocks, 64);
  problems.check_size("num_groups", num_groups, kMaxWidth);
  problems.check(num_groups < 1 || filters % num_groups == 0,
                 "filters is no multiple of num_groups");
  problems.check(!channel_multipliers.empty() && channel_multipliers.size() <= 8,
                 "channel_multipliers has not 1 to 8 entries");
  for (const std::int64_t factor : channel_multipliers) {
    problems.check_size("channel_multipliers", factor, 1024);
  }
  problems.check(temporal_downsample.size() + 1 == channel_multipliers.size(),
                 "temporal_downsample has not one entry less than channel_multipliers");
  problems.finish();
}

OpenSoraVaeConfig OpenSoraVaeConfig::from_json(const Json& json,
                                               const std::string& subject,
                                               Logger& logger) {
  OpenSoraVaeConfig config;
  config.micro_frame_size = std::nullopt;
  config.micro_batch_size = std::nullopt;
  JsonReader reader(json, {.place = kPlace, .subject = subject});
  reader.ignore({"architectures",
                 "model_type",
                 "cal_loss",
                 "freeze_vae_2d",
                 "from_pretrained",
                 "torch_dtype",
                 "transformers_version",
                 "_name_or_path"});
  reader.optional("micro_frame_size", config.micro_frame_size);
  const bool scalar_scale = read_numbers(reader, "scale", config.scale);
  const bool scalar_shift = read_numbers(reader, "shift", config.shift);
  if (scalar_scale != scalar_shift) {
    throw reader.error("vae.config", "shift", "a number or a list, as scale", "one of each");
  }
  config.scalar_normalisation = scalar_scale;
  if (const Json* part = read_object(reader, "vae_2d")) {
    config.micro_batch_size = read_micro_batch(*part, subject, logger);
  }
  if (const Json* part = read_object(reader, "_vae_2d_config")) {
    config.spatial = SdVaeConfig::from_json(*part, subject, logger);
  }
  if (const Json* part = read_object(reader, "vae_temporal")) {
    config.temporal = TemporalVaeConfig::from_json(*part, subject, logger);
  }
  warn_unknown_keys(logger, subject, reader.unknown_keys());
  config.validate(subject);
  return config;
}

std::optional<std::int64_t> OpenSoraVaeConfig::micro_latents() const {
  return micro_frame_size.has_value() ? std::optional(temporal.latent_frames(*micro_frame_size))
                                      : std::nullopt;
}

std::int64_t OpenSoraVaeConfig::latent_frames(std::int64_t frames) const {
  if (!micro_frame_size.has_value()) {
    return temporal.latent_frames(frames);
  }
  return frames / *micro_frame_size * *micro_latents() +
         temporal.latent_frames(frames % *micro_frame_size);
}

void OpenSoraVaeConfig::validate(const std::string& subject) const {
  spatial.validate(subject);
  temporal.validate(subject);
  ConfigProblems problems(subject);
  problems.check_size("micro_frame_size", micro_frame_size.value_or(1));
  problems.check_size("micro_batch_size", micro_batch_size.value_or(1));
  problems.check(temporal.in_out_channels == spatial.latent_channels,
                 "in_out_channels differs from the channels of the image autoencoder");
  const auto channels = static_cast<std::size_t>(temporal.embed_dim);
  problems.check(
      scale.size() == shift.size() && scale.size() == (scalar_normalisation ? 1 : channels),
      "scale and shift have not one number per latent channel");
  problems.check(std::none_of(scale.begin(), scale.end(), [](double v) { return v == 0.0; }),
                 "scale has a 0");
  problems.finish();
}

OpenSoraVae load_open_sora_network(const std::string& folder,
                                   const OpenSoraVaeConfig& config,
                                   const tensor::Place& place) {
  OpenSoraVae module(config, nn::ParameterOptions{.dtype = place.dtype, .deferred = true});
  load_codec_weights(*module, io::Checkpoint::open(folder), {}, place);
  return module;
}

std::unique_ptr<Codec> make_open_sora_codec(OpenSoraVae module, const tensor::Place& place) {
  return std::make_unique<OpenSoraCodec>(std::move(module), place);
}

std::unique_ptr<Codec> load_open_sora_vae(const CodecSource& source, Logger& logger) {
  const OpenSoraVaeConfig config =
      OpenSoraVaeConfig::from_json(source.config, source.folder + "/config.json", logger);
  OpenSoraVae module =
      source.has_weights
          ? load_open_sora_network(source.folder, config, source.place)
          : OpenSoraVae(config,
                        nn::ParameterOptions{.dtype = source.place.dtype, .deferred = true});
  return make_open_sora_codec(std::move(module), source.place);
}

}  // namespace kinema::vae
