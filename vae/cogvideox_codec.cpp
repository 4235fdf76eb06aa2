// SPDX-License-Identifier: Apache-2.0
// Config, loading and step rules of the CogVideoX autoencoder.
#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "vae/cogvideox_vae.h"
#include "vae/config_checks.h"
#include "vae/memory_networks.h"
#include "vae/network_codec.h"

namespace kinema::vae {
namespace {

constexpr const char* kPlace = "vae.cogvideox";
constexpr double kOverlapRows = 1.0 / 6.0;
constexpr double kOverlapColumns = 1.0 / 5.0;

/// Frames that one step of `frames` has after the time pooling of all levels.
std::int64_t pooled(std::int64_t frames, std::int64_t levels) {
  for (std::int64_t i = 0; i < levels; ++i) {
    frames = (frames + 1) / 2;
  }
  return frames;
}

std::int64_t repeated(std::int64_t frames, std::int64_t levels) {
  for (std::int64_t i = 0; i < levels && frames > 1; ++i) {
    frames = 2 * frames - frames % 2;
  }
  return frames;
}

template <typename Count>
std::int64_t sum_over_steps(const StepRule& rule, std::int64_t total, const Count& count) {
  std::int64_t sum = 0;
  for (const Span& span : plan_steps(rule, total)) {
    sum += count(span.size());
  }
  return sum;
}

void check_block_types(JsonReader& reader,
                       const char* key,
                       const std::string& expected,
                       std::size_t count) {
  std::vector<std::string> types(count, expected);
  reader.optional(key, types);
  if (types != std::vector<std::string>(count, expected)) {
    throw reader.error(
        "vae.config",
        key,
        fmt::format("{} times {}, one per entry of block_out_channels", count, expected),
        fmt::format("{}", fmt::join(types, ", ")));
  }
}

class CogVideoXCodec final : public NetworkCodec<CogVideoXVae> {
 public:
  CogVideoXCodec(CogVideoXVaeConfig config, CogVideoXVae module, const tensor::Place& place)
      : NetworkCodec(std::move(module), place), config_(std::move(config)) {
    info_.family = "cogvideox";
    info_.time_mode = TimeMode::kFixedChunks;
    info_.temporal_ratio = std::int64_t{1} << config_.num_time_blocks();
    info_.spatial_ratio = config_.spatial_ratio();
    info_.image_channels = config_.in_channels;
    info_.latent_channels = config_.latent_channels;
    const auto channels = static_cast<std::size_t>(config_.latent_channels);
    info_.latent_shift.assign(channels, config_.shift_factor.value_or(0.0));
    info_.latent_scale.assign(channels, config_.scaling_factor);
    for (std::size_t c = 0; c < config_.latents_mean.size(); ++c) {
      info_.latent_shift[c] = config_.latents_mean[c];
      info_.latent_scale[c] = config_.scaling_factor / config_.latents_std[c];
    }
  }

  [[nodiscard]] StepRule encode_rule() const override { return cogvideox_encode_rule(); }
  [[nodiscard]] StepRule decode_rule() const override { return cogvideox_decode_rule(); }

  /// Legal are the counts that come back from decoding: 1, 8 k and 8 k + 1 for the public models.
  [[nodiscard]] std::optional<std::int64_t> latent_frames(std::int64_t frames) const override {
    const std::int64_t latents = sum_over_steps(encode_rule(), frames, [&](std::int64_t n) {
      return pooled(n, config_.num_time_blocks());
    });
    return video_frames(latents) == frames ? std::optional(latents) : std::nullopt;
  }
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const override {
    return sum_over_steps(decode_rule(), latents, [&](std::int64_t n) {
      return repeated(n, config_.num_time_blocks());
    });
  }

  [[nodiscard]] Live book_step(Ledger& ledger,
                               Direction direction,
                               const Live& input,
                               bool /*is_first*/) const override {
    return book_network(config_, ledger, direction, input);
  }

  [[nodiscard]] std::optional<TilePlan> tiles(Direction direction,
                                              const TilingOptions& options,
                                              std::int64_t rows,
                                              std::int64_t columns) const override {
    const bool encoding = direction == Direction::kEncode;
    const auto axis = [&](std::int64_t wanted, std::int64_t sample, double overlap) {
      return tile_axis_from_factor(wanted > 0 ? wanted : sample / 2,
                                   options.overlap >= 0.0 ? options.overlap : overlap,
                                   info_.spatial_ratio,
                                   encoding);
    };
    const TilePlan plan = {axis(options.tile_rows, config_.sample_height, kOverlapRows),
                           axis(options.tile_columns, config_.sample_width, kOverlapColumns)};
    if (rows <= plan.rows.tile && columns <= plan.columns.tile) {
      return std::nullopt;
    }
    return plan;
  }

 private:
  CogVideoXVaeConfig config_;
};

}  // namespace

std::int64_t CogVideoXVaeConfig::num_time_blocks() const {
  return static_cast<std::int64_t>(std::log2(temporal_compression_ratio));
}

CogVideoXVaeConfig CogVideoXVaeConfig::from_json(const Json& json,
                                                 const std::string& subject,
                                                 Logger& logger) {
  CogVideoXVaeConfig config;
  JsonReader reader(json, {.place = kPlace, .subject = subject});
  reader.ignore({"_class_name", "_diffusers_version", "_name_or_path", "force_upcast"});
  reader.optional("in_channels", config.in_channels);
  reader.optional("out_channels", config.out_channels);
  reader.optional("block_out_channels", config.block_out_channels);
  check_block_types(
      reader, "down_block_types", "CogVideoXDownBlock3D", config.block_out_channels.size());
  check_block_types(
      reader, "up_block_types", "CogVideoXUpBlock3D", config.block_out_channels.size());
  reader.optional("latent_channels", config.latent_channels);
  reader.optional("layers_per_block", config.layers_per_block);
  std::string activation = "silu";
  reader.optional("act_fn", activation);
  const auto parsed = nn::parse_activation(activation);
  if (!parsed.has_value()) {
    throw reader.error("vae.config", "act_fn", "silu, relu or gelu", activation);
  }
  config.act_fn = *parsed;
  reader.optional("norm_eps", config.norm_eps);
  reader.optional("norm_num_groups", config.norm_num_groups);
  reader.optional("temporal_compression_ratio", config.temporal_compression_ratio);
  reader.optional("sample_height", config.sample_height);
  reader.optional("sample_width", config.sample_width);
  reader.optional("scaling_factor", config.scaling_factor);
  reader.optional("shift_factor", config.shift_factor);
  reader.optional("latents_mean", config.latents_mean);
  reader.optional("latents_std", config.latents_std);
  reader.optional("use_quant_conv", config.use_quant_conv);
  reader.optional("use_post_quant_conv", config.use_post_quant_conv);
  reader.optional("invert_scale_latents", config.invert_scale_latents);
  warn_unknown_keys(logger, subject, reader.unknown_keys());
  config.validate(subject);
  return config;
}

Json CogVideoXVaeConfig::to_json() const {
  const auto types = [this](const char* name) {
    return std::vector<std::string>(block_out_channels.size(), name);
  };
  const auto list_or_null = [](const std::vector<double>& values) {
    return values.empty() ? Json(nullptr) : Json(values);
  };
  return {{"_class_name", "AutoencoderKLCogVideoX"},
          {"in_channels", in_channels},
          {"out_channels", out_channels},
          {"block_out_channels", block_out_channels},
          {"down_block_types", types("CogVideoXDownBlock3D")},
          {"up_block_types", types("CogVideoXUpBlock3D")},
          {"latent_channels", latent_channels},
          {"layers_per_block", layers_per_block},
          {"act_fn", std::string(nn::to_string(act_fn))},
          {"norm_eps", norm_eps},
          {"norm_num_groups", norm_num_groups},
          {"temporal_compression_ratio", temporal_compression_ratio},
          {"sample_height", sample_height},
          {"sample_width", sample_width},
          {"scaling_factor", scaling_factor},
          {"shift_factor", shift_factor.has_value() ? Json(*shift_factor) : Json(nullptr)},
          {"latents_mean", list_or_null(latents_mean)},
          {"latents_std", list_or_null(latents_std)},
          {"use_quant_conv", use_quant_conv},
          {"use_post_quant_conv", use_post_quant_conv},
          {"invert_scale_latents", invert_scale_latents}};
}

void CogVideoXVaeConfig::validate(const std::string& subject) const {
  ConfigProblems problems(subject);
  problems.check_size("in_channels", in_channels);
  problems.check_size("out_channels", out_channels);
  problems.check_size("latent_channels", latent_channels);
  problems.check_size("layers_per_block", layers_per_block, 64);
  problems.check_size("sample_height", sample_height);
  problems.check_size("sample_width", sample_width);
  problems.check_widths("block_out_channels", block_out_channels, norm_num_groups);
  problems.check(norm_eps > 0.0, "norm_eps is not above 0");
  problems.check(temporal_compression_ratio >= 1.0 && temporal_compression_ratio <= 64.0,
                 "temporal_compression_ratio is not in 1 to 64");
  problems.check(std::isfinite(scaling_factor) && scaling_factor != 0.0, "scaling_factor is 0");
  const auto channels = static_cast<std::size_t>(std::max<std::int64_t>(latent_channels, 0));
  problems.check(latents_mean.size() == latents_std.size() &&
                     (latents_mean.empty() || latents_mean.size() == channels),
                 "latents_mean and latents_std are neither null nor one number per channel");
  problems.check(
      std::none_of(latents_std.begin(), latents_std.end(), [](double v) { return v == 0.0; }),
      "latents_std has a 0");
  problems.check(!(use_quant_conv || use_post_quant_conv) || out_channels == latent_channels,
                 "use_quant_conv and use_post_quant_conv need out_channels = latent_channels");
  problems.finish();
}

StepRule cogvideox_encode_rule() noexcept {
  return {.first = 8, .later = 8, .remainder_first = true};
}

StepRule cogvideox_decode_rule() noexcept {
  return {.first = 2, .later = 2, .remainder_first = true};
}

std::unique_ptr<Codec> make_cogvideox_codec(const CogVideoXVaeConfig& config,
                                            CogVideoXVae module,
                                            const tensor::Place& place) {
  return std::make_unique<CogVideoXCodec>(config, std::move(module), place);
}

std::unique_ptr<Codec> load_cogvideox_vae(const CodecSource& source, Logger& logger) {
  const CogVideoXVaeConfig config =
      CogVideoXVaeConfig::from_json(source.config, source.folder + "/config.json", logger);
  CogVideoXVae module(config, nn::ParameterOptions{.dtype = source.place.dtype, .deferred = true});
  if (source.has_weights) {
    load_codec_weights(*module, io::Checkpoint::open(source.folder), {}, source.place);
  }
  return make_cogvideox_codec(config, std::move(module), source.place);
}

}  // namespace kinema::vae
