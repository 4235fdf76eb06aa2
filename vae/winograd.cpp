// SPDX-License-Identifier: Apache-2.0
#include "vae/winograd.h"

#include <algorithm>
#include <array>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>

#include "core/base/error.h"
#include "vae/cpu_clones.h"

namespace kinema::vae {
namespace {

/// Untyped, because clang and the compiler of LibTorch mangle const_data_ptr<float>() differently.
const float* float_data(const Tensor& x) {
  return static_cast<const float*>(x.const_data_ptr());
}

constexpr std::int64_t kMinChannels = 64;
constexpr std::int64_t kMinTiles = 96;
/// Tiles per matrix product: enough rows for its kernel, few enough for the caches.
constexpr std::int64_t kTilesPerBlock = 64;
constexpr std::int64_t kSpatial = 16;  ///< products per tile in rows and columns
constexpr std::int64_t kLanes = 8;

/// Eight floats at any address.
typedef float Lane __attribute__((vector_size(32), aligned(4), may_alias));

/// Where the tiles of one convolution lie.
struct Geometry {
  std::int64_t batch, channels, out_channels, out_frames, rows, columns;

  [[nodiscard]] std::int64_t in_frames() const { return out_frames + 2; }
  [[nodiscard]] std::int64_t tile_rows() const { return (rows + 1) / 2; }
  [[nodiscard]] std::int64_t tile_columns() const { return (columns + 1) / 2; }
  [[nodiscard]] std::int64_t tile_pairs() const { return (out_frames + 1) / 2; }
  [[nodiscard]] std::int64_t rows_per_block() const {
    return std::clamp<std::int64_t>(kTilesPerBlock / tile_columns(), 1, tile_rows());
  }
  [[nodiscard]] std::int64_t blocks_per_clip() const {
    return (tile_rows() + rows_per_block() - 1) / rows_per_block();
  }
};

/// B^T d B of one 4x4 tile, for all channels. @param pixels  16 pixels, row-major.
KINEMA_VAE_CLONES void transform_tile(const float* const* pixels,
                                      float* out,
                                      std::int64_t stride,
                                      std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; c += kLanes) {
    Lane t[4][4];
    for (int j = 0; j < 4; ++j) {
      const Lane d0 = *reinterpret_cast<const Lane*>(pixels[j] + c);
      const Lane d1 = *reinterpret_cast<const Lane*>(pixels[4 + j] + c);
      const Lane d2 = *reinterpret_cast<const Lane*>(pixels[8 + j] + c);
      const Lane d3 = *reinterpret_cast<const Lane*>(pixels[12 + j] + c);
      t[0][j] = d0 - d2;
      t[1][j] = d1 + d2;
      t[2][j] = d2 - d1;
      t[3][j] = d1 - d3;
    }
    for (int i = 0; i < 4; ++i) {
      float* target = out + 4 * i * stride + c;
      *reinterpret_cast<Lane*>(target) = t[i][0] - t[i][2];
      *reinterpret_cast<Lane*>(target + stride) = t[i][1] + t[i][2];
      *reinterpret_cast<Lane*>(target + 2 * stride) = t[i][2] - t[i][1];
      *reinterpret_cast<Lane*>(target + 3 * stride) = t[i][1] - t[i][3];
    }
  }
}

/// The same transform along time, over four transformed frames of `count` floats each.
KINEMA_VAE_CLONES void transform_time(const float* s0,
                                      const float* s1,
                                      const float* s2,
                                      const float* s3,
                                      float* out,
                                      std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Lane d0 = *reinterpret_cast<const Lane*>(s0 + i);
    const Lane d1 = *reinterpret_cast<const Lane*>(s1 + i);
    const Lane d2 = *reinterpret_cast<const Lane*>(s2 + i);
    const Lane d3 = *reinterpret_cast<const Lane*>(s3 + i);
    *reinterpret_cast<Lane*>(out + i) = d0 - d2;
    *reinterpret_cast<Lane*>(out + count + i) = d1 + d2;
    *reinterpret_cast<Lane*>(out + 2 * count + i) = d2 - d1;
    *reinterpret_cast<Lane*>(out + 3 * count + i) = d1 - d3;
  }
}

/// A^T m A along time, rows and columns of one tile, plus bias. @param pixels  8 results: frame,
/// row, column; null where the tile reaches over the edge.
KINEMA_VAE_CLONES void transform_result(const float* m,
                                        std::int64_t stride,
                                        const float* bias,
                                        float* const* pixels,
                                        std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; c += kLanes) {
    Lane frame[2][16];
    for (int s = 0; s < 16; ++s) {
      const float* source = m + s * stride + c;
      const Lane m0 = *reinterpret_cast<const Lane*>(source);
      const Lane m1 = *reinterpret_cast<const Lane*>(source + 16 * stride);
      const Lane m2 = *reinterpret_cast<const Lane*>(source + 32 * stride);
      const Lane m3 = *reinterpret_cast<const Lane*>(source + 48 * stride);
      frame[0][s] = m0 + m1 + m2;
      frame[1][s] = m1 - m2 - m3;
    }
    const Lane offset = *reinterpret_cast<const Lane*>(bias + c);
    for (int f = 0; f < 2; ++f) {
      Lane row[2][4];
      for (int j = 0; j < 4; ++j) {
        const Lane a = frame[f][j];
        const Lane b = frame[f][4 + j];
        const Lane d = frame[f][8 + j];
        const Lane e = frame[f][12 + j];
        row[0][j] = a + b + d;
        row[1][j] = b - d - e;
      }
      for (int i = 0; i < 2; ++i) {
        float* const left = pixels[4 * f + 2 * i];
        float* const right = pixels[4 * f + 2 * i + 1];
        if (left != nullptr) {
          *reinterpret_cast<Lane*>(left + c) = row[i][0] + row[i][1] + row[i][2] + offset;
        }
        if (right != nullptr) {
          *reinterpret_cast<Lane*>(right + c) = row[i][1] - row[i][2] - row[i][3] + offset;
        }
      }
    }
  }
}

/// G g along time, rows and columns: [64, C, O].
Tensor transform_weight(const Tensor& weight_OIKKK) {
  const Tensor g =
      at::tensor({1.0F, 0.0F, 0.0F, 0.5F, 0.5F, 0.5F, 0.5F, -0.5F, 0.5F, 0.0F, 0.0F, 1.0F},
                 weight_OIKKK.options())
          .view({4, 3});
  const std::int64_t out = weight_OIKKK.size(0);
  const std::int64_t in = weight_OIKKK.size(1);
  const Tensor taps = weight_OIKKK.permute({2, 3, 4, 1, 0}).reshape({27, in * out});
  return at::mm(at::kron(at::kron(g, g), g), taps).view({64, in, out});
}

/// Buffers of one thread and the work on one block of tiles.
class BlockWorker {
 public:
  BlockWorker(const Geometry& geometry,
              const float* x,
              const Tensor& filters,
              const float* bias,
              float* out)
      : g_(geometry), x_(x), filters_(filters), bias_(bias), out_(out) {
    const std::int64_t tiles = g_.rows_per_block() * g_.tile_columns();
    const auto options = filters.options();
    frames_ = at::empty({4, kSpatial, tiles, g_.channels}, options);
    input_ = at::empty({4 * kSpatial * tiles * g_.channels}, options);
    products_ = at::empty({4 * kSpatial * tiles * g_.out_channels}, options);
    zeros_.assign(static_cast<std::size_t>(g_.channels), 0.0F);
  }

  void run(std::int64_t block) {
    clip_ = block / g_.blocks_per_clip();
    first_row_ = block % g_.blocks_per_clip() * g_.rows_per_block();
    num_rows_ = std::min(g_.rows_per_block(), g_.tile_rows() - first_row_);
    tiles_ = num_rows_ * g_.tile_columns();
    Tensor input = input_.narrow(0, 0, 64 * tiles_ * g_.channels).view({64, tiles_, g_.channels});
    Tensor products =
        products_.narrow(0, 0, 64 * tiles_ * g_.out_channels).view({64, tiles_, g_.out_channels});
    for (std::int64_t t = 0; t < 2; ++t) {
      transform_frame(t);
    }
    for (std::int64_t pair = 0; pair < g_.tile_pairs(); ++pair) {
      transform_frame(2 * pair + 2);
      transform_frame(2 * pair + 3);
      transform_time(frame(2 * pair),
                     frame(2 * pair + 1),
                     frame(2 * pair + 2),
                     frame(2 * pair + 3),
                     input.mutable_data_ptr<float>(),
                     kSpatial * tiles_ * g_.channels);
      at::bmm_out(products, input, filters_);
      write_pair(pair, float_data(products));
    }
  }

 private:
  [[nodiscard]] float* frame(std::int64_t t) {
    return frames_.mutable_data_ptr<float>() + t % 4 * frames_.stride(0);
  }

  void transform_frame(std::int64_t t) {
    const std::int64_t channels = g_.channels;
    if (t >= g_.in_frames()) {
      std::fill_n(frame(t), kSpatial * tiles_ * channels, 0.0F);
      return;
    }
    const float* picture = x_ + (clip_ * g_.in_frames() + t) * g_.rows * g_.columns * channels;
    std::array<const float*, 16> pixels{};
    for (std::int64_t tile = 0; tile < tiles_; ++tile) {
      const std::int64_t top = 2 * (first_row_ + tile / g_.tile_columns()) - 1;
      const std::int64_t left = 2 * (tile % g_.tile_columns()) - 1;
      for (std::int64_t i = 0; i < 16; ++i) {
        const std::int64_t row = top + i / 4;
        const std::int64_t column = left + i % 4;
        const bool inside = row >= 0 && row < g_.rows && column >= 0 && column < g_.columns;
        pixels[static_cast<std::size_t>(i)] =
            inside ? picture + (row * g_.columns + column) * channels : zeros_.data();
      }
      transform_tile(pixels.data(), frame(t) + tile * channels, tiles_ * channels, channels);
    }
  }

  void write_pair(std::int64_t pair, const float* products) {
    const std::int64_t channels = g_.out_channels;
    std::array<float*, 8> pixels{};
    for (std::int64_t tile = 0; tile < tiles_; ++tile) {
      const std::int64_t top = 2 * (first_row_ + tile / g_.tile_columns());
      const std::int64_t left = 2 * (tile % g_.tile_columns());
      for (std::int64_t i = 0; i < 8; ++i) {
        const std::int64_t t = 2 * pair + i / 4;
        const std::int64_t row = top + i / 2 % 2;
        const std::int64_t column = left + i % 2;
        const bool inside = t < g_.out_frames && row < g_.rows && column < g_.columns;
        const std::int64_t position =
            ((clip_ * g_.out_frames + t) * g_.rows + row) * g_.columns + column;
        pixels[static_cast<std::size_t>(i)] = inside ? out_ + position * channels : nullptr;
      }
      transform_result(
          products + tile * channels, tiles_ * channels, bias_, pixels.data(), channels);
    }
  }

  const Geometry& g_;
  const float* x_;
  const Tensor& filters_;
  const float* bias_;
  float* out_;
  Tensor frames_, input_, products_;
  std::vector<float> zeros_;
  std::int64_t clip_ = 0, first_row_ = 0, num_rows_ = 0, tiles_ = 0;
};

}  // namespace

bool filters_minimally(const nn::Conv3dImpl& conv, const Tensor& x_BCTHW) {
  const nn::Conv3dOptions& options = conv.options();
  const bool has_shape = options.kernel == std::array<std::int64_t, 3>{3, 3, 3} &&
                         options.stride == std::array<std::int64_t, 3>{1, 1, 1} &&
                         options.padding == std::array<std::int64_t, 3>{0, 1, 1};
  const bool has_width = options.in_channels >= kMinChannels &&
                         options.out_channels >= kMinChannels &&
                         options.in_channels % kLanes == 0 && options.out_channels % kLanes == 0;
  if (!has_shape || !has_width || !x_BCTHW.device().is_cpu() ||
      x_BCTHW.scalar_type() != at::kFloat || conv.weight.scalar_type() != at::kFloat) {
    return false;
  }
  if (at::GradMode::is_enabled() && (x_BCTHW.requires_grad() || conv.weight.requires_grad())) {
    return false;
  }
  const std::int64_t frames = x_BCTHW.size(2) - 2;
  const std::int64_t tiles = x_BCTHW.size(0) * ((frames + 1) / 2) * ((x_BCTHW.size(3) + 1) / 2) *
                             ((x_BCTHW.size(4) + 1) / 2);
  return frames >= 1 && tiles >= kMinTiles;
}

Tensor winograd_conv3d(const Tensor& x_BCTHW, const Tensor& weight_OIKKK, const Tensor& bias_O) {
  const Geometry geometry = {.batch = x_BCTHW.size(0),
                             .channels = x_BCTHW.size(1),
                             .out_channels = weight_OIKKK.size(0),
                             .out_frames = x_BCTHW.size(2) - 2,
                             .rows = x_BCTHW.size(3),
                             .columns = x_BCTHW.size(4)};
  KINEMA_DCHECK(geometry.channels % kLanes == 0 && geometry.out_channels % kLanes == 0);
  const Tensor x = nn::channels_last(x_BCTHW);
  const Tensor filters = transform_weight(weight_OIKKK.detach());
  const Tensor bias = bias_O.defined() ? bias_O.detach().contiguous()
                                       : at::zeros({geometry.out_channels}, x.options());
  Tensor y = at::empty(
      {geometry.batch, geometry.out_channels, geometry.out_frames, geometry.rows, geometry.columns},
      x.options(),
      c10::MemoryFormat::ChannelsLast3d);
  const float* const x_data = float_data(x);
  const float* const bias_data = float_data(bias);
  float* const y_data = y.mutable_data_ptr<float>();
  at::parallel_for(
      0, geometry.batch * geometry.blocks_per_clip(), 1, [&](std::int64_t begin, std::int64_t end) {
        const at::NoGradGuard no_grad;
        BlockWorker worker(geometry, x_data, filters, bias_data, y_data);
        for (std::int64_t block = begin; block < end; ++block) {
          worker.run(block);
        }
      });
  return y;
}

Tensor convolve(const nn::Conv3dImpl& conv, const Tensor& x_BCTHW) {
  return filters_minimally(conv, x_BCTHW) ? winograd_conv3d(x_BCTHW, conv.weight, conv.bias)
                                          : conv.forward(x_BCTHW);
}

}  // namespace kinema::vae
