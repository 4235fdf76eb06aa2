// SPDX-License-Identifier: Apache-2.0
#include "vae/codec.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/nn/conv.h"
#include "core/tensor/load_weights.h"

namespace kinema::vae {
namespace {

constexpr std::int64_t kDefaultTile = 512;
constexpr double kDefaultOverlap = 0.25;

[[noreturn]] void throw_tiling(std::string subject, std::string expected, std::string got) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "vae.tiling",
               .place = "vae.tiling",
               .subject = std::move(subject),
               .expected = std::move(expected),
               .got = std::move(got)});
}

TileAxis axis_of(std::int64_t tile_pixels,
                 const TilingOptions& options,
                 std::int64_t ratio,
                 bool encoding) {
  const std::int64_t tile = tile_pixels > 0 ? tile_pixels : kDefaultTile;
  const double overlap = options.overlap >= 0.0 ? options.overlap : kDefaultOverlap;
  if (options.reference_blend) {
    return tile_axis_from_factor(tile, overlap, ratio, encoding);
  }
  if (tile % ratio != 0 || overlap > 0.5) {
    throw_tiling("tile",
                 fmt::format("a multiple of {} pixels and an overlap of 0 to 0.5", ratio),
                 fmt::format("{} pixels, overlap {}", tile, overlap));
  }
  const std::int64_t latents = tile / ratio;
  const auto shared = std::llround(static_cast<double>(latents) * overlap);
  return tile_axis(latents, std::min<std::int64_t>(shared, latents - 1), ratio, encoding);
}

}  // namespace

std::vector<Span> plan_steps(const StepRule& rule, std::int64_t total, std::int64_t wanted) {
  KINEMA_DCHECK(total > 0 && rule.first > 0 && rule.later > 0);
  if (rule.whole) {
    return {{0, total}};
  }
  std::int64_t first = rule.first;
  std::int64_t later = rule.later;
  if (rule.remainder_first) {
    first = total < rule.first ? total : rule.first + (total - rule.first) % rule.later;
  } else if (rule.any_multiple) {
    const std::int64_t size = wanted > 0 ? wanted : total;
    first += std::max<std::int64_t>((size - first) / later, 0) * later;
    later *= std::max<std::int64_t>(size / later, 1);
  }
  std::vector<Span> spans = {{0, std::min(first, total)}};
  while (spans.back().end < total) {
    const std::int64_t begin = spans.back().end;
    spans.push_back({begin, std::min(begin + later, total)});
  }
  return spans;
}

TileAxis tile_axis(std::int64_t tile_latents,
                   std::int64_t overlap_latents,
                   std::int64_t ratio,
                   bool encoding) {
  const std::int64_t step = tile_latents - overlap_latents;
  if (encoding) {
    return {tile_latents * ratio, step * ratio, overlap_latents, step};
  }
  return {tile_latents, step, overlap_latents * ratio, step * ratio};
}

TileAxis tile_axis_from_factor(std::int64_t tile_pixels,
                               double overlap,
                               std::int64_t ratio,
                               bool encoding) {
  const double shared = static_cast<double>(tile_pixels / ratio) * overlap;
  const auto whole = std::llround(shared);
  const bool sizes_add_up = tile_pixels > 0 && tile_pixels % ratio == 0 &&
                            std::abs(shared - static_cast<double>(whole)) < 1e-6 &&
                            whole < tile_pixels / ratio && overlap >= 0.0;
  if (!sizes_add_up) {
    throw_tiling("tile",
                 fmt::format("a multiple of {} pixels whose latents times the overlap are an "
                             "integer, otherwise the reference returns a wrong size",
                             ratio),
                 fmt::format("{} pixels, overlap {}", tile_pixels, overlap));
  }
  return tile_axis(tile_pixels / ratio, whole, ratio, encoding);
}

void load_codec_weights(torch::nn::Module& network,
                        const io::Checkpoint& checkpoint,
                        const tensor::KeyMap& keymap,
                        const tensor::Place& place) {
  const tensor::LoadReport report = tensor::load_weights(
      network,
      checkpoint,
      keymap,
      {.dtype = place.dtype, .zero_copy = true, .device = place.device, .place = "vae.weights"});
  if (report.num_mapped_bytes == 0) {
    nn::use_channels_last_weights(network);
  }
}

std::optional<TilePlan> Codec::tiles(Direction direction,
                                     const TilingOptions& options,
                                     std::int64_t rows,
                                     std::int64_t columns) const {
  const bool encoding = direction == Direction::kEncode;
  const TilePlan plan = {axis_of(options.tile_rows, options, info().spatial_ratio, encoding),
                         axis_of(options.tile_columns, options, info().spatial_ratio, encoding)};
  if (rows <= plan.rows.tile && columns <= plan.columns.tile) {
    return std::nullopt;
  }
  return plan;
}

}  // namespace kinema::vae
