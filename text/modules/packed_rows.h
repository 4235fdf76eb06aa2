// SPDX-License-Identifier: Apache-2.0
// A padded batch of texts without its padding: the tokens with mask 1 of all rows, one after
// another. Everything but attention works on single tokens, so padding need not be computed at all.
//
// Letters: B batch, M padded length, T kept tokens of the whole batch.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::text {

struct PackedRows {
  struct Row {
    std::int64_t begin = 0;  ///< first of its tokens in [T]
    std::int64_t count = 0;
    Tensor positions;  ///< [count] int64 positions in the padded row; undefined: 0 .. count - 1
  };

  std::int64_t batch = 0;   ///< B
  std::int64_t length = 0;  ///< M
  std::vector<Row> rows;    ///< B of them
  Tensor kept_T;            ///< int64 indices into [B * M]; undefined: every token is kept

  [[nodiscard]] bool is_dense() const { return !kept_T.defined(); }
  /// One past the largest kept position; 0 when nothing is kept.
  [[nodiscard]] std::int64_t span() const noexcept { return span_; }

  /// Every token kept.
  static PackedRows dense(std::int64_t batch, std::int64_t length);
  /// @param mask_BM  int64 on the CPU, values 0 and 1.
  static PackedRows from_mask(const Tensor& mask_BM);

  /// [B, M, ...] -> [T, ...].
  [[nodiscard]] Tensor pack(const Tensor& padded) const;
  /// [T, D] -> [B, M, D], zero where nothing is kept.
  [[nodiscard]] Tensor unpack(const Tensor& packed_TD) const;

 private:
  std::int64_t span_ = 0;
};

}  // namespace kinema::text
