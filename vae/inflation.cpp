// SPDX-License-Identifier: Apache-2.0
#include "vae/inflation.h"

#include <ATen/ops/zeros.h>

namespace kinema::vae {

Tensor inflate_kernel(const Tensor& weight_OIHW, std::int64_t time_kernel, Inflation rule) {
  const auto s = weight_OIHW.sizes();
  const std::array<std::int64_t, 5> shape = {s[0], s[1], time_kernel, s[2], s[3]};
  if (rule == Inflation::kAverage) {
    const Tensor tap = weight_OIHW / static_cast<double>(time_kernel);
    return tap.unsqueeze(2).expand(shape).contiguous();
  }
  Tensor weight = at::zeros(shape, weight_OIHW.options());
  const std::int64_t tap = rule == Inflation::kTail ? time_kernel - 1 : time_kernel / 2;
  weight.select(2, tap).copy_(weight_OIHW);
  return weight;
}

}  // namespace kinema::vae
