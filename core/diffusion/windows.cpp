// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/windows.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.windows";
constexpr std::int64_t kMaxFrames = std::int64_t{1} << 32;

Error coverage_error(std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "windows.coverage",
                .place = kPlace,
                .subject = "windows",
                .expected = std::move(expected),
                .got = std::move(got)});
}

std::vector<double> raw_weights(std::span<const Window> windows,
                                std::size_t j,
                                WindowWeights weights) {
  const Window& window = windows[j];
  switch (weights) {
    case WindowWeights::kTriangular:
      return triangular_weights(window.length);
    case WindowWeights::kRamp: {
      std::int64_t overlap = 0;
      if (j > 0) {
        overlap = std::max<std::int64_t>(overlap, windows[j - 1].end() - window.first);
      }
      if (j + 1 < windows.size()) {
        overlap = std::max<std::int64_t>(overlap, window.end() - windows[j + 1].first);
      }
      return ramp_weights(window.length, overlap, j == 0, j + 1 == windows.size());
    }
    case WindowWeights::kFlat:
      break;
  }
  return std::vector<double>(static_cast<std::size_t>(window.length), 1.0);
}

Tensor weigh(const Tensor& part, const std::vector<double>& weights, std::int64_t axis) {
  if (std::ranges::all_of(weights, [](double weight) { return weight == 1.0; })) {
    return part;
  }
  std::vector<std::int64_t> shape(static_cast<std::size_t>(part.dim()), 1);
  shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(weights.size());
  return part * at::tensor(weights, at::kDouble).view(shape).to(part.options());
}

}  // namespace

std::vector<Window> plan_windows(std::int64_t num_frames,
                                 std::int64_t window,
                                 std::int64_t stride) {
  if (num_frames < 1 || num_frames > kMaxFrames || stride < 1 || stride > window) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "windows.size",
                 .place = kPlace,
                 .subject = "windows",
                 .expected = "frames of 1 or more and 1 <= stride <= window",
                 .got = std::to_string(num_frames) + " frames, window " + std::to_string(window) +
                        ", stride " + std::to_string(stride)});
  }
  if (num_frames <= window) {
    return {{.first = 0, .length = num_frames, .index = 0}};
  }
  std::vector<Window> windows;
  for (std::int64_t first = 0;; first += stride) {
    const bool is_last = first + window >= num_frames;
    windows.push_back({.first = is_last ? num_frames - window : first,
                       .length = window,
                       .index = static_cast<std::int64_t>(windows.size())});
    if (is_last) {
      return windows;
    }
  }
}

std::vector<double> triangular_weights(std::int64_t length) {
  std::vector<double> weights;
  for (std::int64_t i = 0; i < length; ++i) {
    weights.push_back(static_cast<double>(std::min(i + 1, length - i)));
  }
  return weights;
}

std::vector<double> ramp_weights(std::int64_t length,
                                 std::int64_t overlap,
                                 bool is_first,
                                 bool is_last) {
  std::vector<double> weights;
  const auto span = static_cast<double>(overlap + 1);
  for (std::int64_t i = 0; i < length; ++i) {
    const double left = is_first ? 1.0 : static_cast<double>(i + 1) / span;
    const double right = is_last ? 1.0 : static_cast<double>(length - i) / span;
    weights.push_back(std::min({1.0, left, right}));
  }
  return weights;
}

std::vector<std::vector<double>> normalised_weights(std::span<const Window> windows,
                                                    std::int64_t num_frames,
                                                    WindowWeights weights) {
  if (windows.empty() || num_frames < 1 || num_frames > kMaxFrames) {
    throw coverage_error(
        "windows over at least one frame",
        std::to_string(windows.size()) + " windows, " + std::to_string(num_frames) + " frames");
  }
  std::vector<double> sums(static_cast<std::size_t>(num_frames), 0.0);
  std::vector<std::vector<double>> result;
  for (std::size_t j = 0; j < windows.size(); ++j) {
    const Window& window = windows[j];
    if (window.first < 0 || window.length < 1 || window.first > num_frames - window.length) {
      throw coverage_error("windows inside " + std::to_string(num_frames) + " frames",
                           std::to_string(window.first) + " + " + std::to_string(window.length));
    }
    result.push_back(raw_weights(windows, j, weights));
    for (std::size_t i = 0; i < result.back().size(); ++i) {
      sums[static_cast<std::size_t>(window.first) + i] += result.back()[i];
    }
  }
  const auto bare = std::ranges::find(sums, 0.0);
  if (bare != sums.end()) {
    throw coverage_error("every frame in a window",
                         "none at frame " + std::to_string(bare - sums.begin()));
  }
  for (std::size_t j = 0; j < windows.size(); ++j) {
    for (std::size_t i = 0; i < result[j].size(); ++i) {
      result[j][i] /= sums[static_cast<std::size_t>(windows[j].first) + i];
    }
  }
  return result;
}

Tensor merge_windows(std::span<const Tensor> parts,
                     std::span<const Window> windows,
                     WindowWeights weights,
                     std::int64_t axis) {
  if (parts.size() != windows.size() || parts.empty()) {
    throw coverage_error(std::to_string(windows.size()) + " parts", std::to_string(parts.size()));
  }
  std::int64_t num_frames = 0;
  for (const Window& window : windows) {
    num_frames = std::max(num_frames, window.end());
  }
  const auto factors = normalised_weights(windows, num_frames, weights);
  auto shape = parts[0].sizes().vec();
  shape.at(static_cast<std::size_t>(axis)) = num_frames;
  Tensor merged = at::zeros(shape, parts[0].options());
  for (std::size_t j = 0; j < parts.size(); ++j) {
    shape.at(static_cast<std::size_t>(axis)) = windows[j].length;
    if (parts[j].sizes() != at::IntArrayRef(shape)) {
      throw Error(ErrorKind::kShapeMismatch,
                  {.code = "windows.shape",
                   .place = kPlace,
                   .subject = "part " + std::to_string(j),
                   .expected = tensor::shape_text(shape),
                   .got = tensor::shape_text(parts[j])});
    }
    merged.narrow(axis, windows[j].first, windows[j].length) += weigh(parts[j], factors[j], axis);
  }
  return merged;
}

FusedPredictor::FusedPredictor(std::vector<Window> windows, WindowWeights weights)
    : windows_(std::move(windows)) {
  for (const Window& window : windows_) {
    num_frames_ = std::max(num_frames_, window.end());
  }
  weights_ = normalised_weights(windows_, num_frames_, weights);
}

Tensor FusedPredictor::predict(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               const Predict& predict) const {
  tensor::check_shape(latents_BCTHW,
                      {tensor::kAny, tensor::kAny, num_frames_, tensor::kAny, tensor::kAny},
                      kPlace,
                      "latents_BCTHW");
  Tensor merged;
  for (std::size_t j = 0; j < windows_.size(); ++j) {
    const Window& window = windows_[j];
    const Tensor times =
        timesteps.dim() == 2 ? timesteps.narrow(1, window.first, window.length) : timesteps;
    const Tensor part =
        predict(latents_BCTHW.narrow(2, window.first, window.length), times, window);
    tensor::check_shape(part,
                        {latents_BCTHW.size(0),
                         tensor::kAny,
                         window.length,
                         latents_BCTHW.size(3),
                         latents_BCTHW.size(4)},
                        kPlace,
                        "prediction of a window");
    if (!merged.defined()) {
      auto shape = part.sizes().vec();
      shape[2] = num_frames_;
      const bool narrow = part.scalar_type() != at::kDouble;
      merged = at::zeros(shape, part.options().dtype(narrow ? at::kFloat : at::kDouble));
    }
    merged.narrow(2, window.first, window.length) +=
        weigh(part.to(merged.scalar_type()), weights_[j], 2);
  }
  return merged;
}

}  // namespace kinema::diffusion
