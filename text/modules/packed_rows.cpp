// SPDX-License-Identifier: Apache-2.0
#include "text/modules/packed_rows.h"

#include <algorithm>

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

namespace kinema::text {

PackedRows PackedRows::dense(std::int64_t batch, std::int64_t length) {
  PackedRows packed;
  packed.batch = batch;
  packed.length = length;
  packed.span_ = length;
  for (std::int64_t row = 0; row < batch; ++row) {
    packed.rows.push_back({.begin = row * length, .count = length, .positions = {}});
  }
  return packed;
}

PackedRows PackedRows::from_mask(const Tensor& mask_BM) {
  PackedRows packed;
  packed.batch = mask_BM.size(0);
  packed.length = mask_BM.size(1);
  std::vector<std::int64_t> kept;
  const auto mask = mask_BM.accessor<std::int64_t, 2>();
  for (std::int64_t b = 0; b < packed.batch; ++b) {
    std::vector<std::int64_t> positions;
    for (std::int64_t m = 0; m < packed.length; ++m) {
      if (mask[b][m] != 0) {
        positions.push_back(m);
        kept.push_back(b * packed.length + m);
      }
    }
    const auto count = static_cast<std::int64_t>(positions.size());
    Row row = {
        .begin = static_cast<std::int64_t>(kept.size()) - count, .count = count, .positions = {}};
    if (count > 0) {
      packed.span_ = std::max(packed.span_, positions.back() + 1);
      if (positions.back() != count - 1) {  // the text does not start at 0, or has holes
        row.positions = at::tensor(positions);
      }
    }
    packed.rows.push_back(std::move(row));
  }
  if (static_cast<std::int64_t>(kept.size()) == packed.batch * packed.length) {
    return dense(packed.batch, packed.length);
  }
  packed.kept_T = at::tensor(kept, at::kLong);
  return packed;
}

Tensor PackedRows::pack(const Tensor& padded) const {
  const Tensor flat = padded.flatten(0, 1);
  return is_dense() ? flat : flat.index_select(0, kept_T.to(padded.device()));
}

Tensor PackedRows::unpack(const Tensor& packed_TD) const {
  const std::int64_t width = packed_TD.size(1);
  if (is_dense()) {
    return packed_TD.view({batch, length, width});
  }
  Tensor padded = at::zeros({batch * length, width}, packed_TD.options());
  padded.index_copy_(0, kept_T.to(packed_TD.device()), packed_TD);
  return padded.view({batch, length, width});
}

}  // namespace kinema::text
