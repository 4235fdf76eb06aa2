// SPDX-License-Identifier: Apache-2.0
#include "vae/step_runner.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/nn/conv.h"

namespace kinema::vae {
namespace {

std::int64_t segment_size(const Codec& codec, Direction direction, const SegmentOptions& segments) {
  const auto latents = codec.latent_frames(segments.frames);
  if (!latents.has_value() || segments.frames < 2 || *latents < 2) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "vae.segments",
                 .place = "vae.autoencoder",
                 .subject = "frames of a segment",
                 .expected = fmt::format("1 + {} k with k >= 1", codec.info().temporal_ratio),
                 .got = std::to_string(segments.frames)});
  }
  return direction == Direction::kEncode ? segments.frames : *latents;
}

}  // namespace

StreamState& StepRunner::state_of(std::size_t tile) {
  while (states_.size() <= tile) {
    states_.emplace_back(compact_state_, store_);
  }
  return states_[tile];
}

Tensor StepRunner::run_one(const Tensor& x_BCTHW, const StepContext& step, StreamState& state) {
  state.begin_chunk();
  const Tensor x = nn::channels_last(x_BCTHW);
  return direction_ == Direction::kEncode ? codec_.encode_step(x, state, step)
                                          : codec_.decode_step(x, state, step);
}

Tensor StepRunner::run(const Tensor& x_BCTHW, const StepContext& step, bool fresh) {
  if (fresh) {
    states_.clear();
    store_ = std::make_shared<StateStore>(state_memory_);
  }
  const auto& place = codec_.info().place;
  const Tensor x = x_BCTHW.to(place.device, place.dtype);
  const std::int64_t rows = x.size(3);
  const std::int64_t columns = x.size(4);
  std::optional<TilePlan> plan;
  if (tiling_.has_value()) {
    plan = codec_.tiles(direction_, *tiling_, rows, columns);
  }
  if (!plan.has_value()) {
    const Tensor whole = run_one(x, step, state_of(0));
    return direction_ == Direction::kDecode ? codec_.finish_pixels(whole) : whole;
  }
  const std::int64_t ratio = codec_.info().spatial_ratio;
  const bool encoding = direction_ == Direction::kEncode;
  const Tensor joined =
      run_tiles(x,
                plan->rows,
                plan->columns,
                encoding ? rows / ratio : rows * ratio,
                encoding ? columns / ratio : columns * ratio,
                tiling_->reference_blend ? TileBlend::kPairwise : TileBlend::kSeparable,
                [&](const Tensor& tile, std::int64_t number) {
                  return run_one(tile, step, state_of(static_cast<std::size_t>(number)));
                });
  return encoding ? joined : codec_.finish_pixels(joined);
}

std::int64_t StepRunner::state_bytes() const {
  std::int64_t total = 0;
  for (const StreamState& state : states_) {
    total += state.num_bytes();
  }
  return total;
}

TimePlan plan_time(const Codec& codec,
                   Direction direction,
                   std::int64_t total,
                   const std::optional<TilingOptions>& tiling,
                   const std::optional<SegmentOptions>& segments,
                   std::int64_t per_step) {
  const bool encoding = direction == Direction::kEncode;
  if (segments.has_value()) {
    const auto join = segments->merge == SegmentOptions::Merge::kMean ? TimePlan::Join::kMean
                                                                      : TimePlan::Join::kDropFirst;
    const std::int64_t size = segment_size(codec, direction, *segments);
    return {overlapping_spans(total, size, 1), true, join};
  }
  if (tiling.has_value() && tiling->reference_blend) {
    const std::int64_t window = codec.rollback_window(*tiling, encoding);
    if (window > 1) {
      return {overlapping_spans(total, window, 1), true, TimePlan::Join::kDropFirst};
    }
  }
  const StepRule rule = encoding ? codec.encode_rule() : codec.decode_rule();
  return {plan_steps(rule, total, per_step), rule.independent, TimePlan::Join::kConcat};
}

Tensor TimeJoiner::add(Tensor output_BCTHW) {
  const std::int64_t frames = output_BCTHW.size(2);
  const bool is_first = std::exchange(is_first_, false);
  if (join_ == TimePlan::Join::kConcat) {
    return output_BCTHW;
  }
  if (join_ == TimePlan::Join::kDropFirst) {
    return is_first ? output_BCTHW : output_BCTHW.narrow(2, 1, frames - 1);
  }
  if (!is_first) {
    const Tensor shared = 0.5 * (held_ + output_BCTHW.narrow(2, 0, 1));
    output_BCTHW = at::cat({shared, output_BCTHW.narrow(2, 1, frames - 1)}, 2);
  }
  held_ = output_BCTHW.narrow(2, frames - 1, 1).clone();
  return frames > 1 ? output_BCTHW.narrow(2, 0, frames - 1) : Tensor();
}

}  // namespace kinema::vae
