// SPDX-License-Identifier: Apache-2.0
#include "vae/mid_attention.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include "core/nn/linear.h"

namespace kinema::vae {
namespace {

/// Rows of scores held at once: 16 M scores, 64 MB of fp32.
constexpr std::int64_t kMaxScores = std::int64_t{1} << 24;

Tensor project(const Tensor& tokens, const Projection& projection) {
  return nn::linear(tokens, projection.weight, projection.bias);
}

}  // namespace

Tensor attend(const Tensor& query_NSK, const Tensor& key_NSK, const Tensor& value_NSK) {
  const bool wants_gradient = c10::GradMode::is_enabled() && query_NSK.requires_grad();
  if (!query_NSK.device().is_cpu() || wants_gradient) {
    return at::scaled_dot_product_attention(
               query_NSK.unsqueeze(1), key_NSK.unsqueeze(1), value_NSK.unsqueeze(1))
        .squeeze(1);
  }
  const std::int64_t tokens = key_NSK.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(query_NSK.size(2)));
  const std::int64_t rows = std::clamp<std::int64_t>(kMaxScores / tokens, 1, query_NSK.size(1));
  Tensor out = at::empty_like(query_NSK);
  for (std::int64_t n = 0; n < query_NSK.size(0); ++n) {
    const Tensor key_KS = key_NSK[n].t();
    const Tensor scaled = query_NSK[n] * scale;
    for (std::int64_t begin = 0; begin < scaled.size(0); begin += rows) {
      const std::int64_t count = std::min(rows, scaled.size(0) - begin);
      Tensor scores = at::mm(scaled.narrow(0, begin, count), key_KS);
      at::_softmax_out(scores, scores, -1, false);
      Tensor part = out[n].narrow(0, begin, count);
      at::mm_out(part, scores, value_NSK[n]);
    }
  }
  return out;
}

Tensor image_attention(const Tensor& x_NCHW, const AttentionWeights& weights) {
  const auto s = x_NCHW.sizes();
  const Tensor tokens = x_NCHW.permute({0, 2, 3, 1}).reshape({s[0], s[2] * s[3], s[1]});
  const Tensor mixed = attend(
      project(tokens, weights.query), project(tokens, weights.key), project(tokens, weights.value));
  return project(mixed, weights.output).view({s[0], s[2], s[3], s[1]}).permute({0, 3, 1, 2});
}

Tensor mixed_attention(const Tensor& x_BCTHW, const AttentionWeights& weights) {
  const auto s = x_BCTHW.sizes();
  const Tensor tokens = x_BCTHW.permute({0, 2, 3, 4, 1});
  const auto misread = [&](const Projection& projection) {
    const Tensor y_BCTHW = project(tokens, projection).permute({0, 4, 1, 2, 3}).contiguous();
    return y_BCTHW.view({s[0] * s[2], s[1], s[3] * s[4]}).transpose(1, 2);
  };
  const Tensor mixed_NSC =
      attend(misread(weights.query), misread(weights.key), misread(weights.value));
  const Tensor y_BCTHW = mixed_NSC.transpose(1, 2).contiguous().view(s);
  return project(y_BCTHW.permute({0, 2, 3, 4, 1}), weights.output).permute({0, 4, 1, 2, 3});
}

}  // namespace kinema::vae
