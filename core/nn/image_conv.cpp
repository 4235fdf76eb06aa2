// SPDX-License-Identifier: Apache-2.0
#include "core/nn/image_conv.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "core/kernels/winograd.h"
#include "core/nn/conv.h"
#include "core/nn/parallel.h"

namespace kinema::nn {
namespace {

/// Below this the transforms cost more than the products save.
constexpr std::int64_t kMinTiles = 12;
constexpr std::int64_t kMaxTaps = 8;

kernels::WinogradConv shape_of(const Tensor& x,
                               const Tensor& weight,
                               bool doubled,
                               std::int64_t num_past) {
  const bool is_video = weight.dim() == 5;
  const std::int64_t taps = is_video ? weight.size(2) : 1;
  const std::int64_t factor = doubled ? 2 : 1;
  return {.in_channels = weight.size(1),
          .out_channels = weight.size(0),
          .taps = taps,
          .rows = factor * x.size(-2),
          .columns = factor * x.size(-1),
          .num_frames = is_video ? num_past + x.size(2) - taps + 1 : 1,
          .doubled = doubled};
}

const float* floats(const Tensor& x) {
  return static_cast<const float*>(x.const_data_ptr());
}

/// Floats of one thread's buffer, whole cache lines.
std::int64_t padded_scratch(const kernels::WinogradConv& conv) {
  return (kernels::winograd_scratch_floats(conv) + 15) / 16 * 16;
}

/// The transformed filter, made by all threads.
Tensor transformed_filter(const kernels::WinogradConv& conv, const Tensor& weight) {
  Tensor filter = at::empty({kernels::winograd_filter_floats(conv)}, weight.options());
  const Tensor kernel = channels_last(weight);
  auto* const to = static_cast<float*>(filter.mutable_data_ptr());
  parallel_chunks(kernels::winograd_panels(conv), [&](std::int64_t panel) {
    kernels::winograd_filter(conv, floats(kernel), to, panel, panel + 1);
  });
  return filter;
}

/// Pictures of all clips in order, the past of each before its present.
std::vector<kernels::WinogradPicture> pictures_of(const Tensor& past, const Tensor& present) {
  std::vector<kernels::WinogradPicture> pictures;
  const auto append = [&pictures](const Tensor& x, std::int64_t clip) {
    const bool is_bf16 = x.scalar_type() == at::kBFloat16;
    const auto* const data = static_cast<const char*>(x.const_data_ptr());
    const std::int64_t frames = x.dim() == 5 ? x.size(2) : 1;
    const std::int64_t stride = x.dim() == 5 ? x.stride(2) : 0;
    for (std::int64_t f = 0; f < frames; ++f) {
      const std::int64_t at = clip * x.stride(0) + f * stride;
      pictures.push_back({data + at * static_cast<std::int64_t>(x.element_size()), is_bf16});
    }
  };
  for (std::int64_t clip = 0; clip < present.size(0); ++clip) {
    if (past.defined()) {
      append(past, clip);
    }
    append(present, clip);
  }
  return pictures;
}

Tensor empty_result(const Tensor& x, const Tensor& weight, const kernels::WinogradConv& conv) {
  const bool is_video = weight.dim() == 5;
  std::vector<std::int64_t> shape = {x.size(0), conv.out_channels};
  if (is_video) {
    shape.push_back(conv.num_frames);
  }
  shape.insert(shape.end(), {conv.rows, conv.columns});
  return at::empty(shape,
                   x.options(),
                   is_video ? c10::MemoryFormat::ChannelsLast3d : c10::MemoryFormat::ChannelsLast);
}

}  // namespace

bool is_filtered_minimally(const FilterSize& size) {
  return size.taps <= kMaxTaps && size.out_channels % kernels::kWinogradChannels == 0 &&
         size.in_channels % kernels::kWinogradChannels == 0 &&
         (size.rows + 3) / 4 * ((size.columns + 3) / 4) >= kMinTiles;
}

std::int64_t filter_workspace_bytes(const FilterSize& size, std::int64_t threads) {
  const kernels::WinogradConv conv = {.in_channels = size.in_channels,
                                      .out_channels = size.out_channels,
                                      .taps = size.taps,
                                      .rows = size.rows,
                                      .columns = size.columns};
  const std::int64_t scratch = threads * padded_scratch(conv);
  // The filter, and while it is made a channels-last copy of the weights.
  const std::int64_t kernel = 9 * size.taps * size.in_channels * size.out_channels;
  const std::int64_t floats = kernels::winograd_filter_floats(conv) + std::max(scratch, kernel);
  return floats * static_cast<std::int64_t>(sizeof(float));
}

bool can_filter_minimally(const Tensor& x,
                          const Tensor& weight,
                          bool doubled,
                          std::int64_t num_past) {
  if (weight.size(-1) != 3 || weight.size(-2) != 3 || !x.device().is_cpu() ||
      x.scalar_type() != at::kFloat || weight.scalar_type() != at::kFloat) {
    return false;
  }
  if (c10::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    return false;
  }
  const auto conv = shape_of(x, weight, doubled, num_past);
  return x.size(0) > 0 && conv.num_frames >= 1 &&
         is_filtered_minimally(
             {conv.in_channels, conv.out_channels, conv.taps, conv.rows, conv.columns});
}

Tensor filter_minimally(const Tensor& x,
                        const Tensor& weight,
                        const Tensor& bias,
                        const Tensor& addend,
                        bool doubled,
                        const Tensor& past) {
  const auto conv = shape_of(x, weight, doubled, past.defined() ? past.size(2) : 0);
  const Tensor input = channels_last(x);
  const auto pictures = pictures_of(past, input);
  const bool adds = addend.defined();
  Tensor y = adds ? channels_last(addend) : empty_result(x, weight, conv);
  const Tensor filter = transformed_filter(conv, weight);
  const std::int64_t clips = x.size(0);
  const std::int64_t in_frames = conv.num_frames + conv.taps - 1;
  const std::int64_t out_picture = conv.rows * conv.columns * conv.out_channels;
  std::vector<float*> out;
  for (std::int64_t f = 0; f < clips * conv.num_frames; ++f) {
    out.push_back(static_cast<float*>(y.mutable_data_ptr()) + f * out_picture);
  }
  const std::vector<const float*> addends(out.begin(), out.end());
  // One buffer per thread, reused for its blocks.
  const std::int64_t blocks = kernels::winograd_blocks(conv);
  const std::int64_t work = clips * blocks;
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), work);
  const std::int64_t scratch_floats = padded_scratch(conv);
  const Tensor scratch = at::empty({threads * scratch_floats}, x.options());
  auto* const buffers = static_cast<float*>(scratch.mutable_data_ptr());
  const float* const bias_data = bias.defined() ? floats(bias) : nullptr;
  std::atomic<std::int64_t> next{0};
  parallel_chunks(threads, [&](std::int64_t thread) {
    for (std::int64_t i = next.fetch_add(1); i < work; i = next.fetch_add(1)) {
      const std::int64_t clip = i / blocks;
      kernels::winograd_block(conv,
                              pictures.data() + clip * in_frames,
                              floats(filter),
                              bias_data,
                              adds ? addends.data() + clip * conv.num_frames : nullptr,
                              out.data() + clip * conv.num_frames,
                              i % blocks,
                              buffers + thread * scratch_floats);
    }
  });
  return y;
}

}  // namespace kinema::nn
