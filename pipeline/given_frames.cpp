// SPDX-License-Identifier: Apache-2.0
#include "pipeline/given_frames.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "pipeline/pixels.h"
#include "pipeline/sampling.h"

namespace kinema::pipeline {
namespace {

Error given_error(std::string subject, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "request.given",
                .place = "pipeline.given",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

/// Frames of the independent pieces of a model that cuts clips (17 for Open-Sora 1.2), else 0.
std::int64_t piece_of(const vae::Autoencoder& vae) {
  const std::int64_t ratio = vae.info().temporal_ratio;
  if (vae.info().time_mode != vae::TimeMode::kMicroClips || ratio == 1) {
    return 0;
  }
  constexpr std::int64_t kLongest = 1024;
  for (std::int64_t frames = ratio + 1; frames <= kLongest; frames += ratio) {
    if (vae.latent_frames(frames + 1) == vae.latent_frames(frames) + 1) {
      return frames;
    }
  }
  return 0;
}

/// The largest frame count <= frames whose latents are those of the beginning of a longer video.
std::int64_t legal_at_most(const vae::Autoencoder& vae, std::int64_t frames) {
  const std::int64_t piece = piece_of(vae);
  const std::int64_t ratio = vae.info().temporal_ratio;
  const auto fits = [&](std::int64_t count) {
    return vae.next_legal_frames(count) == count &&
           (piece == 0 || count % piece == 0 || count % piece % ratio == 1);
  };
  std::int64_t legal = frames;
  while (legal > 1 && !fits(legal)) {
    --legal;
  }
  return legal;
}

/// Whether a clip of 1 + k r frames has 1 + k latents.
bool has_leading_frame(const vae::Autoencoder& vae) {
  const std::int64_t ratio = vae.info().temporal_ratio;
  return ratio > 1 && vae.next_legal_frames(1 + ratio) == 1 + ratio &&
         vae.latent_frames(1 + ratio) == 2 && vae.latent_frames(1) == 1;
}

/// Latents of the frames of one part, as they arrive.
class Encoding {
 public:
  Encoding(const vae::Autoencoder& vae, const GivenPart& part)
      : vae_(vae), frames_(part.num_frames + (part.repeats_first_frame ? 1 : 0)) {
    if (vae.info().time_mode != vae::TimeMode::kWhole) {
      stream_ = vae.encode_stream({}, frames_);
    }
  }

  void push(const Tensor& pixels_CHW) {
    pending_.push_back(pixels_CHW.unsqueeze(1));
    if (stream_ != nullptr && pending_.size() == kFramesPerPush) {
      keep(stream_->push(take()));
    }
  }

  /// All latents [1, C, t, h, w] in model space.
  [[nodiscard]] Tensor finish() {
    if (stream_ == nullptr) {
      keep(vae_.encode(take()));
    } else {
      if (!pending_.empty()) {
        keep(stream_->push(take()));
      }
      keep(stream_->finish());
    }
    return at::cat(latents_, 2);
  }

 private:
  static constexpr std::size_t kFramesPerPush = 4;

  Tensor take() {
    const Tensor video_BCFHW = at::cat(pending_, 1).unsqueeze(0);
    pending_.clear();
    return video_BCFHW;
  }
  void keep(const std::optional<vae::Posterior>& posterior) {
    if (posterior) {
      latents_.push_back(vae_.to_model_space(posterior->mode()).to(at::kCPU, at::kFloat));
    }
  }

  const vae::Autoencoder& vae_;
  std::int64_t frames_;
  std::unique_ptr<vae::EncodeStream> stream_;
  std::vector<Tensor> pending_;  ///< [C, 1, H, W]
  std::vector<Tensor> latents_;
};

}  // namespace

GivenPart plan_begin(const vae::Autoencoder& vae, std::int64_t available, std::int64_t wanted) {
  GivenPart part;
  part.num_frames = legal_at_most(vae, wanted > 0 ? std::min(wanted, available) : available);
  part.first_frame = available - part.num_frames;
  part.num_latents = vae.latent_frames(part.num_frames);
  return part;
}

GivenPart plan_end(const vae::Autoencoder& vae,
                   std::int64_t available,
                   std::int64_t wanted,
                   std::int64_t video_latents) {
  const std::int64_t frames = wanted > 0 ? std::min(wanted, available) : available;
  GivenPart part;
  if (has_leading_frame(vae)) {
    const std::int64_t ratio = vae.info().temporal_ratio;
    part.num_latents = frames / ratio;
    part.num_frames = part.num_latents * ratio;
    part.repeats_first_frame = true;
    if (part.num_latents == 0) {
      throw given_error("the clip at the end",
                        fmt::format("{} frames or more", ratio),
                        fmt::format("{}", frames));
    }
  } else if (const std::int64_t piece = piece_of(vae); piece > 0) {
    part.num_frames = frames / piece * piece;
    if (part.num_frames == 0) {
      throw given_error("the clip at the end",
                        fmt::format("{} frames or more", piece),
                        fmt::format("{}", frames));
    }
    part.num_latents = vae.latent_frames(part.num_frames);
  } else {
    part.num_frames = legal_at_most(vae, frames);
    part.num_latents = vae.latent_frames(part.num_frames);
  }
  part.first_latent = video_latents - part.num_latents;
  return part;
}

GivenPlan plan_given(const VideoRequest& request,
                     const vae::Autoencoder& vae,
                     FrameSource& source) {
  const std::int64_t decoded = vae.next_legal_frames(request.frames);
  GivenPlan plan;
  plan.num_latents = vae.latent_frames(decoded);
  plan.begin_path = request.image.empty() ? request.video : request.image;
  if (!plan.begin_path.empty()) {
    plan.begin = plan_begin(vae, source.count(plan.begin_path), request.given_frames);
  }
  if (!request.end_video.empty()) {
    const std::int64_t piece = std::max<std::int64_t>(piece_of(vae), 1);
    const std::int64_t whole = (decoded + piece - 1) / piece * piece;
    if (whole != request.frames) {
      throw given_error(
          "--frames with --end-video",
          fmt::format("a length after which the autoencoder can end, for example {}", whole),
          std::to_string(request.frames));
    }
    plan.end =
        plan_end(vae, source.count(request.end_video), request.given_frames, plan.num_latents);
  }
  if (plan.begin.num_latents + plan.end.num_latents >= plan.num_latents) {
    throw given_error("--frames",
                      fmt::format("more than the {} frames that are given",
                                  plan.begin.num_frames + plan.end.num_frames),
                      std::to_string(request.frames));
  }
  return plan;
}

GivenFrames encode_given(const VideoRequest& request,
                         const vae::Autoencoder& vae,
                         FrameSource& source,
                         ProgressObserver& progress) {
  const auto [begin, end, begin_path, num_latents] = plan_given(request, vae, source);
  GivenFrames given{.latents_BCTHW = {},
                    .mask_BT = at::ones({1, num_latents}, at::kFloat),
                    .begin_frames = begin.num_frames,
                    .end_frames = end.num_frames};
  const std::int64_t ratio = vae.info().spatial_ratio;
  given.latents_BCTHW = at::zeros(
      {1, vae.info().latent_channels, num_latents, request.height / ratio, request.width / ratio},
      at::kFloat);
  progress.on_stage("encode given frames", begin.num_frames + end.num_frames, "frame");
  std::int64_t done = 0;
  const auto encode = [&](const GivenPart& part, const std::string& path) {
    if (part.num_frames == 0) {
      return;
    }
    Encoding encoding(vae, part);
    bool first = part.repeats_first_frame;
    const std::int64_t before = done;
    source.read(path, part.first_frame, part.num_frames, [&](const Tensor& frame_HWC) {
      check_cancelled(progress, "pipeline");
      const Tensor pixels_CHW = fit_frame(frame_HWC, request.height, request.width);
      if (first) {
        encoding.push(pixels_CHW);
        first = false;
      }
      encoding.push(pixels_CHW);
      progress.on_step(++done, {});
    });
    if (done - before != part.num_frames) {
      throw Error(ErrorKind::kBadData,
                  {.code = "request.given_short",
                   .place = "pipeline.given",
                   .subject = path,
                   .expected = fmt::format("{} frames", part.num_frames),
                   .got = std::to_string(done - before)});
    }
    const Tensor all = encoding.finish();
    const Tensor kept = all.narrow(2, all.size(2) - part.num_latents, part.num_latents);
    require_finite(kept, "latents of " + path);
    given.latents_BCTHW.narrow(2, part.first_latent, part.num_latents).copy_(kept);
    given.mask_BT.narrow(1, part.first_latent, part.num_latents).zero_();
  };
  encode(begin, begin_path);
  encode(end, request.end_video);
  progress.on_stage_end();
  return given;
}

Tensor fit_frame(const Tensor& frame_HWC, std::int64_t height, std::int64_t width) {
  return cover_size(frame_HWC, height, width).div(127.5).sub(1.0).contiguous();
}

}  // namespace kinema::pipeline
