// SPDX-License-Identifier: Apache-2.0
// Config, loading and step rules of the Wan 2.1 autoencoder.
#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ops/clamp.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "vae/config_checks.h"
#include "vae/memory_networks.h"
#include "vae/network_codec.h"
#include "vae/wan_vae.h"

namespace kinema::vae {
namespace {

constexpr const char* kPlace = "vae.wan";
constexpr std::int64_t kMaxWidth = 1 << 16;
constexpr std::int64_t kDefaultTile = 256;  ///< pixels
constexpr double kDefaultOverlap = 0.25;    ///< a stride of 192

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

class WanCodec final : public NetworkCodec<WanVae> {
 public:
  WanCodec(WanVaeConfig config, WanVae module, const tensor::Place& place)
      : NetworkCodec(std::move(module), place), config_(std::move(config)) {
    info_.family = "wan";
    info_.time_mode = TimeMode::kStream;
    info_.temporal_ratio = config_.temporal_ratio();
    info_.spatial_ratio = config_.spatial_ratio();
    info_.image_channels = config_.in_channels;
    info_.latent_channels = config_.z_dim;
    info_.latent_shift = config_.latents_mean;
    for (const double deviation : config_.latents_std) {
      info_.latent_scale.push_back(1.0 / deviation);
    }
  }

  [[nodiscard]] StepRule encode_rule() const override {
    return {.first = 1, .later = info_.temporal_ratio, .any_multiple = true};
  }
  [[nodiscard]] StepRule decode_rule() const override {
    return {.first = 1, .later = 1, .any_multiple = true};
  }
  [[nodiscard]] std::optional<std::int64_t> latent_frames(std::int64_t frames) const override {
    const bool is_legal = (frames - 1) % info_.temporal_ratio == 0;
    return is_legal ? std::optional(1 + (frames - 1) / info_.temporal_ratio) : std::nullopt;
  }
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const override {
    return 1 + (latents - 1) * info_.temporal_ratio;
  }

  [[nodiscard]] Live book_step(Ledger& ledger,
                               Direction direction,
                               const Live& input,
                               bool is_first) const override {
    return book_network(config_, ledger, direction, input, is_first);
  }
  /// After the blend of tiles, as in the reference.
  [[nodiscard]] Tensor finish_pixels(Tensor pixels_BCFHW) const override {
    return pixels_BCFHW.clamp_(-1.0, 1.0);
  }

  [[nodiscard]] std::optional<TilePlan> tiles(Direction direction,
                                              const TilingOptions& options,
                                              std::int64_t rows,
                                              std::int64_t columns) const override {
    const bool encoding = direction == Direction::kEncode;
    const double overlap = options.overlap >= 0.0 ? options.overlap : kDefaultOverlap;
    const auto axis = [&](std::int64_t wanted) {
      const std::int64_t tile = wanted > 0 ? wanted : kDefaultTile;
      const std::int64_t shared = std::llround(static_cast<double>(tile) * overlap);
      return wan_tile_axis(tile, tile - shared, info_.spatial_ratio, encoding);
    };
    const TilePlan plan = {axis(options.tile_rows), axis(options.tile_columns)};
    if (rows <= plan.rows.tile && columns <= plan.columns.tile) {
      return std::nullopt;
    }
    return plan;
  }

 private:
  WanVaeConfig config_;
};

}  // namespace

std::int64_t WanVaeConfig::temporal_ratio() const {
  return std::int64_t{1} << std::count(
             temporal_downsample.begin(), temporal_downsample.end(), true);
}

WanVaeConfig WanVaeConfig::from_json(const Json& json, const std::string& subject, Logger& logger) {
  WanVaeConfig config;
  JsonReader reader(json, {.place = kPlace, .subject = subject});
  // The scale factors follow from the levels.
  reader.ignore({"_class_name",
                 "_diffusers_version",
                 "_name_or_path",
                 "dropout",
                 "scale_factor_spatial",
                 "scale_factor_temporal"});
  reader.optional("base_dim", config.base_dim);
  reader.optional("decoder_base_dim", config.decoder_base_dim);
  reader.optional("z_dim", config.z_dim);
  reader.optional("dim_mult", config.dim_mult);
  reader.optional("num_res_blocks", config.num_res_blocks);
  reader.optional("attn_scales", config.attn_scales);
  read_flags(reader, "temperal_downsample", config.temporal_downsample);
  reader.optional("latents_mean", config.latents_mean);
  reader.optional("latents_std", config.latents_std);
  reader.optional("in_channels", config.in_channels);
  reader.optional("out_channels", config.out_channels);
  bool is_residual = false;
  std::optional<std::int64_t> patch_size;
  reader.optional("is_residual", is_residual);
  reader.optional("patch_size", patch_size);
  warn_unknown_keys(logger, subject, reader.unknown_keys());
  if (is_residual || patch_size.value_or(1) != 1) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "vae.config",
                 .place = kPlace,
                 .subject = subject,
                 .expected = "the autoencoder of Wan 2.1",
                 .got = "is_residual or patch_size, which belong to Wan 2.2"});
  }
  config.validate(subject);
  return config;
}

Json WanVaeConfig::to_json() const {
  return {{"_class_name", "AutoencoderKLWan"},
          {"base_dim", base_dim},
          {"decoder_base_dim", decoder_base_dim > 0 ? Json(decoder_base_dim) : Json(nullptr)},
          {"z_dim", z_dim},
          {"dim_mult", dim_mult},
          {"num_res_blocks", num_res_blocks},
          {"attn_scales", attn_scales},
          {"temperal_downsample", temporal_downsample},
          {"dropout", 0.0},
          {"latents_mean", latents_mean},
          {"latents_std", latents_std},
          {"in_channels", in_channels},
          {"out_channels", out_channels},
          {"scale_factor_spatial", spatial_ratio()},
          {"scale_factor_temporal", temporal_ratio()}};
}

void WanVaeConfig::validate(const std::string& subject) const {
  ConfigProblems problems(subject);
  const std::int64_t base = decoder_base_dim > 0 ? decoder_base_dim : base_dim;
  problems.check_size("base_dim", base_dim, kMaxWidth);
  problems.check_size("decoder_base_dim", base, kMaxWidth);
  problems.check_size("z_dim", z_dim, kMaxWidth);
  problems.check_size("in_channels", in_channels);
  problems.check_size("out_channels", out_channels);
  problems.check_size("num_res_blocks", num_res_blocks, 64);
  problems.check(!dim_mult.empty() && dim_mult.size() <= 8, "dim_mult has not 1 to 8 entries");
  for (std::size_t level = 0; level < dim_mult.size(); ++level) {
    problems.check_size("dim_mult", dim_mult[level], 1024);
    problems.check(
        level == 0 || dim_mult[level] > 1024 || base > kMaxWidth || base * dim_mult[level] % 2 == 0,
        "base_dim times dim_mult is odd");
  }
  problems.check(temporal_downsample.size() + 1 == dim_mult.size(),
                 "temperal_downsample has not one entry less than dim_mult");
  const auto channels = static_cast<std::size_t>(std::max<std::int64_t>(z_dim, 0));
  problems.check(latents_mean.size() == channels && latents_std.size() == channels,
                 "latents_mean and latents_std have not z_dim numbers");
  problems.check(
      std::none_of(latents_std.begin(), latents_std.end(), [](double v) { return v == 0.0; }),
      "latents_std has a 0");
  problems.finish();
}

std::int64_t wan_reference_frames(std::int64_t frames) noexcept {
  return 1 + (frames - 1) / 4 * 4;
}

TileAxis wan_tile_axis(std::int64_t tile_pixels,
                       std::int64_t stride_pixels,
                       std::int64_t ratio,
                       bool encoding) {
  if (tile_pixels < ratio || tile_pixels % ratio != 0 || stride_pixels % ratio != 0 ||
      stride_pixels < ratio || stride_pixels > tile_pixels) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "vae.tiling",
                 .place = kPlace,
                 .subject = "tile",
                 .expected = fmt::format("tile and stride in multiples of {} pixels", ratio),
                 .got = fmt::format("tile {}, stride {}", tile_pixels, stride_pixels)});
  }
  return tile_axis(tile_pixels / ratio, (tile_pixels - stride_pixels) / ratio, ratio, encoding);
}

std::unique_ptr<Codec> make_wan_codec(const WanVaeConfig& config,
                                      WanVae module,
                                      const tensor::Place& place) {
  return std::make_unique<WanCodec>(config, std::move(module), place);
}

std::unique_ptr<Codec> load_wan_vae(const CodecSource& source, Logger& logger) {
  const WanVaeConfig config =
      WanVaeConfig::from_json(source.config, source.folder + "/config.json", logger);
  WanVae module(config, nn::ParameterOptions{.dtype = source.place.dtype, .deferred = true});
  if (source.has_weights) {
    load_codec_weights(*module, io::Checkpoint::open(source.folder), {}, source.place);
  }
  return make_wan_codec(config, std::move(module), source.place);
}

}  // namespace kinema::vae
