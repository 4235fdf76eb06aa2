// SPDX-License-Identifier: Apache-2.0
// Attention of queries over a KvStore:
//   o_i = sum_t softmax_t(scale q_i k_t + w_t) v_t    over the tokens t of all segments.
//
//   KvStore store;
//   store.append({.key_BMNK = key, .value_BMNK = value});
//   const Tensor output_BLNK = attend(query_BLNK, store);
//
// Letters: B batch, L queries, M keys, N heads, K head width.
#pragma once

#include <optional>

#include "core/attention/kv_store.h"
#include "core/tensor/tensor.h"

namespace kinema::attention {

enum class Arithmetic {
  kAuto,   ///< LibTorch's fused kernels where they apply
  kPlain,  ///< matrix products and a softmax, all logits in memory: the twin for tests
};

struct AttendOptions {
  std::optional<double> scale{};  ///< nothing: K^-0.5
  Arithmetic arithmetic = Arithmetic::kAuto;
};

/// @param query_BLNK  any strides with K contiguous, dtype of the store.  @return [B, L, N, K].
/// A query that sees no token at all gets zeros. Differentiable in queries, keys and values.
/// Throws kShapeMismatch [tensor.shape], kInvalidArgument [attention.empty].
[[nodiscard]] Tensor attend(const Tensor& query_BLNK,
                            const KvStore& store,
                            const AttendOptions& options = {});

/// Attention over a part of the tokens, before it is joined with other parts.
struct PartialAttention {
  Tensor output_BLNK;  ///< normalised within the part
  Tensor lse_BLN;      ///< float log-sum-exp of the logits; -inf where no token was seen
};

/// The same over one segment. No gradient flows through lse_BLN.
[[nodiscard]] PartialAttention attend_partial(const Tensor& query_BLNK,
                                              const DenseSegment& segment,
                                              const AttendOptions& options = {});

/// Exact: attention over the union of the tokens of both.
[[nodiscard]] PartialAttention join(const PartialAttention& first, const PartialAttention& second);

}  // namespace kinema::attention
