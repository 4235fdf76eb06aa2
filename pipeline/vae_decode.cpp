// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_decode.h"

#include <algorithm>
#include <string>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/tensor/noise.h"
#include "pipeline/pixels.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kPlace = "pipeline.decode";

class ClipWriter {
 public:
  ClipWriter(const LatentFacts& facts,
             const std::function<void(const Tensor&)>& consumer,
             ProgressObserver& progress)
      : facts_(facts), consumer_(consumer), progress_(progress) {}

  void begin_clip() { left_ = facts_.frames; }

  void add(const std::optional<Tensor>& pixels) {
    if (!pixels.has_value()) {
      return;
    }
    const std::int64_t count = std::min(left_, pixels->size(2));
    left_ -= count;
    if (count == 0) {
      return;
    }
    const Tensor frames =
        frames_from_pixels(pixels->narrow(2, 0, count), facts_.height, facts_.width);
    for (std::int64_t f = 0; f < count; ++f) {
      check_cancelled(progress_, kPlace);
      consumer_(frames[f]);
      progress_.on_step(++done_, {});
    }
  }

 private:
  const LatentFacts& facts_;
  const std::function<void(const Tensor&)>& consumer_;
  ProgressObserver& progress_;
  std::int64_t left_ = 0;
  std::int64_t done_ = 0;
};

}  // namespace

std::int64_t frames_to_decode(const LatentFile& file, const DecodeRequest& request) {
  return file.facts().frames * (request.clip.has_value() ? 1 : file.clips());
}

void check_fit(const vae::Autoencoder& vae, const LatentFile& file, const DecodeRequest& request) {
  request.run.check(vae);
  require_rgb(vae.info());
  const vae::AutoencoderInfo& info = vae.info();
  const LatentFacts& facts = file.facts();
  const bool fits = file.channels() == info.latent_channels &&
                    file.height() * info.spatial_ratio >= facts.height &&
                    file.width() * info.spatial_ratio >= facts.width &&
                    vae.video_frames(file.latents()) >= facts.frames;
  if (!fits) {
    throw Error(ErrorKind::kBadData,
                {.code = "latents.model",
                 .place = kPlace,
                 .subject = facts.source.path,
                 .expected = fmt::format("latents of a {} autoencoder: {} channels, {} frames of "
                                         "{} x {} pixels",
                                         info.family,
                                         info.latent_channels,
                                         facts.frames,
                                         facts.width,
                                         facts.height),
                 .got = fmt::format("{} channels, {} latent frames of {} x {}",
                                    file.channels(),
                                    file.latents(),
                                    file.width(),
                                    file.height())});
  }
  if (request.clip.has_value() && (*request.clip < 0 || *request.clip >= file.clips())) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "latents.clip",
                 .place = kPlace,
                 .subject = "clip",
                 .expected = fmt::format("0 to {}", file.clips() - 1),
                 .got = std::to_string(*request.clip)});
  }
}

void decode_latents(const vae::Autoencoder& vae,
                    const LatentFile& file,
                    const DecodeRequest& request,
                    const std::function<void(const Tensor& frame_HWC)>& consumer,
                    ProgressObserver& progress) {
  const at::InferenceMode inference;
  check_fit(vae, file, request);
  const std::int64_t first = request.clip.value_or(0);
  const std::int64_t last = request.clip.has_value() ? first : file.clips() - 1;
  ClipWriter writer(file.facts(), consumer, progress);
  progress.on_stage("decode", frames_to_decode(file, request), "frame");
  for (std::int64_t clip = first; clip <= last; ++clip) {
    const std::string noise_name = "posterior/" + std::to_string(clip);
    ClipDecoder decoder(vae, request.run, file.latents(), file.facts().frames);
    writer.begin_clip();
    for (std::int64_t t = 0; t < file.latents(); ++t) {
      check_cancelled(progress, kPlace);
      const vae::Posterior posterior = file.read(clip, t, 1);
      Tensor latents_BCTHW = posterior.mode();
      if (request.sample) {
        latents_BCTHW =
            posterior.sample(tensor::normal_noise({.seed = request.seed, .name = noise_name},
                                                  {.channels = file.channels(),
                                                   .frames = 1,
                                                   .height = file.height(),
                                                   .width = file.width()},
                                                  {.first_frame = t})
                                 .unsqueeze(0));
      }
      writer.add(decoder.push(latents_BCTHW));
    }
    writer.add(decoder.finish());
  }
  progress.on_stage_end();
}

}  // namespace kinema::pipeline
