// SPDX-License-Identifier: Apache-2.0
// Keys and values that queries attend to, as a list of segments. attend() combines the segments by
// log-sum-exp, so what a segment holds and how it is stored is its own affair.
//
// Letters: B batch, M tokens of a segment, N heads, K head width. Heads stand behind tokens: that
// is how a fused projection writes them, and any strides are taken as long as K is contiguous.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::attention {

/// Keys and values in a float type. Keys are already normalised and rotated.
struct DenseSegment {
  Tensor key_BMNK;
  Tensor value_BMNK;
  /// Added to every logit of the token: log of how many tokens it stands for, -inf to hide it.
  /// Float, or undefined: 0 everywhere.
  Tensor log_weight_BM{};
};

class KvStore {
 public:
  /// Throws kShapeMismatch [attention.segment] when the parts do not fit each other or the segments
  /// before.
  void append(DenseSegment segment);

  [[nodiscard]] const std::vector<DenseSegment>& segments() const noexcept { return segments_; }
  [[nodiscard]] bool empty() const noexcept { return segments_.empty(); }
  [[nodiscard]] std::int64_t batch() const noexcept;
  [[nodiscard]] std::int64_t num_tokens() const noexcept;  ///< of all segments
  [[nodiscard]] std::int64_t num_heads() const noexcept;
  [[nodiscard]] std::int64_t head_width() const noexcept;
  /// Bytes of keys, values and weights.
  [[nodiscard]] std::int64_t num_bytes() const noexcept;

 private:
  std::vector<DenseSegment> segments_;
};

/// log_weight_BM of a mask: 0 where `mask_BM` is true (or not 0), -inf elsewhere.
[[nodiscard]] Tensor log_weight_of_mask(const Tensor& mask_BM, c10::ScalarType dtype);

}  // namespace kinema::attention
