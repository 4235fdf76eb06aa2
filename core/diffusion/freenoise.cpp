// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/freenoise.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/kernels/noise.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.freenoise";

Error freenoise_error(std::string subject, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "freenoise.size",
                .place = kPlace,
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

void check(const FreeNoiseConfig& config) {
  if (config.stride < 1 || config.stride > config.window) {
    throw freenoise_error(
        "window",
        "1 <= stride <= window",
        "window " + std::to_string(config.window) + ", stride " + std::to_string(config.stride));
  }
}

}  // namespace

std::vector<std::vector<std::int64_t>> block_orders(std::uint64_t seed,
                                                    std::string_view stream,
                                                    std::int64_t num_blocks,
                                                    std::int64_t length) {
  const kernels::NoiseKey key =
      kernels::noise_key(seed, stream, kernels::Draw::kBits, kernels::Addressing::kFlat);
  std::vector<std::vector<std::int64_t>> orders;
  std::vector<std::uint32_t> bits(static_cast<std::size_t>(std::max<std::int64_t>(length, 0)));
  for (std::int64_t block = 0; block < num_blocks; ++block) {
    kernels::fill_bits_flat(bits.data(),
                            key,
                            static_cast<std::uint64_t>(block) * static_cast<std::uint64_t>(length),
                            bits.size());
    std::vector<std::int64_t> order(bits.size());
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size(); i > 1; --i) {
      // Fisher and Yates; the high half of the product is uniform to 2^-32.
      const auto pick = static_cast<std::size_t>((std::uint64_t{bits[i - 1]} * i) >> 32U);
      std::swap(order[i - 1], order[pick]);
    }
    orders.push_back(std::move(order));
  }
  return orders;
}

std::int64_t num_noise_blocks(std::int64_t num_frames, const FreeNoiseConfig& config) {
  check(config);
  const std::int64_t extra = std::max<std::int64_t>(num_frames - config.window, 0);
  return (extra + config.stride - 1) / config.stride;
}

Tensor extend_noise(const Tensor& noise_BCTHW,
                    std::int64_t num_frames,
                    const FreeNoiseConfig& config,
                    std::span<const std::vector<std::int64_t>> orders) {
  check(config);
  tensor::check_shape(noise_BCTHW,
                      {tensor::kAny, tensor::kAny, config.window, tensor::kAny, tensor::kAny},
                      kPlace,
                      "noise_BCTHW");
  const std::int64_t num_blocks = num_noise_blocks(num_frames, config);
  if (num_frames < 1 || static_cast<std::int64_t>(orders.size()) < num_blocks) {
    throw freenoise_error(
        "orders",
        std::to_string(num_blocks) + " blocks for " + std::to_string(num_frames) + " frames",
        std::to_string(orders.size()));
  }
  // Each new frame copies one that is already there, so indices into the first window suffice.
  std::vector<std::int64_t> source(static_cast<std::size_t>(std::min(num_frames, config.window)));
  std::iota(source.begin(), source.end(), 0);
  for (std::int64_t block = 0; block < num_blocks; ++block) {
    const auto& order = orders[static_cast<std::size_t>(block)];
    std::vector<std::int64_t> sorted = order;
    std::ranges::sort(sorted);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(sorted.size()); ++i) {
      if (sorted[static_cast<std::size_t>(i)] != i) {
        throw freenoise_error("orders", "a permutation", "block " + std::to_string(block));
      }
    }
    if (static_cast<std::int64_t>(order.size()) != config.stride) {
      throw freenoise_error(
          "orders", std::to_string(config.stride) + " frames", std::to_string(order.size()));
    }
    const std::int64_t first = block * config.stride;
    const std::int64_t length =
        std::min(config.stride, num_frames - static_cast<std::int64_t>(source.size()));
    for (std::int64_t i = 0; i < length; ++i) {
      source.push_back(
          source[static_cast<std::size_t>(first + order[static_cast<std::size_t>(i)])]);
    }
  }
  return noise_BCTHW.index_select(2, at::tensor(source, at::kLong).to(noise_BCTHW.device()));
}

Tensor windowed_attention(const Tensor& query_BNTK,
                          const Tensor& key_BNTK,
                          const Tensor& value_BNTK,
                          std::span<const Window> windows) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(query_BNTK.size(-1)));
  std::vector<Tensor> parts;
  for (const Window& window : windows) {
    const auto crop = [&](const Tensor& all) { return all.narrow(2, window.first, window.length); };
    const Tensor scores = at::matmul(crop(query_BNTK), crop(key_BNTK).transpose(-1, -2)) * scale;
    parts.push_back(at::matmul(scores.softmax(-1), crop(value_BNTK)));
  }
  return merge_windows(parts, windows, WindowWeights::kTriangular, 2);
}

}  // namespace kinema::diffusion
