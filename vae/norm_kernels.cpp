// SPDX-License-Identifier: Apache-2.0
#include "vae/norm_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "vae/cpu_clones.h"

namespace kinema::vae {
namespace {

/// Untyped, because clang and the compiler of LibTorch mangle const_data_ptr<float>() differently.
const float* float_data(const Tensor& x) {
  return static_cast<const float*>(x.const_data_ptr());
}

/// Positions summed in fp32 before the sums go to double.
constexpr std::int64_t kSumBlock = 64;

/// Rows of pixels of a dense channels-last video, or of a slice in time of one.
struct PixelRows {
  std::int64_t batch, frames, rows, columns, channels;
  std::int64_t batch_stride, frame_stride;

  [[nodiscard]] std::int64_t count() const { return batch * frames * rows; }
  [[nodiscard]] std::int64_t row_elements() const { return columns * channels; }
  [[nodiscard]] std::int64_t offset(std::int64_t row) const {
    const std::int64_t b = row / (frames * rows);
    const std::int64_t t = row / rows % frames;
    return b * batch_stride + t * frame_stride + row % rows * row_elements();
  }
};

/// Nothing when the memory is laid out otherwise.
std::optional<PixelRows> pixel_rows(const Tensor& x) {
  if (!x.device().is_cpu() || x.dim() != 5 || x.numel() == 0) {
    return std::nullopt;
  }
  const bool narrow_or_wide = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  const std::int64_t channels = x.size(1);
  const bool dense = (channels == 1 || x.stride(1) == 1) &&
                     (x.size(4) == 1 || x.stride(4) == channels) &&
                     (x.size(3) == 1 || x.stride(3) == x.size(4) * channels);
  if (!narrow_or_wide || !dense) {
    return std::nullopt;
  }
  return PixelRows{x.size(0), x.size(2), x.size(3), x.size(4), channels, x.stride(0), x.stride(2)};
}

KINEMA_VAE_CLONES void add_sums(const float* x,
                                const float* pivot,
                                float* sum,
                                float* square,
                                std::int64_t positions,
                                std::int64_t channels) {
  for (std::int64_t i = 0; i < positions; ++i) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const float d = x[i * channels + c] - pivot[c];
      sum[c] += d;
      square[c] += d * d;
    }
  }
}

KINEMA_VAE_CLONES void affine_pixel(
    float* out, const float* x, const float* scale, const float* shift, std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    out[c] = x[c] * scale[c] + shift[c];
  }
}

KINEMA_VAE_CLONES float sum_of_squares(const float* x, std::int64_t channels) {
  std::array<float, 8> lanes = {};
  std::int64_t c = 0;
  for (; c + 8 <= channels; c += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      const float value = x[c + static_cast<std::int64_t>(lane)];
      lanes[lane] += value * value;
    }
  }
  float sum = 0.0F;
  for (; c < channels; ++c) {
    sum += x[c] * x[c];
  }
  for (const float lane : lanes) {
    sum += lane;
  }
  return sum;
}

KINEMA_VAE_CLONES void scale_pixel(
    float* out, const float* x, const float* gamma, float factor, std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    out[c] = x[c] * factor * gamma[c];
  }
}

/// Runs `work` on fp32 rows: directly, or through a buffer that widens and narrows.
template <typename Work>
void map_rows(Tensor& out,
              const Tensor& x,
              const PixelRows& out_rows,
              const PixelRows& x_rows,
              std::optional<nn::Activation> activation,
              const Work& work) {
  const std::int64_t elements = x_rows.row_elements();
  const bool is_float = x.scalar_type() == at::kFloat;
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / elements);
  const auto bytes = x.element_size();
  auto* const out_data = static_cast<char*>(out.mutable_data_ptr());
  const auto* const x_data = static_cast<const char*>(x.const_data_ptr());
  at::parallel_for(0, x_rows.count(), grain, [&](std::int64_t begin, std::int64_t end) {
    Tensor buffer = is_float ? Tensor() : at::empty({elements}, x.options().dtype(at::kFloat));
    for (std::int64_t row = begin; row < end; ++row) {
      void* target = out_data + static_cast<std::size_t>(out_rows.offset(row)) * bytes;
      const void* source = x_data + static_cast<std::size_t>(x_rows.offset(row)) * bytes;
      Tensor target_row = at::from_blob(target, {elements}, x.options());
      if (is_float) {
        work(row, static_cast<float*>(target), static_cast<const float*>(source));
        buffer = target_row;
      } else {
        buffer.copy_(at::from_blob(const_cast<void*>(source), {elements}, x.options()));
        work(row, buffer.mutable_data_ptr<float>(), float_data(buffer));
      }
      if (activation.has_value()) {
        nn::activate_inplace(buffer, *activation);
      }
      if (!is_float) {
        target_row.copy_(buffer);
      }
    }
  });
}

/// Nearest neighbour of `size` positions among `source` ones, as torch's interpolate has it.
std::vector<std::int64_t> nearest(std::int64_t size, std::int64_t source, std::int64_t base) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
  const float ratio =
      static_cast<float>(source) / static_cast<float>(std::max<std::int64_t>(size, 1));
  for (std::int64_t i = 0; i < size; ++i) {
    const auto index = static_cast<std::int64_t>(std::floor(static_cast<float>(i) * ratio));
    indices[static_cast<std::size_t>(i)] = base + std::min(index, source - 1);
  }
  return indices;
}

std::vector<std::int64_t> nearest_frames(std::int64_t size, std::int64_t source, bool first_apart) {
  if (!first_apart) {
    return nearest(size, source, 0);
  }
  KINEMA_DCHECK(size > 1 && source > 1);
  std::vector<std::int64_t> frames = nearest(size - 1, source - 1, 1);
  frames.insert(frames.begin(), 0);
  return frames;
}

Tensor index_tensor(const std::vector<std::int64_t>& indices, const Tensor& like) {
  return at::tensor(indices, at::kLong).to(like.device());
}

/// Sums around `pivot` of the rows [begin, end) of one clip, added to sum and square (double, C).
void sum_rows(const Tensor& x,
              const PixelRows& rows,
              const float* pivot,
              std::int64_t begin,
              std::int64_t end,
              double* sum,
              double* square) {
  const auto channels = static_cast<std::size_t>(rows.channels);
  std::vector<float> block(2 * channels, 0.0F);
  Tensor buffer;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* data = nullptr;
    if (x.scalar_type() == at::kFloat) {
      data = float_data(x) + rows.offset(row);
    } else {
      const auto* source =
          static_cast<const char*>(x.const_data_ptr()) +
          static_cast<std::size_t>(rows.offset(row)) * static_cast<std::size_t>(x.element_size());
      buffer = at::from_blob(const_cast<char*>(source), {rows.row_elements()}, x.options())
                   .to(at::kFloat);
      data = float_data(buffer);
    }
    for (std::int64_t done = 0; done < rows.columns; done += kSumBlock) {
      const std::int64_t positions = std::min(kSumBlock, rows.columns - done);
      add_sums(data + done * rows.channels,
               pivot,
               block.data(),
               block.data() + channels,
               positions,
               rows.channels);
      for (std::size_t c = 0; c < channels; ++c) {
        sum[c] += static_cast<double>(block[c]);
        square[c] += static_cast<double>(block[channels + c]);
      }
      std::fill(block.begin(), block.end(), 0.0F);
    }
  }
}

/// Group moments from sums of channels around their pivots.
void finish_groups(const double* sum,
                   const double* square,
                   const float* pivot,
                   double positions,
                   std::int64_t num_groups,
                   std::int64_t per_group,
                   double eps,
                   float* mean_G,
                   float* rstd_G) {
  for (std::int64_t g = 0; g < num_groups; ++g) {
    double mean = 0.0;
    for (std::int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
      mean += static_cast<double>(pivot[c]) + sum[c] / positions;
    }
    mean /= static_cast<double>(per_group);
    double variance = 0.0;
    for (std::int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
      const double offset = sum[c] / positions;
      const double distance = static_cast<double>(pivot[c]) + offset - mean;
      variance += std::max(square[c] / positions - offset * offset, 0.0) + distance * distance;
    }
    variance /= static_cast<double>(per_group);
    mean_G[g] = static_cast<float>(mean);
    rstd_G[g] = static_cast<float>(1.0 / std::sqrt(variance + eps));
  }
}

GroupStatistics group_statistics_rows(const Tensor& x,
                                      const PixelRows& rows,
                                      std::int64_t num_groups,
                                      double eps) {
  const auto options = x.options().dtype(at::kFloat);
  GroupStatistics result = {at::empty({rows.batch, num_groups}, options),
                            at::empty({rows.batch, num_groups}, options)};
  const std::int64_t rows_per_clip = rows.frames * rows.rows;
  const auto channels = static_cast<std::size_t>(rows.channels);
  // A fixed number of parts, summed in order: the result does not depend on the thread count.
  constexpr std::int64_t kParts = 32;
  const std::int64_t part_rows = (rows_per_clip + kParts - 1) / kParts;
  for (std::int64_t b = 0; b < rows.batch; ++b) {
    const Tensor pivot =
        x.select(0, b).select(1, 0).select(1, 0).select(1, 0).to(at::kFloat).contiguous();
    const auto* pivot_data = float_data(pivot);
    std::vector<double> sums(kParts * 2 * channels, 0.0);
    at::parallel_for(0, kParts, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t part = begin; part < end; ++part) {
        double* sum = sums.data() + static_cast<std::size_t>(part) * 2 * channels;
        const std::int64_t first = b * rows_per_clip + std::min(part * part_rows, rows_per_clip);
        const std::int64_t last =
            b * rows_per_clip + std::min((part + 1) * part_rows, rows_per_clip);
        sum_rows(x, rows, pivot_data, first, last, sum, sum + channels);
      }
    });
    for (std::size_t i = 2 * channels; i < sums.size(); ++i) {
      sums[i % (2 * channels)] += sums[i];
    }
    finish_groups(sums.data(),
                  sums.data() + channels,
                  pivot_data,
                  static_cast<double>(rows_per_clip * rows.columns),
                  num_groups,
                  rows.channels / num_groups,
                  eps,
                  result.mean_BG.mutable_data_ptr<float>() + b * num_groups,
                  result.rstd_BG.mutable_data_ptr<float>() + b * num_groups);
  }
  return result;
}

}  // namespace

GroupStatistics group_statistics(const Tensor& x_BCTHW, std::int64_t num_groups, double eps) {
  const auto rows = pixel_rows(x_BCTHW);
  if (rows.has_value()) {
    return group_statistics_rows(x_BCTHW, *rows, num_groups, eps);
  }
  const Tensor grouped = x_BCTHW.to(at::kFloat).reshape({x_BCTHW.size(0), num_groups, -1});
  const auto [variance, mean] = at::var_mean(grouped, {-1}, /*correction=*/0);
  return {mean, at::rsqrt(variance + eps)};
}

Tensor affine_activate_reference(const Tensor& x_BCTHW,
                                 const Tensor& scale,
                                 const Tensor& shift,
                                 bool first_apart,
                                 std::optional<nn::Activation> activation) {
  const auto resize = [&](const Tensor& coarse) {
    return coarse
        .index_select(
            2, index_tensor(nearest_frames(x_BCTHW.size(2), coarse.size(2), first_apart), x_BCTHW))
        .index_select(3, index_tensor(nearest(x_BCTHW.size(3), coarse.size(3), 0), x_BCTHW))
        .index_select(4, index_tensor(nearest(x_BCTHW.size(4), coarse.size(4), 0), x_BCTHW));
  };
  Tensor y = x_BCTHW.to(at::kFloat) * resize(scale) + resize(shift);
  if (activation.has_value()) {
    nn::activate_inplace(y, *activation);
  }
  return y.to(x_BCTHW.scalar_type());
}

void affine_activate_out(Tensor& out,
                         const Tensor& x_BCTHW,
                         const Tensor& scale,
                         const Tensor& shift,
                         bool first_apart,
                         std::optional<nn::Activation> activation) {
  KINEMA_DCHECK(out.sizes() == x_BCTHW.sizes() && out.scalar_type() == x_BCTHW.scalar_type());
  const auto x_rows = pixel_rows(x_BCTHW);
  const auto out_rows = pixel_rows(out);
  if (!x_rows.has_value() || !out_rows.has_value()) {
    out.copy_(affine_activate_reference(x_BCTHW, scale, shift, first_apart, activation));
    return;
  }
  // [B, t, h, w, C], dense.
  const Tensor scale_cells = scale.permute({0, 2, 3, 4, 1}).contiguous();
  const Tensor shift_cells = shift.permute({0, 2, 3, 4, 1}).contiguous();
  const std::int64_t cell_frames = scale_cells.size(1);
  const std::int64_t cell_rows = scale_cells.size(2);
  const std::int64_t cell_columns = scale_cells.size(3);
  const auto frame_of = nearest_frames(x_rows->frames, cell_frames, first_apart);
  const auto row_of = nearest(x_rows->rows, cell_rows, 0);
  const auto column_of = nearest(x_rows->columns, cell_columns, 0);
  const auto* scale_data = float_data(scale_cells);
  const auto* shift_data = float_data(shift_cells);
  const std::int64_t channels = x_rows->channels;
  map_rows(out,
           x_BCTHW,
           *out_rows,
           *x_rows,
           activation,
           [&](std::int64_t row, float* target, const float* source) {
             const std::int64_t b = row / (x_rows->frames * x_rows->rows);
             const auto t = static_cast<std::size_t>(row / x_rows->rows % x_rows->frames);
             const auto h = static_cast<std::size_t>(row % x_rows->rows);
             const std::int64_t cell_row = (b * cell_frames + frame_of[t]) * cell_rows + row_of[h];
             for (std::int64_t w = 0; w < x_rows->columns; ++w) {
               const std::int64_t cell =
                   cell_row * cell_columns + column_of[static_cast<std::size_t>(w)];
               affine_pixel(target + w * channels,
                            source + w * channels,
                            scale_data + cell * channels,
                            shift_data + cell * channels,
                            channels);
             }
           });
}

void rms_norm_activate_out(Tensor& out,
                           const Tensor& x_BCTHW,
                           const Tensor& gamma_C,
                           std::optional<nn::Activation> activation) {
  const Tensor gamma = gamma_C.to(at::kFloat).contiguous();
  const std::int64_t channels = x_BCTHW.size(1);
  const float root = std::sqrt(static_cast<float>(channels));
  const auto x_rows = pixel_rows(x_BCTHW);
  const auto out_rows = pixel_rows(out);
  if (!x_rows.has_value() || !out_rows.has_value()) {
    const Tensor wide = x_BCTHW.to(at::kFloat);
    const Tensor length = at::linalg_vector_norm(wide, 2, {1}, /*keepdim=*/true).clamp_min(1e-12);
    Tensor y = wide / length * root * gamma.view({1, channels, 1, 1, 1});
    if (activation.has_value()) {
      nn::activate_inplace(y, *activation);
    }
    out.copy_(y);
    return;
  }
  const auto* gamma_data = float_data(gamma);
  map_rows(out,
           x_BCTHW,
           *out_rows,
           *x_rows,
           activation,
           [&](std::int64_t /*row*/, float* target, const float* source) {
             for (std::int64_t w = 0; w < x_rows->columns; ++w) {
               const float* pixel = source + w * channels;
               const float length = std::max(std::sqrt(sum_of_squares(pixel, channels)), 1e-12F);
               scale_pixel(target + w * channels, pixel, gamma_data, root / length, channels);
             }
           });
}

}  // namespace kinema::vae
