// SPDX-License-Identifier: Apache-2.0
#include "core/attention/attend.h"

#include <cmath>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::attention {
namespace {

double scale_of(const Tensor& query_BLNK, const AttendOptions& options) {
  return options.scale.value_or(1.0 / std::sqrt(static_cast<double>(query_BLNK.size(-1))));
}

bool wants_gradient(const Tensor& query, const DenseSegment& segment) {
  return at::GradMode::is_enabled() && (query.requires_grad() || segment.key_BMNK.requires_grad() ||
                                        segment.value_BMNK.requires_grad());
}

/// [B, M] -> additive mask [B, 1, 1, M].
Tensor logit_bias(const Tensor& log_weight_BM) {
  return log_weight_BM.unsqueeze(1).unsqueeze(1);
}

/// Rows whose keys are all hidden have no softmax; they give zeros.
PartialAttention plain(const Tensor& query_BLNK, const DenseSegment& segment, double scale) {
  const Tensor query_BNLK = query_BLNK.transpose(1, 2);
  const Tensor key_BNKM = segment.key_BMNK.permute({0, 2, 3, 1});
  const Tensor value_BNMK = segment.value_BMNK.transpose(1, 2);
  Tensor logits_BNLM = at::matmul(query_BNLK, key_BNKM).to(at::kFloat) * scale;
  if (segment.log_weight_BM.defined()) {
    logits_BNLM = logits_BNLM + logit_bias(segment.log_weight_BM);
  }
  const Tensor lse_BNL = at::logsumexp(logits_BNLM, {-1});
  Tensor weights_BNLM = at::softmax(logits_BNLM, -1);
  if (segment.log_weight_BM.defined()) {
    const Tensor sees_any = lse_BNL.unsqueeze(-1).isneginf().logical_not();
    weights_BNLM = at::where(sees_any, weights_BNLM, at::zeros({}, weights_BNLM.options()));
  }
  const Tensor output_BNLK = at::matmul(weights_BNLM.to(query_BLNK.scalar_type()), value_BNMK);
  return {output_BNLK.transpose(1, 2), lse_BNL.detach().transpose(1, 2)};
}

Tensor fused(const Tensor& query_BLNK, const DenseSegment& segment, double scale) {
  std::optional<Tensor> bias;
  if (segment.log_weight_BM.defined()) {
    bias = logit_bias(segment.log_weight_BM).to(query_BLNK.scalar_type());
  }
  return at::scaled_dot_product_attention(query_BLNK.transpose(1, 2),
                                          segment.key_BMNK.transpose(1, 2),
                                          segment.value_BMNK.transpose(1, 2),
                                          bias,
                                          /*dropout_p=*/0.0,
                                          /*is_causal=*/false,
                                          scale)
      .transpose(1, 2);
}

/// All segments as one, for the differentiable path.
DenseSegment concatenated(const KvStore& store) {
  std::vector<Tensor> keys;
  std::vector<Tensor> values;
  std::vector<Tensor> weights;
  bool weighted = false;
  for (const DenseSegment& segment : store.segments()) {
    keys.push_back(segment.key_BMNK);
    values.push_back(segment.value_BMNK);
    weighted = weighted || segment.log_weight_BM.defined();
  }
  DenseSegment all = {at::cat(keys, 1), at::cat(values, 1)};
  if (weighted) {
    for (const DenseSegment& segment : store.segments()) {
      weights.push_back(segment.log_weight_BM.defined()
                            ? segment.log_weight_BM
                            : at::zeros({segment.key_BMNK.size(0), segment.key_BMNK.size(1)},
                                        segment.key_BMNK.options().dtype(at::kFloat)));
    }
    all.log_weight_BM = at::cat(weights, 1);
  }
  return all;
}

Tensor attend_segment(const Tensor& query_BLNK,
                      const DenseSegment& segment,
                      const AttendOptions& options) {
  const double scale = scale_of(query_BLNK, options);
  return options.arithmetic == Arithmetic::kPlain ? plain(query_BLNK, segment, scale).output_BLNK
                                                  : fused(query_BLNK, segment, scale);
}

}  // namespace

Tensor attend(const Tensor& query_BLNK, const KvStore& store, const AttendOptions& options) {
  if (store.empty()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "attention.empty",
                 .place = "attention.attend",
                 .subject = "key-value store",
                 .expected = "at least one segment",
                 .got = "none"});
  }
  tensor::check_shape(query_BLNK,
                      {store.batch(), tensor::kAny, store.num_heads(), store.head_width()},
                      "attention.attend",
                      "query_BLNK");
  const auto& segments = store.segments();
  if (segments.size() == 1) {
    return attend_segment(query_BLNK, segments.front(), options);
  }
  bool gradient = false;
  for (const DenseSegment& segment : segments) {
    gradient = gradient || wants_gradient(query_BLNK, segment);
  }
  if (gradient) {
    return attend_segment(query_BLNK, concatenated(store), options);
  }
  PartialAttention state = attend_partial(query_BLNK, segments.front(), options);
  for (std::size_t i = 1; i < segments.size(); ++i) {
    state = join(state, attend_partial(query_BLNK, segments[i], options));
  }
  return state.output_BLNK;
}

PartialAttention attend_partial(const Tensor& query_BLNK,
                                const DenseSegment& segment,
                                const AttendOptions& options) {
  const double scale = scale_of(query_BLNK, options);
  // The fused kernel has no defined log-sum-exp for rows that see nothing.
  if (options.arithmetic == Arithmetic::kAuto && query_BLNK.device().is_cpu() &&
      !segment.log_weight_BM.defined() && query_BLNK.numel() > 0 && segment.key_BMNK.size(1) > 0) {
    auto [output_BNLK, lse_BNL] =
        at::_scaled_dot_product_flash_attention_for_cpu(query_BLNK.transpose(1, 2),
                                                        segment.key_BMNK.transpose(1, 2),
                                                        segment.value_BMNK.transpose(1, 2),
                                                        /*dropout_p=*/0.0,
                                                        /*is_causal=*/false,
                                                        /*attn_mask=*/std::nullopt,
                                                        scale);
    return {output_BNLK.transpose(1, 2), lse_BNL.transpose(1, 2)};
  }
  return plain(query_BLNK, segment, scale);
}

PartialAttention join(const PartialAttention& first, const PartialAttention& second) {
  const Tensor lse_BLN = at::logaddexp(first.lse_BLN, second.lse_BLN);
  const Tensor unseen = lse_BLN.isneginf();
  const auto share = [&](const PartialAttention& part) {
    return (part.lse_BLN - lse_BLN).exp().masked_fill(unseen, 0.0).unsqueeze(-1);
  };
  const Tensor output = first.output_BLNK * share(first) + second.output_BLNK * share(second);
  return {output.to(first.output_BLNK.scalar_type()), lse_BLN};
}

}  // namespace kinema::attention
