// SPDX-License-Identifier: Apache-2.0
#include "apps/engine/vae_common.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <tuple>

#include <fmt/format.h>

#include "apps/cli/value_checks.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/machine_memory.h"
#include "core/tensor/torch_error.h"
#include "pipeline/pixels.h"
#include "vae/codec.h"
#include "vae/memory_plan.h"

namespace kinema::engine {
namespace {

namespace fs = std::filesystem;

/// Pictures that the video decoder and encoder hold, most of them x264's look-ahead, at 1.5 bytes
/// a pixel.
constexpr std::int64_t kMediaPictures = 120;
/// FFmpeg's libraries beside LibTorch's.
constexpr std::int64_t kMediaBytes = 48 << 20;

std::string text_of(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

}  // namespace

std::string autoencoder_folder(const cli::VaeRunOptions& options) {
  const fs::path given(options.vae.empty() ? options.model : options.vae);
  const bool is_component = fs::exists(given / "config.json");
  if (!options.vae.empty() && is_component) {
    return given.string();
  }
  if (fs::exists(given / "vae" / "config.json")) {
    return (given / "vae").string();
  }
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "model.component_missing",
               .place = "vae",
               .subject = given.string(),
               .expected = options.vae.empty() ? "a model folder with vae/config.json"
                                               : "an autoencoder's folder with config.json",
               .got = fs::is_directory(given) ? "a folder without it" : "no folder",
               .hint = options.vae.empty() && is_component
                           ? "this looks like the autoencoder itself: use --vae"
                           : ""});
}

pipeline::CodecRun codec_run(const cli::VaeRunOptions& options) {
  pipeline::CodecRun run;
  run.mode = options.mode == "whole"      ? pipeline::ClipMode::kWhole
             : options.mode == "dm_paper" ? pipeline::ClipMode::kPaper
                                          : pipeline::ClipMode::kStream;
  run.segments.frames = options.segment;
  run.segments.merge = options.merge == "mean" ? vae::SegmentOptions::Merge::kMean
                                               : vae::SegmentOptions::Merge::kDropFirst;
  if (!options.tile.empty() || options.tile_overlap >= 0) {
    const auto [width, height] = options.parsed_tile();
    run.tiling = vae::TilingOptions{
        .tile_rows = height, .tile_columns = width, .overlap = options.tile_overlap};
  }
  run.compact_state = options.compact_state;
  if (options.state_memory > 0) {
    run.state_memory.max_bytes = std::llround(options.state_memory * 1e9);
  }
  return run;
}

pipeline::ClipOptions clip_options(const cli::VaeClipOptions& options) {
  pipeline::ClipOptions clip{
      .fps = options.fps, .max_frames = options.frames, .cancelled = cli::cancel_requested};
  if (!options.size.empty()) {
    std::tie(clip.width, clip.height) = cli::parse_size("--size", options.size);
  }
  return clip;
}

OrderedJson MemoryEstimate::to_json() const {
  return {{"peak_bytes", peak_bytes},
          {"weight_bytes", weight_bytes},
          {"state_bytes", state_bytes},
          {"file_bytes", file_bytes},
          {"activation_bytes", activation_bytes},
          {"available_bytes", available_bytes},
          {"flops", flops}};
}

std::string MemoryEstimate::to_text() const {
  std::string text = fmt::format("about {} (weights {}, a step {}, past frames {})",
                                 text_of(peak_bytes),
                                 text_of(weight_bytes),
                                 text_of(activation_bytes),
                                 text_of(state_bytes));
  if (file_bytes > 0) {
    text += fmt::format(", {} in a temporary file", text_of(file_bytes));
  }
  if (available_bytes > 0) {
    text += fmt::format("; {} are free", format_bytes(available_bytes));
  }
  return text;
}

VaeModel::VaeModel(const cli::VaeRunOptions& options,
                   const cli::CommonOptions& common,
                   Logger& logger)
    : options_(options),
      logger_(logger),
      place_(tensor::parse_place(common.device, common.dtype)),
      folder_(autoencoder_folder(options)) {
  const std::string path = folder_ + "/config.json";
  shape_ = tensor::with_torch_errors("vae", [&] {
    return std::make_unique<vae::Autoencoder>(
        vae::load_codec({.folder = folder_,
                         .config = read_json_file(path, {.place = "vae.config", .subject = path}),
                         .place = place_,
                         .has_weights = false},
                        null_logger()));
  });
  codec_run(options).check(*shape_);
}

MemoryEstimate VaeModel::estimate(const VaeWork& work) const {
  const pipeline::CodecRun run = codec_run(options_);
  const vae::AutoencoderInfo& info = shape_->info();
  const bool whole = run.mode == pipeline::ClipMode::kWhole;
  // A stream is in its steady state after some steps.
  const std::int64_t frames = shape_->next_legal_frames(work.frames > 0 ? work.frames : 33);
  MemoryEstimate sum;
  const auto add = [&](vae::Direction direction) {
    vae::MemoryRequest request;
    request.direction = direction;
    request.frames = frames;
    request.rows = pipeline::round_up(work.height, info.spatial_ratio);
    request.columns = pipeline::round_up(work.width, info.spatial_ratio);
    request.place = place_;
    request.tiling = run.tiling;
    if (run.mode == pipeline::ClipMode::kPaper && direction == vae::Direction::kEncode &&
        !work.twice) {
      request.segments = run.segments;
    }
    request.compact_state = run.compact_state;
    request.state_memory = run.state_memory;
    request.holds_clip = whole;
    if (whole) {
      request.per_step = 0;
    }
    const vae::MemoryPlan plan = vae::plan_memory(*shape_, request);
    const std::int64_t streams = work.twice ? 2 : 1;
    sum.weight_bytes += plan.weight_bytes;
    sum.state_bytes += streams * plan.state_bytes;
    sum.file_bytes += streams * plan.file_bytes;
    sum.activation_bytes = std::max(sum.activation_bytes, plan.activation_bytes);
    sum.peak_bytes = std::max(sum.peak_bytes, plan.process_bytes);
    // A stream holds neither all pixels nor all latents.
    sum.peak_bytes += whole ? plan.clip_bytes : 0;
    sum.flops += static_cast<double>(streams) * plan.flops;
  };
  if (work.encodes) {
    add(vae::Direction::kEncode);
  }
  if (work.decodes) {
    add(vae::Direction::kDecode);
  }
  sum.peak_bytes += sum.weight_bytes + sum.state_bytes + sum.activation_bytes + kMediaBytes +
                    kMediaPictures * work.width * work.height * 3 / 2;
  if (place_.device.is_cpu()) {
    sum.available_bytes = machine_memory().available_bytes;
  }
  return sum;
}

void VaeModel::require_memory(const MemoryEstimate& estimate, const std::string& subject) const {
  const auto peak = static_cast<std::uint64_t>(estimate.peak_bytes);
  if (options_.force || estimate.available_bytes == 0 || peak <= estimate.available_bytes) {
    return;
  }
  std::string hint = "smaller pictures with --size";
  if (options_.tile.empty()) {
    hint = "--tile 256 works in tiles, " + hint;
  }
  if (options_.mode == "whole") {
    hint = "--mode stream, " + hint;
  } else if (estimate.state_bytes > estimate.peak_bytes / 4) {
    hint += ", --state-memory 1 keeps past frames in a file";
  }
  throw Error(ErrorKind::kOutOfMemory,
              {.code = "memory.plan",
               .place = "vae",
               .subject = subject,
               .expected = "work that fits into the " + format_bytes(estimate.available_bytes) +
                           " that are free",
               .got = "about " + format_bytes(peak),
               .hint = hint + "; --force starts anyway"});
}

std::unique_ptr<vae::Autoencoder> VaeModel::load() const {
  return vae::Autoencoder::load(folder_, place_, logger_);
}

std::optional<std::int64_t> clip_length(const vae::AutoencoderInfo& info,
                                        const std::string& path,
                                        const pipeline::ClipOptions& options) {
  if (!pipeline::needs_length(info)) {
    return std::nullopt;
  }
  return pipeline::count_frames(path, options);
}

}  // namespace kinema::engine
