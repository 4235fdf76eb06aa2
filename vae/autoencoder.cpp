// SPDX-License-Identifier: Apache-2.0
#include "vae/autoencoder.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"
#include "core/tensor/torch_error.h"
#include "vae/codec.h"
#include "vae/step_runner.h"

namespace kinema::vae {
namespace {

/// Longest clip that the search for legal counts walks through.
constexpr std::int64_t kMaxSearch = 4096;

Error argument_error(std::string code, std::string subject, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = std::move(code),
                .place = "vae.autoencoder",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

std::int64_t legal_frames_from(const Codec& codec, std::int64_t frames) {
  for (std::int64_t n = std::max<std::int64_t>(frames, 1); n - frames < kMaxSearch; ++n) {
    if (codec.latent_frames(n).has_value()) {
      return n;
    }
  }
  throw argument_error("vae.frames", "frames", "a clip of legal length", std::to_string(frames));
}

void check_edge(const Codec& codec, std::int64_t edge, std::string_view name) {
  const std::int64_t ratio = codec.info().spatial_ratio;
  const bool is_legal = edge >= ratio && (codec.takes_odd_sizes() || edge % ratio == 0);
  if (is_legal) {
    return;
  }
  const std::int64_t below = std::max(edge / ratio, std::int64_t{1}) * ratio;
  const std::string nearest =
      edge > ratio ? fmt::format("{} or {}", below, below + ratio) : std::to_string(ratio);
  throw argument_error("vae.size",
                       fmt::format("{} of the picture", name),
                       codec.takes_odd_sizes()
                           ? fmt::format("at least {}", ratio)
                           : fmt::format("a multiple of {}, for example {}", ratio, nearest),
                       std::to_string(edge));
}

/// Per-channel constants as [1, C, 1, 1, 1].
Tensor channel_constants(const std::vector<double>& values, const Tensor& like) {
  return at::tensor(values, at::kDouble)
      .to(like.options())
      .view({1, static_cast<std::int64_t>(values.size()), 1, 1, 1});
}

Tensor repeat_last_frame(const Tensor& video_BCFHW, std::int64_t frames) {
  const std::int64_t missing = frames - video_BCFHW.size(2);
  if (missing <= 0) {
    return video_BCFHW;
  }
  auto shape = video_BCFHW.sizes().vec();
  shape[2] = missing;
  const Tensor last = video_BCFHW.narrow(2, video_BCFHW.size(2) - 1, 1);
  return at::cat({video_BCFHW, last.expand(shape)}, 2);
}

Posterior encode_clip(const Codec& codec, const Tensor& video_BCFHW, const EncodeOptions& options) {
  const std::int64_t frames = video_BCFHW.size(2);
  const TimePlan plan = plan_time(
      codec, Direction::kEncode, frames, options.tiling, options.segments, options.frames_per_step);
  StepRunner runner(
      codec, Direction::kEncode, options.tiling, options.compact_state, options.state_memory);
  TimeJoiner joiner(plan.join);
  std::vector<Tensor> moments;
  const auto keep = [&moments](Tensor part) {
    if (part.defined()) {
      moments.push_back(std::move(part));
    }
  };
  for (std::size_t k = 0; k < plan.spans.size(); ++k) {
    const Span span = plan.spans[k];
    const StepContext step = {
        .index = static_cast<std::int64_t>(k), .span = span, .is_last = k + 1 == plan.spans.size()};
    keep(joiner.add(runner.run(video_BCFHW.narrow(2, span.begin, span.size()), step, plan.fresh)));
  }
  keep(joiner.finish());
  return Posterior::from_moments(moments.size() == 1 ? moments.front() : at::cat(moments, 2));
}

void decode_clip(const Codec& codec,
                 const Tensor& latents_BCTHW,
                 const DecodeOptions& options,
                 const FrameConsumer& consumer) {
  const std::int64_t latents = latents_BCTHW.size(2);
  const TimePlan plan = plan_time(codec,
                                  Direction::kDecode,
                                  latents,
                                  options.tiling,
                                  options.segments,
                                  options.latents_per_step);
  StepRunner runner(
      codec, Direction::kDecode, options.tiling, options.compact_state, options.state_memory);
  TimeJoiner joiner(plan.join);
  std::int64_t left = options.num_frames.value_or(codec.video_frames(latents));
  const auto hand_on = [&](Tensor part) {
    if (part.defined() && left > 0) {
      const std::int64_t count = std::min(left, part.size(2));
      left -= count;
      consumer(count == part.size(2) ? part : part.narrow(2, 0, count));
    }
  };
  for (std::size_t k = 0; k < plan.spans.size() && left > 0; ++k) {
    const Span span = plan.spans[k];
    const StepContext step = {.index = static_cast<std::int64_t>(k),
                              .span = span,
                              .is_last = k + 1 == plan.spans.size(),
                              .num_frames = options.num_frames};
    hand_on(
        joiner.add(runner.run(latents_BCTHW.narrow(2, span.begin, span.size()), step, plan.fresh)));
  }
  hand_on(joiner.finish());
}

void check_decode(const Codec& codec, const Tensor& latents_BCTHW, const DecodeOptions& options) {
  tensor::check_shape(
      latents_BCTHW,
      {tensor::kAny, codec.info().latent_channels, tensor::kAny, tensor::kAny, tensor::kAny},
      "vae.decode",
      "latents_BCTHW");
  if (latents_BCTHW.numel() == 0) {
    throw argument_error("vae.size", "latents", "at least one", tensor::shape_text(latents_BCTHW));
  }
  const std::int64_t most = codec.video_frames(latents_BCTHW.size(2));
  if (options.num_frames.has_value() && (*options.num_frames < 1 || *options.num_frames > most)) {
    throw argument_error("vae.frames",
                         "num_frames",
                         fmt::format("1 to {}", most),
                         std::to_string(*options.num_frames));
  }
}

}  // namespace

const char* to_string(TimeMode mode) noexcept {
  switch (mode) {
    case TimeMode::kPerFrame:
      return "per_frame";
    case TimeMode::kStream:
      return "stream";
    case TimeMode::kFixedChunks:
      return "fixed_chunks";
    case TimeMode::kMicroClips:
      return "micro_clips";
    case TimeMode::kWhole:
      return "whole";
  }
  return "unknown";
}

Autoencoder::Autoencoder(std::unique_ptr<Codec> codec) : codec_(std::move(codec)) {}
Autoencoder::~Autoencoder() = default;

const AutoencoderInfo& Autoencoder::info() const noexcept {
  return codec_->info();
}

std::int64_t Autoencoder::latent_frames(std::int64_t frames) const {
  const auto latents = frames > 0 ? codec_->latent_frames(frames) : std::nullopt;
  if (latents.has_value()) {
    return *latents;
  }
  const std::int64_t above = legal_frames_from(*codec_, frames);
  std::int64_t below = frames;
  while (below > 0 && !codec_->latent_frames(below).has_value()) {
    --below;
  }
  throw argument_error("vae.frames",
                       "frames",
                       below > 0
                           ? fmt::format("a legal count, the nearest are {} and {}", below, above)
                           : fmt::format("a legal count, the least is {}", above),
                       std::to_string(frames));
}

std::int64_t Autoencoder::video_frames(std::int64_t latents) const {
  if (latents < 1) {
    throw argument_error("vae.frames", "latents", "at least 1", std::to_string(latents));
  }
  return codec_->video_frames(latents);
}

std::int64_t Autoencoder::next_legal_frames(std::int64_t frames) const {
  return legal_frames_from(*codec_, frames);
}

void Autoencoder::check_size(std::int64_t frames, std::int64_t rows, std::int64_t columns) const {
  static_cast<void>(latent_frames(frames));
  check_edge(*codec_, rows, "height");
  check_edge(*codec_, columns, "width");
}

Posterior Autoencoder::encode(const Tensor& video_BCFHW, const EncodeOptions& options) const {
  tensor::check_shape(
      video_BCFHW,
      {tensor::kAny, info().image_channels, tensor::kAny, tensor::kAny, tensor::kAny},
      "vae.encode",
      "video_BCFHW");
  const bool may_pad = options.pad_frames && video_BCFHW.size(2) > 0;
  const std::int64_t frames =
      may_pad ? next_legal_frames(video_BCFHW.size(2)) : video_BCFHW.size(2);
  check_size(frames, video_BCFHW.size(3), video_BCFHW.size(4));
  return tensor::with_torch_errors("vae.encode", [&] {
    const at::NoGradGuard no_grad;
    return encode_clip(*codec_, repeat_last_frame(video_BCFHW, frames), options);
  });
}

Tensor Autoencoder::decode(const Tensor& latents_BCTHW, const DecodeOptions& options) const {
  check_decode(*codec_, latents_BCTHW, options);
  const std::int64_t total =
      options.num_frames.value_or(codec_->video_frames(latents_BCTHW.size(2)));
  return tensor::with_torch_errors("vae.decode", [&] {
    const at::NoGradGuard no_grad;
    Tensor video;
    std::int64_t position = 0;
    decode_clip(*codec_, latents_BCTHW, options, [&](const Tensor& frames) {
      if (frames.size(2) == total) {
        video = frames;
        return;
      }
      if (!video.defined()) {
        auto shape = frames.sizes().vec();
        shape[2] = total;
        video = at::empty(shape, frames.options());
      }
      video.narrow(2, position, frames.size(2)).copy_(frames);
      position += frames.size(2);
    });
    return video;
  });
}

void Autoencoder::decode(const Tensor& latents_BCTHW,
                         const DecodeOptions& options,
                         const FrameConsumer& consumer) const {
  check_decode(*codec_, latents_BCTHW, options);
  tensor::with_torch_errors("vae.decode", [&] {
    const at::NoGradGuard no_grad;
    decode_clip(*codec_, latents_BCTHW, options, consumer);
  });
}

Tensor Autoencoder::to_model_space(const Tensor& latents_BCTHW) const {
  tensor::check_shape(
      latents_BCTHW,
      {tensor::kAny, info().latent_channels, tensor::kAny, tensor::kAny, tensor::kAny},
      "vae.to_model_space",
      "latents_BCTHW");
  return (latents_BCTHW - channel_constants(info().latent_shift, latents_BCTHW)) *
         channel_constants(info().latent_scale, latents_BCTHW);
}

Tensor Autoencoder::from_model_space(const Tensor& latents_BCTHW) const {
  tensor::check_shape(
      latents_BCTHW,
      {tensor::kAny, info().latent_channels, tensor::kAny, tensor::kAny, tensor::kAny},
      "vae.from_model_space",
      "latents_BCTHW");
  return latents_BCTHW / channel_constants(info().latent_scale, latents_BCTHW) +
         channel_constants(info().latent_shift, latents_BCTHW);
}

}  // namespace kinema::vae
