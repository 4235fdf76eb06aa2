// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_roundtrip.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "pipeline/pixels.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kPlace = "pipeline.roundtrip";
constexpr double kModelPeak = 2.0;  // pixels span [-1, 1]

/// One way through the model: pixels in; means and decoded frames out, in order.
class Lane {
 public:
  Lane(const vae::Autoencoder& vae, const RoundtripOptions& options, const CodecRun& run)
      : encoder_(vae, run, options.num_frames),
        decoder_(vae, run, latents_of(vae, options.num_frames), options.num_frames) {}

  void push(const Tensor& pixels_BCFHW) { take(encoder_.push(pixels_BCFHW)); }

  void finish() {
    take(encoder_.finish());
    keep(decoder_.finish());
  }

  [[nodiscard]] std::optional<Tensor> next_frame() { return pop(frames_); }
  [[nodiscard]] std::optional<Tensor> next_mean() { return pop(means_); }
  void keep_means() { keeps_means_ = true; }

  [[nodiscard]] const ClipEncoder& encoder() const { return encoder_; }
  [[nodiscard]] std::int64_t latent_frames() const { return latent_frames_; }
  [[nodiscard]] std::int64_t latent_values() const { return latent_values_; }

 private:
  static std::optional<std::int64_t> latents_of(const vae::Autoencoder& vae,
                                                std::optional<std::int64_t> frames) {
    return frames.has_value() ? std::optional(vae.latent_frames(vae.next_legal_frames(*frames)))
                              : std::nullopt;
  }

  static std::optional<Tensor> pop(std::deque<Tensor>& queue) {
    if (queue.empty()) {
      return std::nullopt;
    }
    Tensor front = std::move(queue.front());
    queue.pop_front();
    return front;
  }

  void take(const std::optional<vae::Posterior>& posterior) {
    if (!posterior.has_value()) {
      return;
    }
    const Tensor& mean = posterior->mode();
    latent_frames_ += mean.size(2);
    latent_values_ += mean.numel();
    if (keeps_means_) {
      for (std::int64_t t = 0; t < mean.size(2); ++t) {
        means_.push_back(mean.narrow(2, t, 1).clone());
      }
    }
    keep(decoder_.push(mean));
  }

  void keep(const std::optional<Tensor>& pixels) {
    if (!pixels.has_value()) {
      return;
    }
    for (std::int64_t f = 0; f < pixels->size(2); ++f) {
      frames_.push_back(pixels->narrow(2, f, 1));
    }
  }

  ClipEncoder encoder_;
  ClipDecoder decoder_;
  std::deque<Tensor> frames_;  ///< [1, C, 1, H, W]
  std::deque<Tensor> means_;
  std::int64_t latent_frames_ = 0;
  std::int64_t latent_values_ = 0;
  bool keeps_means_ = false;
};

/// Compares the segment rule with the exact stream while both arrive.
class SeamMeter {
 public:
  explicit SeamMeter(std::int64_t segment_frames) : stride_(segment_frames - 1) {}

  void add_means(const Tensor& paper, const Tensor& exact) {
    const Tensor difference = (paper - exact).to(at::kDouble);
    report_.max_abs_latent =
        std::max(report_.max_abs_latent, difference.abs().max().item<double>());
    sum_squares_ += difference.square().sum().item<double>();
    num_values_ += difference.numel();
  }

  void add_frames(const Tensor& paper, const Tensor& exact) {
    const double mse =
        (paper.to(at::kDouble) - exact.to(at::kDouble)).square().mean().item<double>();
    errors_.push_back(mse);
    report_.frame_psnr_db.values.push_back(psnr_db(mse, kModelPeak));
  }

  void add_exact_quality(double psnr) { report_.exact_psnr_db.values.push_back(psnr); }

  [[nodiscard]] SeamReport finish() {
    const auto frames = std::ssize(errors_);
    for (std::int64_t seam = stride_; seam < frames - 1; seam += stride_) {
      double sum = 0;
      for (std::int64_t f = seam - 1; f <= seam + 1; ++f) {
        sum += errors_[static_cast<std::size_t>(f)];
      }
      report_.seams.push_back(seam);
      report_.seam_psnr_db.push_back(psnr_db(sum / 3.0, kModelPeak));
    }
    report_.rms_latent =
        num_values_ > 0 ? std::sqrt(sum_squares_ / static_cast<double>(num_values_)) : 0.0;
    return std::move(report_);
  }

 private:
  std::int64_t stride_;
  SeamReport report_;
  std::vector<double> errors_;
  double sum_squares_ = 0;
  std::int64_t num_values_ = 0;
};

class Roundtrip {
 public:
  Roundtrip(const vae::Autoencoder& vae,
            ClipSource& source,
            const RoundtripOptions& options,
            const RoundtripSinks& sinks,
            ProgressObserver& progress)
      : vae_(vae),
        source_(source),
        sinks_(sinks),
        progress_(progress),
        lane_(vae, options, options.run) {
    if (options.against_exact) {
      CodecRun exact = options.run;
      exact.mode = ClipMode::kStream;
      exact_.emplace(vae, options, exact);
      meter_.emplace(options.run.segments.frames);
      lane_.keep_means();
      exact_->keep_means();
    }
  }

  RoundtripReport run() {
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t ratio = vae_.info().spatial_ratio;
    progress_.on_stage("roundtrip", source_.facts().expected_frames, "frame");
    while (const auto frame_HWC = source_.next()) {
      check_cancelled(progress_, kPlace);
      const Tensor pixels = pixels_from_frame(*frame_HWC, ratio);
      report_.padded_height = pixels.size(3);
      report_.padded_width = pixels.size(4);
      originals_.push_back(*frame_HWC);
      push(pixels);
      hand_on();
    }
    if (source_.facts().frames == 0) {
      throw Error(ErrorKind::kBadData,
                  {.code = "clip.empty",
                   .place = kPlace,
                   .subject = source_.facts().path,
                   .expected = "at least one frame",
                   .got = "none"});
    }
    finish();
    progress_.on_stage_end();
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  void push(const Tensor& pixels) {
    lane_.push(pixels);
    if (exact_.has_value()) {
      exact_->push(pixels);
    }
  }

  /// Everything that has arrived so far; frames beyond the last original are padding.
  void hand_on() {
    if (exact_.has_value()) {
      pair_means();
    }
    while (!originals_.empty()) {
      if (!pending_.has_value()) {
        pending_ = lane_.next_frame();
      }
      if (exact_.has_value() && !pending_exact_.has_value()) {
        pending_exact_ = exact_->next_frame();
      }
      if (!pending_.has_value() || (exact_.has_value() && !pending_exact_.has_value())) {
        return;
      }
      emit(originals_.front(), *pending_);
      originals_.pop_front();
      pending_.reset();
      pending_exact_.reset();
    }
  }

  void pair_means() {
    while (true) {
      if (!mean_.has_value()) {
        mean_ = lane_.next_mean();
      }
      if (!exact_mean_.has_value()) {
        exact_mean_ = exact_->next_mean();
      }
      if (!mean_.has_value() || !exact_mean_.has_value()) {
        return;
      }
      meter_->add_means(*mean_, *exact_mean_);
      mean_.reset();
      exact_mean_.reset();
    }
  }

  void emit(const Tensor& original_HWC, const Tensor& pixels_BCFHW) {
    const std::int64_t height = original_HWC.size(0);
    const std::int64_t width = original_HWC.size(1);
    const Tensor frame_HWC = frames_from_pixels(pixels_BCFHW, height, width)[0];
    const PictureQuality quality = compare_pictures(original_HWC, frame_HWC);
    report_.psnr_db.values.push_back(quality.psnr_db);
    report_.ssim.values.push_back(quality.ssim);
    if (exact_.has_value()) {
      meter_->add_frames(pixels_BCFHW, *pending_exact_);
      const Tensor exact_HWC = frames_from_pixels(*pending_exact_, height, width)[0];
      meter_->add_exact_quality(compare_pictures(original_HWC, exact_HWC).psnr_db);
    }
    if (sinks_.output) {
      sinks_.output(frame_HWC);
    }
    if (sinks_.compare) {
      sinks_.compare(original_HWC, frame_HWC);
    }
    progress_.on_step(++report_.frames, {{"PSNR", quality.psnr_db}});
  }

  void finish() {
    lane_.finish();
    if (exact_.has_value()) {
      exact_->finish();
    }
    hand_on();
    if (!originals_.empty()) {
      throw Error(ErrorKind::kInternal,
                  {.code = "roundtrip.frames",
                   .place = kPlace,
                   .subject = source_.facts().path,
                   .expected = std::to_string(source_.facts().frames) + " decoded frames",
                   .got = std::to_string(report_.frames)});
    }
    report_.padded_frames = lane_.encoder().padding();
    report_.latent_frames = lane_.latent_frames();
    report_.latent_values = lane_.latent_values();
    if (meter_.has_value()) {
      report_.seam = meter_->finish();
    }
  }

  const vae::Autoencoder& vae_;
  ClipSource& source_;
  const RoundtripSinks& sinks_;
  ProgressObserver& progress_;
  Lane lane_;
  std::optional<Lane> exact_;
  std::optional<SeamMeter> meter_;
  std::deque<Tensor> originals_;
  std::optional<Tensor> pending_;
  std::optional<Tensor> pending_exact_;
  std::optional<Tensor> mean_;
  std::optional<Tensor> exact_mean_;
  RoundtripReport report_;
};

}  // namespace

OrderedJson SeamReport::to_json() const {
  return {{"max_abs_latent", max_abs_latent},
          {"rms_latent", rms_latent},
          {"seams", seams},
          {"seam_psnr_db", seam_psnr_db},
          {"frame_psnr_db", frame_psnr_db.to_json()},
          {"exact_psnr_db", exact_psnr_db.to_json()}};
}

OrderedJson RoundtripReport::to_json() const {
  OrderedJson json = {{"frames", frames},
                      {"padded_frames", padded_frames},
                      {"latent_frames", latent_frames},
                      {"padded_size", {padded_width, padded_height}},
                      {"latent_values", latent_values},
                      {"seconds", seconds},
                      {"psnr_db", psnr_db.to_json()},
                      {"ssim", ssim.to_json()}};
  if (seam.has_value()) {
    json["seam"] = seam->to_json();
  }
  return json;
}

RoundtripReport roundtrip(const vae::Autoencoder& vae,
                          ClipSource& source,
                          const RoundtripOptions& options,
                          const RoundtripSinks& sinks,
                          ProgressObserver& progress) {
  const at::InferenceMode inference;
  require_rgb(vae.info());
  return Roundtrip(vae, source, options, sinks, progress).run();
}

Tensor side_by_side(const Tensor& original_HWC, const Tensor& frame_HWC) {
  Tensor both = at::cat({original_HWC, frame_HWC}, 1);
  if (both.size(0) % 2 != 0) {
    both = at::cat({both, both.narrow(0, both.size(0) - 1, 1)}, 0);
  }
  return both.contiguous();
}

}  // namespace kinema::pipeline
