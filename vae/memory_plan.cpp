// SPDX-License-Identifier: Apache-2.0
#include "vae/memory_plan.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/torch_error.h"
#include "vae/codec.h"
#include "vae/memory_ledger.h"
#include "vae/step_runner.h"
#include "vae/tiling.h"

namespace kinema::vae {
namespace {

/// Resident memory of a program that has loaded LibTorch and done nothing.
constexpr std::int64_t kProcessBytes = 150 << 20;

std::int64_t weight_bytes(const torch::nn::Module& network, Direction direction) {
  std::int64_t bytes = 0;
  for (const auto& item : network.named_parameters()) {
    const std::string& name = item.key();
    const bool decodes = name.find("decoder.") != std::string::npos ||
                         name.find("post_quant_conv.") != std::string::npos;
    if (decodes == (direction == Direction::kDecode)) {
      bytes += item.value().numel() * static_cast<std::int64_t>(item.value().element_size());
    }
  }
  return bytes;
}

/// What one step books: its input, and the tiles of it one after the other.
class StepBooker {
 public:
  StepBooker(const Codec& codec, const MemoryRequest& request)
      : codec_(codec), request_(request), decodes_(request.direction == Direction::kDecode) {
    const std::int64_t ratio = codec.info().spatial_ratio;
    rows_ = decodes_ ? request.rows / ratio : request.rows;
    columns_ = decodes_ ? request.columns / ratio : request.columns;
    if (request.tiling.has_value()) {
      plan_ = codec.tiles(request.direction, *request.tiling, rows_, columns_);
    }
  }

  void book(Ledger& ledger, std::int64_t positions, bool is_first) const {
    const AutoencoderInfo& info = codec_.info();
    const Sheet whole = {request_.batch,
                         decodes_ ? info.latent_channels : info.image_channels,
                         positions,
                         rows_,
                         columns_};
    if (!plan_.has_value()) {
      // What comes is the caller's; this is the channels-last copy.
      const Live ordered = ledger.make(whole);
      static_cast<void>(codec_.book_step(ledger, request_.direction, ordered, is_first));
      return;
    }
    const auto blend =
        request_.tiling->reference_blend ? TileBlend::kPairwise : TileBlend::kSeparable;
    Live output;
    for (const Span& rows : tile_spans(rows_, plan_->rows, blend)) {
      for (const Span& columns : tile_spans(columns_, plan_->columns, blend)) {
        Sheet part = whole;
        part.rows = rows.size();
        part.columns = columns.size();
        const Live tile = ledger.make(part);
        const Live made = codec_.book_step(ledger, request_.direction, tile, is_first);
        if (output.sheet().channels == 0) {
          output = ledger.make(output_sheet(made.sheet()));
        }
        ledger.pass(2 * made.sheet().elements() * ledger.element_bytes());  // weighted
      }
    }
  }

 private:
  [[nodiscard]] Sheet output_sheet(Sheet tile) const {
    const std::int64_t ratio = codec_.info().spatial_ratio;
    tile.rows = decodes_ ? rows_ * ratio : rows_ / ratio;
    tile.columns = decodes_ ? columns_ * ratio : columns_ / ratio;
    return tile;
  }

  const Codec& codec_;
  const MemoryRequest& request_;
  bool decodes_;
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::optional<TilePlan> plan_;
};

LedgerOptions ledger_options(const MemoryRequest& request) {
  const bool is_float = request.place.dtype == c10::kFloat;
  return {.element_bytes = static_cast<std::int64_t>(c10::elementSize(request.place.dtype)),
          .filters_minimally = is_float && request.place.device.is_cpu(),
          .compact_state = request.compact_state,
          .state_memory = request.state_memory,
          .threads = request.threads > 0 ? request.threads : at::get_num_threads()};
}

/// Steps of one size, after the first.
using StepCounts = std::map<std::int64_t, std::int64_t>;

void add_peaks(MemoryPlan& plan, const Ledger& ledger) {
  plan.state_bytes = std::max(plan.state_bytes, ledger.state_bytes());
  plan.file_bytes = std::max(plan.file_bytes, ledger.file_bytes());
  plan.activation_bytes =
      std::max(plan.activation_bytes, ledger.peak_bytes() - ledger.state_bytes());
}

void book_steps(MemoryPlan& plan,
                const StepBooker& booker,
                const MemoryRequest& request,
                const TimePlan& time) {
  StepCounts later;
  for (std::size_t k = 1; k < time.spans.size(); ++k) {
    later[time.spans[k].size()] += 1;
  }
  Ledger ledger(ledger_options(request));
  booker.book(ledger, time.spans.front().size(), /*is_first=*/true);
  for (const auto& [positions, count] : later) {
    if (time.fresh) {
      Ledger alone(ledger_options(request));
      booker.book(alone, positions, /*is_first=*/true);
      plan.flops += static_cast<double>(count) * alone.flops();
      add_peaks(plan, alone);
      continue;
    }
    ledger.next_step();
    const double before = ledger.flops();
    booker.book(ledger, positions, /*is_first=*/false);
    plan.flops += static_cast<double>(count - 1) * (ledger.flops() - before);
  }
  plan.flops += ledger.flops();
  add_peaks(plan, ledger);
}

}  // namespace

MemoryPlan plan_memory(const Autoencoder& vae, const MemoryRequest& request) {
  vae.check_size(request.frames, request.rows, request.columns);
  return tensor::with_torch_errors("vae.memory_plan", [&] {
    const Codec& codec = vae.codec();
    const AutoencoderInfo& info = vae.info();
    const bool decodes = request.direction == Direction::kDecode;
    const std::int64_t latents = vae.latent_frames(request.frames);
    const std::int64_t per_step = request.per_step.value_or(
        decodes ? DecodeOptions{}.latents_per_step : EncodeOptions{}.frames_per_step);
    const TimePlan time = plan_time(codec,
                                    request.direction,
                                    decodes ? latents : request.frames,
                                    request.tiling,
                                    request.segments,
                                    per_step);
    MemoryPlan plan;
    book_steps(plan, StepBooker(codec, request), request, time);
    const auto element = static_cast<std::int64_t>(c10::elementSize(request.place.dtype));
    const std::int64_t pixels = request.rows * request.columns;
    const std::int64_t latent_pixels = pixels / (info.spatial_ratio * info.spatial_ratio);
    plan.clip_bytes = request.batch * latents * latent_pixels * info.latent_channels * element;
    if (request.holds_clip) {
      plan.clip_bytes += request.batch * request.frames * pixels * info.image_channels * element;
    }
    plan.weight_bytes = weight_bytes(codec.network(), request.direction);
    plan.process_bytes = kProcessBytes;
    plan.peak_bytes = plan.weight_bytes + plan.state_bytes + plan.activation_bytes +
                      plan.clip_bytes + plan.process_bytes;
    return plan;
  });
}

MemoryPlan plan_memory(const Json& config, const MemoryRequest& request) {
  const CodecSource source = {
      .folder = ".", .config = config, .place = request.place, .has_weights = false};
  const Autoencoder vae(tensor::with_torch_errors(
      "vae.memory_plan", [&] { return load_codec(source, null_logger()); }));
  return plan_memory(vae, request);
}

}  // namespace kinema::vae
