// SPDX-License-Identifier: Apache-2.0
#include "pipeline/clip_codec.h"

#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"

namespace kinema::pipeline {
namespace {

using vae::Posterior;

constexpr const char* kPlace = "pipeline.clip_codec";

Tensor require_finite(Tensor tensor, const char* what) {
  if (!tensor.isfinite().all().item<bool>()) {
    throw Error(ErrorKind::kInternal,
                {.code = "vae.not_finite",
                 .place = kPlace,
                 .subject = what,
                 .expected = "finite numbers",
                 .got = "NaN or infinity",
                 .hint = "try --dtype fp32; or the weights are damaged"});
  }
  return tensor;
}

std::optional<Posterior> checked(std::optional<Posterior> posterior) {
  if (posterior.has_value()) {
    static_cast<void>(require_finite(posterior->mean_BCTHW, "latents of the encoder"));
  }
  return posterior;
}

std::optional<Tensor> checked(std::optional<Tensor> pixels) {
  if (pixels.has_value()) {
    static_cast<void>(require_finite(*pixels, "pixels of the decoder"));
  }
  return pixels;
}

std::optional<Posterior> join(std::optional<Posterior> a, std::optional<Posterior> b) {
  if (!a.has_value() || !b.has_value()) {
    return a.has_value() ? a : b;
  }
  return Posterior{at::cat({a->mean_BCTHW, b->mean_BCTHW}, 2),
                   at::cat({a->logvar_BCTHW, b->logvar_BCTHW}, 2)};
}

Tensor moments_of(const Posterior& posterior) {
  return at::cat({posterior.mean_BCTHW, posterior.logvar_BCTHW}, 1);
}

vae::TimePlan::Join join_of(const CodecRun& run) {
  if (run.mode != ClipMode::kPaper) {
    return vae::TimePlan::Join::kConcat;
  }
  return run.segments.merge == vae::SegmentOptions::Merge::kMean ? vae::TimePlan::Join::kMean
                                                                 : vae::TimePlan::Join::kDropFirst;
}

Error unsupported(std::string code, std::string subject, std::string expected, std::string hint) {
  return Error(ErrorKind::kUnsupported,
               {.code = std::move(code),
                .place = kPlace,
                .subject = std::move(subject),
                .expected = std::move(expected),
                .hint = std::move(hint)});
}

void require_length(bool known) {
  if (!known) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "vae.stream_length",
                 .place = kPlace,
                 .subject = "a model of fixed chunks",
                 .expected = "the length of the clip before its first frame",
                 .got = "none"});
  }
}

}  // namespace

const char* to_string(ClipMode mode) noexcept {
  switch (mode) {
    case ClipMode::kStream:
      return "stream";
    case ClipMode::kWhole:
      return "whole";
    case ClipMode::kPaper:
      return "dm_paper";
  }
  return "unknown";
}

OrderedJson CodecRun::to_json() const {
  OrderedJson json = {{"mode", to_string(mode)}, {"compact_state", compact_state}};
  if (mode == ClipMode::kPaper) {
    json["segment_frames"] = segments.frames;
    json["merge"] = segments.merge == vae::SegmentOptions::Merge::kMean ? "mean" : "drop_first";
  }
  if (tiling.has_value()) {
    json["tile"] = {tiling->tile_columns, tiling->tile_rows};
    if (tiling->overlap >= 0) {
      json["tile_overlap"] = tiling->overlap;
    }
  }
  return json;
}

void CodecRun::check(const vae::Autoencoder& vae) const {
  const vae::AutoencoderInfo& info = vae.info();
  if (mode == ClipMode::kStream && info.time_mode == vae::TimeMode::kWhole) {
    throw unsupported("vae.stream",
                      info.family + " autoencoder",
                      "a causal model, which can work on a clip part by part",
                      "--mode whole holds the whole clip in memory; --frames N shortens it");
  }
  if (mode == ClipMode::kPaper && info.time_mode != vae::TimeMode::kStream) {
    throw unsupported("vae.segments",
                      info.family + " autoencoder",
                      "an exactly streaming video model for the paper's segments",
                      "use --mode stream or whole");
  }
  if (mode == ClipMode::kPaper &&
      (segments.frames < 2 || vae.next_legal_frames(segments.frames) != segments.frames)) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "vae.segments",
                 .place = kPlace,
                 .subject = "frames of a segment",
                 .expected = fmt::format("1 + {} k with k >= 1", info.temporal_ratio),
                 .got = std::to_string(segments.frames)});
  }
}

bool needs_length(const vae::AutoencoderInfo& info) noexcept {
  return info.time_mode == vae::TimeMode::kFixedChunks ||
         info.time_mode == vae::TimeMode::kMicroClips;
}

void require_rgb(const vae::AutoencoderInfo& info) {
  if (info.image_channels != 3) {
    throw unsupported("vae.channels",
                      info.family + " autoencoder",
                      "pictures of 3 channels",
                      fmt::format("this one has {}", info.image_channels));
  }
}

ClipEncoder::ClipEncoder(const vae::Autoencoder& vae,
                         const CodecRun& run,
                         std::optional<std::int64_t> num_frames)
    : vae_(vae), run_(run), joiner_(join_of(run)) {
  run_.check(vae);
  if (run_.mode == ClipMode::kStream) {
    std::optional<std::int64_t> length;
    if (needs_length(vae.info())) {
      require_length(num_frames.has_value());
      length = vae.next_legal_frames(*num_frames);
    }
    stream_ = vae.encode_stream({.tiling = run_.tiling,
                                 .segments = std::nullopt,
                                 .frames_per_step = run_.frames_per_step,
                                 .compact_state = run_.compact_state,
                                 .state_memory = run_.state_memory},
                                length);
  }
}

std::optional<Posterior> ClipEncoder::push(const Tensor& pixels_BCFHW) {
  frames_ += pixels_BCFHW.size(2);
  last_BCFHW_ = pixels_BCFHW.narrow(2, pixels_BCFHW.size(2) - 1, 1);
  return checked(push_some(pixels_BCFHW));
}

std::optional<Posterior> ClipEncoder::push_some(const Tensor& pixels_BCFHW) {
  if (stream_ != nullptr) {
    return stream_->push(pixels_BCFHW);
  }
  waiting_.push_back(pixels_BCFHW);
  return run_.mode == ClipMode::kPaper ? run_segments(false) : std::nullopt;
}

std::optional<Posterior> ClipEncoder::run_segments(bool at_end) {
  Tensor frames = at::cat(waiting_, 2);
  std::optional<Posterior> done;
  const std::int64_t size = run_.segments.frames;
  // One frame of the segment before waits here, too.
  const std::int64_t least = at_end ? (segment_ == 0 ? 1 : 2) : size;
  while (frames.size(2) >= least) {
    const std::int64_t count = std::min(frames.size(2), size);
    const Posterior part = vae_.encode(frames.narrow(2, 0, count),
                                       {.tiling = run_.tiling,
                                        .segments = std::nullopt,
                                        .frames_per_step = run_.frames_per_step,
                                        .compact_state = run_.compact_state,
                                        .state_memory = run_.state_memory});
    const Tensor joined = joiner_.add(moments_of(part));
    if (joined.defined()) {
      done = join(std::move(done), Posterior::from_moments(joined));
    }
    frames = frames.narrow(2, count - 1, frames.size(2) - count + 1);
    ++segment_;
    if (at_end && frames.size(2) < 2) {
      break;
    }
  }
  waiting_ = {frames.clone()};
  return done;
}

std::optional<Posterior> ClipEncoder::finish() {
  if (frames_ == 0) {
    return std::nullopt;
  }
  padding_ = vae_.next_legal_frames(frames_) - frames_;
  std::optional<Posterior> done;
  for (std::int64_t i = 0; i < padding_; ++i) {
    done = join(std::move(done), push_some(last_BCFHW_));
  }
  if (run_.mode == ClipMode::kStream) {
    return checked(join(std::move(done), stream_->finish()));
  }
  if (run_.mode == ClipMode::kWhole) {
    const Tensor clip = at::cat(std::exchange(waiting_, {}), 2);
    return checked(vae_.encode(clip,
                               {.tiling = run_.tiling,
                                .segments = std::nullopt,
                                .frames_per_step = 0,
                                .compact_state = run_.compact_state,
                                .state_memory = run_.state_memory}));
  }
  done = join(std::move(done), run_segments(true));
  const Tensor held = joiner_.finish();
  if (held.defined()) {
    done = join(std::move(done), Posterior::from_moments(held));
  }
  return checked(done);
}

ClipDecoder::ClipDecoder(const vae::Autoencoder& vae,
                         const CodecRun& run,
                         std::optional<std::int64_t> num_latents,
                         std::optional<std::int64_t> num_frames)
    : vae_(vae), run_(run), num_frames_(num_frames) {
  run_.check(vae);
  if (run_.mode == ClipMode::kWhole) {
    return;
  }
  const bool length = needs_length(vae.info());
  if (length) {
    require_length(num_latents.has_value() && num_frames.has_value());
  }
  stream_ = vae.decode_stream({.tiling = run_.tiling,
                               .segments = std::nullopt,
                               .latents_per_step = run_.latents_per_step,
                               .compact_state = run_.compact_state,
                               .state_memory = run_.state_memory,
                               .num_frames = num_frames},
                              length ? num_latents : std::nullopt);
}

std::optional<Tensor> ClipDecoder::push(const Tensor& latents_BCTHW) {
  if (stream_ != nullptr) {
    return checked(stream_->push(latents_BCTHW));
  }
  waiting_.push_back(latents_BCTHW);
  return std::nullopt;
}

std::optional<Tensor> ClipDecoder::finish() {
  if (stream_ != nullptr) {
    return checked(stream_->finish());
  }
  if (waiting_.empty()) {
    return std::nullopt;
  }
  return checked(vae_.decode(at::cat(std::exchange(waiting_, {}), 2),
                             {.tiling = run_.tiling,
                              .segments = std::nullopt,
                              .latents_per_step = 0,
                              .compact_state = run_.compact_state,
                              .state_memory = run_.state_memory,
                              .num_frames = num_frames_}));
}

}  // namespace kinema::pipeline
