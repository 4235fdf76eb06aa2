// SPDX-License-Identifier: Apache-2.0
// Push interface of the autoencoders: frames or latents in as they arrive, finished steps out.
#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"
#include "core/tensor/torch_error.h"
#include "vae/autoencoder.h"
#include "vae/codec.h"
#include "vae/step_runner.h"

namespace kinema::vae {
namespace {

Error stream_error(ErrorKind kind, std::string code, std::string expected, std::string got) {
  return Error(kind,
               {.code = std::move(code),
                .place = "vae.stream",
                .subject = "stream",
                .expected = std::move(expected),
                .got = std::move(got)});
}

/// Cuts what arrives into legal steps and runs them.
class StepStream {
 public:
  StepStream(const Codec& codec,
             Direction direction,
             std::optional<TilingOptions> tiling,
             bool compact_state,
             StateMemory state_memory,
             std::int64_t per_step,
             std::optional<std::int64_t> total,
             std::optional<std::int64_t> num_frames)
      : rule_(direction == Direction::kEncode ? codec.encode_rule() : codec.decode_rule()),
        runner_(codec, direction, std::move(tiling), compact_state, std::move(state_memory)),
        per_step_(per_step),
        total_(total),
        num_frames_(num_frames) {
    if (rule_.whole) {
      throw stream_error(ErrorKind::kUnsupported,
                         "vae.stream",
                         "a model that can work on parts of a clip",
                         codec.info().family + ", which needs the whole clip");
    }
    if (rule_.remainder_first && !total_.has_value()) {
      throw stream_error(ErrorKind::kInvalidArgument,
                         "vae.stream_length",
                         "the length of the clip, because its remainder goes into the first chunk",
                         "none");
    }
  }

  Tensor push(const Tensor& x_BCTHW) {
    if (finished_) {
      throw stream_error(
          ErrorKind::kInvalidArgument, "vae.stream_finished", "no push after finish", "a push");
    }
    check_length(x_BCTHW.size(2));
    pending_ = pending_.defined() ? at::cat({pending_, x_BCTHW}, 2) : x_BCTHW;
    std::vector<Tensor> outputs;
    while (true) {
      const std::int64_t size = next_size();
      if (size == 0) {
        break;
      }
      outputs.push_back(run_step(size));
    }
    // A view would keep everything that was pushed alive.
    if (pending_.defined()) {
      pending_ = pending_.clone();
    }
    return join(outputs);
  }

  /// @param fill  repeat the last frame up to a full step (encoding).
  Tensor finish(bool fill) {
    finished_ = true;
    if (total_.has_value() && taken() != *total_) {
      throw stream_error(ErrorKind::kInvalidArgument,
                         "vae.stream_length",
                         fmt::format("{} frames or latents, as announced", *total_),
                         std::to_string(taken()));
    }
    if (!pending_.defined()) {
      return {};
    }
    const std::int64_t have = pending_.size(2);
    const std::int64_t full = index_ == 0 ? rule_.first : rule_.later;
    // A micro clip may be shorter; a step with a past may not.
    if (fill && have < full && !rule_.independent) {
      auto shape = pending_.sizes().vec();
      shape[2] = full - have;
      pending_ = at::cat({pending_, pending_.narrow(2, have - 1, 1).expand(shape)}, 2);
    }
    return run_step(pending_.size(2));
  }

  [[nodiscard]] std::int64_t state_bytes() const {
    return runner_.state_bytes() +
           (pending_.defined() ? static_cast<std::int64_t>(pending_.nbytes()) : 0);
  }

 private:
  [[nodiscard]] std::int64_t taken() const {
    return position_ + (pending_.defined() ? pending_.size(2) : 0);
  }

  void check_length(std::int64_t more) const {
    if (total_.has_value() && taken() + more > *total_) {
      throw stream_error(ErrorKind::kInvalidArgument,
                         "vae.stream_length",
                         fmt::format("at most {} frames or latents, as announced", *total_),
                         std::to_string(taken() + more));
    }
  }

  /// Size of the step that can run now, or 0.
  [[nodiscard]] std::int64_t next_size() const {
    const std::int64_t have = pending_.defined() ? pending_.size(2) : 0;
    if (rule_.remainder_first) {
      const std::int64_t size =
          index_ == 0 ? plan_steps(rule_, *total_).front().size() : rule_.later;
      return have >= size ? size : 0;
    }
    const std::int64_t least = index_ == 0 ? rule_.first : rule_.later;
    if (have < least) {
      return 0;
    }
    if (!rule_.any_multiple) {
      return least;
    }
    const std::int64_t wanted = per_step_ > 0 ? std::min(have, per_step_) : have;
    return least + std::max<std::int64_t>((wanted - least) / rule_.later, 0) * rule_.later;
  }

  Tensor run_step(std::int64_t size) {
    const StepContext step = {.index = index_,
                              .span = {position_, position_ + size},
                              .is_last = finished_ || (total_ == position_ + size),
                              .num_frames = num_frames_};
    const Tensor x = pending_.narrow(2, 0, size);
    const std::int64_t rest = pending_.size(2) - size;
    pending_ = rest > 0 ? pending_.narrow(2, size, rest) : Tensor();
    Tensor output = runner_.run(x, step, rule_.independent);
    position_ += size;
    index_ += 1;
    return output;
  }

  static Tensor join(const std::vector<Tensor>& outputs) {
    if (outputs.empty()) {
      return {};
    }
    return outputs.size() == 1 ? outputs.front() : at::cat(outputs, 2);
  }

  StepRule rule_;
  StepRunner runner_;
  std::int64_t per_step_;
  std::optional<std::int64_t> total_;
  std::optional<std::int64_t> num_frames_;
  Tensor pending_;
  std::int64_t position_ = 0;
  std::int64_t index_ = 0;
  bool finished_ = false;
};

class EncodeStreamImpl final : public EncodeStream {
 public:
  EncodeStreamImpl(const Autoencoder& vae,
                   const EncodeOptions& options,
                   std::optional<std::int64_t> num_frames)
      : vae_(vae),
        steps_(vae.codec(),
               Direction::kEncode,
               options.tiling,
               options.compact_state,
               options.state_memory,
               options.frames_per_step,
               num_frames,
               std::nullopt) {}

  std::optional<Posterior> push(const Tensor& frames_BCFHW) override {
    tensor::check_shape(
        frames_BCFHW,
        {tensor::kAny, vae_.info().image_channels, tensor::kAny, tensor::kAny, tensor::kAny},
        "vae.encode_stream",
        "frames_BCFHW");
    vae_.check_size(1, frames_BCFHW.size(3), frames_BCFHW.size(4));
    return tensor::with_torch_errors("vae.encode_stream", [&] {
      const at::NoGradGuard no_grad;
      return posterior_of(steps_.push(frames_BCFHW));
    });
  }

  std::optional<Posterior> finish() override {
    return tensor::with_torch_errors("vae.encode_stream", [&] {
      const at::NoGradGuard no_grad;
      // Models with free chunk sizes need full steps; the others define what a short step means.
      return posterior_of(steps_.finish(vae_.codec().info().time_mode == TimeMode::kStream));
    });
  }

  [[nodiscard]] std::int64_t state_bytes() const override { return steps_.state_bytes(); }

 private:
  static std::optional<Posterior> posterior_of(const Tensor& moments) {
    return moments.defined() ? std::optional(Posterior::from_moments(moments)) : std::nullopt;
  }

  const Autoencoder& vae_;
  StepStream steps_;
};

class DecodeStreamImpl final : public DecodeStream {
 public:
  DecodeStreamImpl(const Autoencoder& vae,
                   const DecodeOptions& options,
                   std::optional<std::int64_t> num_latents)
      : vae_(vae),
        frames_left_(options.num_frames),
        steps_(vae.codec(),
               Direction::kDecode,
               options.tiling,
               options.compact_state,
               options.state_memory,
               options.latents_per_step,
               num_latents,
               options.num_frames) {}

  std::optional<Tensor> push(const Tensor& latents_BCTHW) override {
    tensor::check_shape(
        latents_BCTHW,
        {tensor::kAny, vae_.info().latent_channels, tensor::kAny, tensor::kAny, tensor::kAny},
        "vae.decode_stream",
        "latents_BCTHW");
    return tensor::with_torch_errors("vae.decode_stream", [&] {
      const at::NoGradGuard no_grad;
      return cut(steps_.push(latents_BCTHW));
    });
  }

  std::optional<Tensor> finish() override {
    return tensor::with_torch_errors("vae.decode_stream", [&] {
      const at::NoGradGuard no_grad;
      return cut(steps_.finish(false));
    });
  }

  [[nodiscard]] std::int64_t state_bytes() const override { return steps_.state_bytes(); }

 private:
  std::optional<Tensor> cut(const Tensor& frames) {
    if (!frames.defined()) {
      return std::nullopt;
    }
    if (!frames_left_.has_value()) {
      return frames;
    }
    const std::int64_t count = std::min(*frames_left_, frames.size(2));
    *frames_left_ -= count;
    return count > 0 ? std::optional(frames.narrow(2, 0, count)) : std::nullopt;
  }

  const Autoencoder& vae_;
  std::optional<std::int64_t> frames_left_;
  StepStream steps_;
};

void refuse_segments(bool asked) {
  if (asked) {
    throw stream_error(ErrorKind::kInvalidArgument,
                       "vae.segments",
                       "no segments: the stream is exact without them",
                       "segments");
  }
}

}  // namespace

std::unique_ptr<EncodeStream> Autoencoder::encode_stream(
    const EncodeOptions& options, std::optional<std::int64_t> num_frames) const {
  refuse_segments(options.segments.has_value());
  if (num_frames.has_value() && codec_->encode_rule().remainder_first) {
    static_cast<void>(latent_frames(*num_frames));
  }
  return std::make_unique<EncodeStreamImpl>(*this, options, num_frames);
}

std::unique_ptr<DecodeStream> Autoencoder::decode_stream(
    const DecodeOptions& options, std::optional<std::int64_t> num_latents) const {
  refuse_segments(options.segments.has_value());
  return std::make_unique<DecodeStreamImpl>(*this, options, num_latents);
}

}  // namespace kinema::vae
