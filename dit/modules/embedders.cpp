// SPDX-License-Identifier: Apache-2.0
#include "dit/modules/embedders.h"

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/silu.h>

#include "core/nn/activations.h"

namespace kinema::dit {
namespace {

constexpr std::int64_t kNumFrequencies = 128;

std::int64_t blocks_of(std::int64_t size, std::int64_t patch) {
  return (size + patch - 1) / patch;
}

/// Registers a pair of layers under "mlp.0" and "mlp.2".
class NumberedLayers final : public torch::nn::Module {
 public:
  NumberedLayers(const nn::Linear& first, const nn::Linear& second) {
    register_module("0", first);
    register_module("2", second);
  }
};

/// double [n, 2 m]: sines, then cosines, of positions_n times 10000^(-k / m).
Tensor sine_cosine(const Tensor& positions_n, std::int64_t m) {
  const Tensor exponents = at::arange(m, at::kDouble) / static_cast<double>(m);
  const Tensor angles = positions_n.unsqueeze(1) * at::pow(10000.0, exponents).reciprocal();
  return at::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace

PatchEmbedImpl::PatchEmbedImpl(std::int64_t channels,
                               std::array<std::int64_t, 3> patch,
                               std::int64_t width,
                               const nn::ParameterOptions& options)
    : proj(register_module(
          "proj",
          nn::Conv3d(
              nn::Conv3dOptions{
                  .in_channels = channels, .out_channels = width, .kernel = patch, .stride = patch},
              options))),
      patch_(patch) {}

Grid PatchEmbedImpl::grid_of(const Tensor& latents_BCTHW) const {
  return {.batch = latents_BCTHW.size(0),
          .frames = blocks_of(latents_BCTHW.size(2), patch_[0]),
          .rows = blocks_of(latents_BCTHW.size(3), patch_[1]),
          .columns = blocks_of(latents_BCTHW.size(4), patch_[2])};
}

Tensor PatchEmbedImpl::forward(const Tensor& latents_BCTHW) const {
  const Grid grid = grid_of(latents_BCTHW);
  const auto [pt, ph, pw] = patch_;
  const std::int64_t channels = latents_BCTHW.size(1);
  const std::array<std::int64_t, 6> padding = {0,
                                               grid.columns * pw - latents_BCTHW.size(4),
                                               0,
                                               grid.rows * ph - latents_BCTHW.size(3),
                                               0,
                                               grid.frames * pt - latents_BCTHW.size(2)};
  const Tensor whole = padding[1] + padding[3] + padding[5] > 0
                           ? at::constant_pad_nd(latents_BCTHW, padding)
                           : latents_BCTHW;
  // A convolution without overlap is a linear layer on patches.
  const Tensor patches =
      whole.reshape({grid.batch, channels, grid.frames, pt, grid.rows, ph, grid.columns, pw})
          .permute({0, 2, 4, 6, 1, 3, 5, 7})
          .reshape({grid.batch, grid.frames, grid.positions(), channels * pt * ph * pw});
  return nn::linear(patches, proj->weight.flatten(1), proj->bias);
}

Tensor unpatchify(const Tensor& patches_BTSE,
                  const Grid& grid,
                  std::array<std::int64_t, 3> patch,
                  c10::IntArrayRef like_BCTHW) {
  const auto [pt, ph, pw] = patch;
  const std::int64_t channels = patches_BTSE.size(-1) / (pt * ph * pw);
  return patches_BTSE
      .reshape({grid.batch, grid.frames, grid.rows, grid.columns, pt, ph, pw, channels})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({grid.batch, channels, grid.frames * pt, grid.rows * ph, grid.columns * pw})
      .narrow(2, 0, like_BCTHW[2])
      .narrow(3, 0, like_BCTHW[3])
      .narrow(4, 0, like_BCTHW[4]);
}

MlpImpl::MlpImpl(std::int64_t in,
                 std::int64_t hidden,
                 std::int64_t out,
                 const nn::ParameterOptions& options)
    : fc1(register_module("fc1", nn::Linear(in, hidden, true, options))),
      fc2(register_module("fc2", nn::Linear(hidden, out, true, options))) {}

Tensor MlpImpl::forward(const Tensor& x) const {
  return fc2->forward(nn::activate(fc1->forward(x), nn::Activation::kGeluTanh));
}

Tensor sinusoid(const Tensor& values) {
  const Tensor frequencies = (at::arange(kNumFrequencies, values.options().dtype(at::kFloat)) *
                              (-std::log(10000.0)) / static_cast<double>(kNumFrequencies))
                                 .exp();
  const Tensor angles = values.to(at::kFloat).unsqueeze(-1) * frequencies;
  return at::cat({angles.cos(), angles.sin()}, -1);
}

ScalarEmbedderImpl::ScalarEmbedderImpl(std::int64_t width, const nn::ParameterOptions& options)
    : first(2 * kNumFrequencies, width, true, options), second(width, width, true, options) {
  register_module("mlp", std::make_shared<NumberedLayers>(first, second));
}

Tensor ScalarEmbedderImpl::forward(const Tensor& values, c10::ScalarType dtype) const {
  return second->forward(at::silu(first->forward(sinusoid(values).to(dtype))));
}

ModulationProjectionImpl::ModulationProjectionImpl(std::int64_t width,
                                                   std::int64_t num_vectors,
                                                   const nn::ParameterOptions& options)
    : linear(register_module("1", nn::Linear(width, num_vectors * width, true, options))),
      num_vectors_(num_vectors) {}

Tensor ModulationProjectionImpl::forward(const Tensor& condition_RD) const {
  return linear->forward(at::silu(condition_RD))
      .reshape({condition_RD.size(0), num_vectors_, condition_RD.size(1)});
}

CaptionEmbedderImpl::CaptionEmbedderImpl(std::int64_t channels,
                                         std::int64_t width,
                                         std::int64_t null_tokens,
                                         const nn::ParameterOptions& options)
    : y_proj(register_module("y_proj", Mlp(channels, width, width, options))) {
  if (null_tokens > 0) {
    y_embedding =
        register_parameter("y_embedding", nn::make_parameter({null_tokens, channels}, options));
  }
}

Tensor position_table_2d(
    std::int64_t rows, std::int64_t columns, std::int64_t width, double base, double scale) {
  const auto axis = [&](std::int64_t count) {
    return sine_cosine(at::arange(count, at::kDouble) * (base / static_cast<double>(count) / scale),
                       width / 4);
  };
  const std::int64_t half = width / 2;
  const Tensor by_column = axis(columns).unsqueeze(0).expand({rows, columns, half});
  const Tensor by_row = axis(rows).unsqueeze(1).expand({rows, columns, half});
  return at::cat({by_column, by_row}, -1).reshape({rows * columns, width}).to(at::kFloat);
}

Tensor position_table_1d(std::int64_t length, std::int64_t width) {
  return sine_cosine(at::arange(length, at::kDouble), width / 2).to(at::kFloat);
}

}  // namespace kinema::dit
