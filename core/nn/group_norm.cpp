// SPDX-License-Identifier: Apache-2.0
#include "core/nn/group_norm.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/base/error.h"
#include "core/kernels/group_norm_silu.h"
#include "core/nn/conv.h"
#include "core/nn/parallel.h"

namespace kinema::nn {
namespace {

/// Positions per chunk of work: 64 runs of the kernel, large enough to be worth a thread.
constexpr std::int64_t kChunkPositions = 4096;

const float* floats(const Tensor& x) {
  return static_cast<const float*>(x.const_data_ptr());
}

/// Runs of positions that are normalised together, as they lie in memory.
struct Samples {
  std::int64_t count = 0;
  std::int64_t positions = 0;
  std::int64_t channels = 0;
  std::int64_t inner = 1;        ///< samples per clip
  std::int64_t clip_stride = 0;  ///< floats between clips; samples of a clip are dense

  [[nodiscard]] std::int64_t offset(std::int64_t sample) const {
    return sample / inner * clip_stride + sample % inner * positions * channels;
  }
  [[nodiscard]] std::int64_t chunks() const {
    return (positions + kChunkPositions - 1) / kChunkPositions;
  }
};

/// The layout of channels-last x, or of a slice in time of a channels-last tensor; nothing for
/// other layouts.
std::optional<Samples> samples_of(const Tensor& x, NormScope scope) {
  const bool is_video = x.dim() == 5;
  const std::int64_t frames = is_video ? x.size(2) : 1;
  const std::int64_t pixels = x.size(-1) * x.size(-2);
  const std::int64_t channels = x.size(1);
  const bool dense_pixels = (channels == 1 || x.stride(1) == 1) &&
                            (x.size(-1) == 1 || x.stride(-1) == channels) &&
                            (x.size(-2) == 1 || x.stride(-2) == channels * x.size(-1));
  const bool dense_frames = frames == 1 || x.stride(2) == channels * pixels;
  if (!dense_pixels || !dense_frames || x.numel() == 0) {
    return std::nullopt;
  }
  const bool per_frame = scope == NormScope::kFrame;
  return Samples{.count = x.size(0) * (per_frame ? frames : 1),
                 .positions = per_frame ? pixels : frames * pixels,
                 .channels = channels,
                 .inner = per_frame ? frames : 1,
                 .clip_stride = x.size(0) == 1 ? 0 : x.stride(0)};
}

/// Scale and shift per channel of one sample, from the sums of its chunks.
void finish_statistics(const Samples& samples,
                       std::int64_t num_groups,
                       double eps,
                       const double* sums,
                       const float* pivots,
                       const float* weight,
                       const float* bias,
                       float* scale,
                       float* shift) {
  const std::int64_t per_group = samples.channels / num_groups;
  const auto count = static_cast<double>(per_group * samples.positions);
  for (std::int64_t g = 0; g < num_groups; ++g) {
    double sum = 0.0;
    double square = 0.0;
    for (std::int64_t chunk = 0; chunk < samples.chunks(); ++chunk) {
      sum += sums[2 * chunk * num_groups + g];
      square += sums[(2 * chunk + 1) * num_groups + g];
    }
    const double mean = sum / count;
    const double variance = std::max(square / count - mean * mean, 0.0);
    const double rstd = 1.0 / std::sqrt(variance + eps);
    const double center = mean + static_cast<double>(pivots[g]);
    for (std::int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
      const double factor = rstd * static_cast<double>(weight[c]);
      scale[c] = static_cast<float>(factor);
      shift[c] = static_cast<float>(static_cast<double>(bias[c]) - center * factor);
    }
  }
}

/// One sample: sums by all threads, then the result by all threads.
void normalise_sample(
    const float* x, float* out, const Samples& samples, const GroupNormImpl& norm, bool silu) {
  const std::int64_t groups = norm.num_groups();
  const std::int64_t channels = samples.channels;
  const std::int64_t per_group = channels / groups;
  std::vector<double> sums(static_cast<std::size_t>(2 * samples.chunks() * groups));
  std::vector<float> pivots(static_cast<std::size_t>(groups));
  for (std::int64_t g = 0; g < groups; ++g) {
    pivots[static_cast<std::size_t>(g)] = x[g * per_group];
  }
  const auto chunk_size = [&](std::int64_t chunk) {
    return std::min(kChunkPositions, samples.positions - chunk * kChunkPositions);
  };
  parallel_chunks(samples.chunks(), [&](std::int64_t chunk) {
    std::vector<float> buffer(static_cast<std::size_t>(2 * channels));
    double* const to = sums.data() + 2 * chunk * groups;
    kernels::group_sums(x + chunk * kChunkPositions * channels,
                        chunk_size(chunk),
                        channels,
                        groups,
                        pivots.data(),
                        to,
                        to + groups,
                        buffer.data());
  });
  std::vector<float> scale(static_cast<std::size_t>(channels));
  std::vector<float> shift(static_cast<std::size_t>(channels));
  finish_statistics(samples,
                    groups,
                    norm.eps(),
                    sums.data(),
                    pivots.data(),
                    floats(norm.weight),
                    floats(norm.bias),
                    scale.data(),
                    shift.data());
  parallel_chunks(samples.chunks(), [&](std::int64_t chunk) {
    const std::int64_t at = chunk * kChunkPositions * channels;
    kernels::scale_shift_silu(
        out + at, x + at, chunk_size(chunk), channels, scale.data(), shift.data(), silu);
  });
}

/// All samples on the GPU that holds x.
void normalise_on_device(const float* x,
                         float* out,
                         const Samples& from,
                         const Samples& to,
                         const GroupNormImpl& norm,
                         bool silu,
                         c10::Device device) {
  const c10::DeviceGuard guard(device);
  const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  // The samples of one clip are dense.
  for (std::int64_t first = 0; first < from.count; first += from.inner) {
    const kernels::CudaStatus status = kernels::group_norm_silu_cuda(out + to.offset(first),
                                                                     x + from.offset(first),
                                                                     from.inner,
                                                                     from.positions,
                                                                     from.channels,
                                                                     norm.num_groups(),
                                                                     norm.eps(),
                                                                     floats(norm.weight),
                                                                     floats(norm.bias),
                                                                     silu,
                                                                     stream.native_handle());
    if (status.code != kernels::CudaCode::kOk) {
      throw Error(ErrorKind::kInternal,
                  {.code = "cuda.launch", .place = "nn.group_norm", .subject = status.message});
    }
  }
}

/// The own kernels, where they apply: fp32 in a layout they know.
bool normalise_fused(
    Tensor& out, const Tensor& x, const GroupNormImpl& norm, NormScope scope, bool silu) {
  const bool on_gpu = x.device().is_cuda() && kernels::cuda_built();
  const bool fits = (x.device().is_cpu() || on_gpu) && x.scalar_type() == at::kFloat &&
                    out.scalar_type() == at::kFloat && norm.weight.scalar_type() == at::kFloat &&
                    norm.weight.is_contiguous() && norm.bias.is_contiguous();
  if (!fits) {
    return false;
  }
  const auto from = samples_of(x, scope);
  const auto to = samples_of(out, scope);
  if (!from.has_value() || !to.has_value()) {
    return false;
  }
  auto* const target = static_cast<float*>(out.mutable_data_ptr());
  if (on_gpu) {
    normalise_on_device(floats(x), target, *from, *to, norm, silu, x.device());
    return true;
  }
  for (std::int64_t sample = 0; sample < from->count; ++sample) {
    normalise_sample(
        floats(x) + from->offset(sample), target + to->offset(sample), *from, norm, silu);
  }
  return true;
}

bool wants_gradient(const Tensor& x, const GroupNormImpl& norm) {
  return c10::GradMode::is_enabled() && (x.requires_grad() || norm.weight.requires_grad());
}

}  // namespace

GroupNormImpl::GroupNormImpl(std::int64_t num_groups,
                             std::int64_t num_channels,
                             double eps,
                             const ParameterOptions& options)
    : weight(register_parameter("weight", make_parameter({num_channels}, options))),
      bias(register_parameter("bias", make_parameter({num_channels}, options))),
      num_groups_(num_groups),
      eps_(eps) {}

Tensor GroupNormImpl::forward(const Tensor& x, NormScope scope) const {
  if (!wants_gradient(x, *this)) {
    const Tensor input = channels_last(x);
    Tensor out = at::empty_like(input);
    if (normalise_fused(out, input, *this, scope, /*silu=*/false)) {
      return out;
    }
  }
  return forward_reference(x, scope);
}

Tensor GroupNormImpl::forward_reference(const Tensor& x, NormScope scope) const {
  const Tensor w = weight.to(x.scalar_type());
  const Tensor b = bias.to(x.scalar_type());
  if (x.dim() == 5 && scope == NormScope::kFrame) {
    return unfold_frames(at::group_norm(fold_frames(channels_last(x)), num_groups_, w, b, eps_),
                         x.size(0));
  }
  return channels_last(at::group_norm(channels_last(x), num_groups_, w, b, eps_));
}

Tensor GroupNormImpl::forward_silu(const Tensor& x, NormScope scope) const {
  if (wants_gradient(x, *this)) {
    return at::silu(forward_reference(x, scope));
  }
  const Tensor input = channels_last(x);
  Tensor out = at::empty_like(input);
  forward_silu_out(out, input, scope);
  return out;
}

void GroupNormImpl::forward_silu_out(Tensor& out, const Tensor& x, NormScope scope) const {
  const at::NoGradGuard no_grad;
  if (!normalise_fused(out, x, *this, scope, /*silu=*/true)) {
    Tensor normed = forward_reference(x, scope);
    out.copy_(at::silu_(normed));
  }
}

Tensor GroupNormImpl::forward_silu_consume(Tensor x, NormScope scope) const {
  // Somebody else may have saved x for the backward pass.
  if (c10::GradMode::is_enabled()) {
    return forward_silu(x, scope);
  }
  forward_silu_out(x, x, scope);
  return x;
}

Tensor silu_consume(Tensor x) {
  if (c10::GradMode::is_enabled() && x.requires_grad()) {
    return at::silu(x);
  }
  return at::silu_(x);
}

Tensor add_consume(Tensor a, const Tensor& b) {
  if (c10::GradMode::is_enabled() && (a.requires_grad() || b.requires_grad())) {
    return a + b;
  }
  return a.add_(b);
}

}  // namespace kinema::nn
