// SPDX-License-Identifier: Apache-2.0
#include "core/attention/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>

#include "core/tensor/shape_check.h"

namespace kinema::attention {

Tensor rotary_frequencies(std::int64_t rotary_width, double theta) {
  const Tensor exponents =
      at::arange(0, rotary_width, 2, at::kFloat) / static_cast<double>(rotary_width);
  return at::pow(theta, exponents).reciprocal();
}

RotaryTable rotary_table(const Tensor& positions_L, const Tensor& frequencies_J) {
  const Tensor angles_LJ =
      positions_L.to(at::kFloat).unsqueeze(1) * frequencies_J.to(at::kFloat).unsqueeze(0);
  return {angles_LJ.cos(), angles_LJ.sin()};
}

RotaryTable rotary_table_3d(std::int64_t frames,
                            std::int64_t rows,
                            std::int64_t columns,
                            std::int64_t head_width,
                            double theta) {
  const std::int64_t num_pairs = head_width / 2;
  const std::int64_t side = num_pairs / 3;
  const auto axis = [&](std::int64_t length, std::int64_t pairs) {
    return at::arange(length, at::kFloat).unsqueeze(1) *
           rotary_frequencies(2 * pairs, theta).unsqueeze(0);
  };
  const auto spread = [&](const Tensor& angles, int which) {
    Tensor grid = angles;
    for (int i = 0; i < 3; ++i) {
      grid = i == which ? grid : grid.unsqueeze(i);
    }
    return grid.expand({frames, rows, columns, angles.size(1)});
  };
  const Tensor angles_LJ = at::cat({spread(axis(frames, num_pairs - 2 * side), 0),
                                    spread(axis(rows, side), 1),
                                    spread(axis(columns, side), 2)},
                                   -1)
                               .reshape({frames * rows * columns, num_pairs});
  return {angles_LJ.cos(), angles_LJ.sin()};
}

Tensor apply_rotary(const Tensor& x_BLNK, const RotaryTable& table, RotaryPairs pairs) {
  tensor::check_shape(x_BLNK,
                      {tensor::kAny, table.length(), tensor::kAny, tensor::kAny},
                      "attention.rotary",
                      "x_BLNK");
  const std::int64_t width = table.width();
  const Tensor wide = x_BLNK.to(at::kFloat);
  const Tensor turned = wide.narrow(-1, 0, width);
  const Tensor cos = table.cos_LJ.unsqueeze(1);
  const Tensor sin = table.sin_LJ.unsqueeze(1);
  const bool interleaved = pairs == RotaryPairs::kInterleaved;
  const Tensor split = interleaved ? turned.unflatten(-1, {width / 2, 2})
                                   : turned.unflatten(-1, {2, width / 2}).transpose(-1, -2);
  const Tensor a = split.select(-1, 0);
  const Tensor b = split.select(-1, 1);
  const Tensor first = a * cos - b * sin;
  const Tensor second = b * cos + a * sin;
  Tensor result =
      interleaved ? at::stack({first, second}, -1).flatten(-2) : at::cat({first, second}, -1);
  if (width < x_BLNK.size(-1)) {
    result = at::cat({result, wide.narrow(-1, width, x_BLNK.size(-1) - width)}, -1);
  }
  return result.to(x_BLNK.scalar_type());
}

}  // namespace kinema::attention
