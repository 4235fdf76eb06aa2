// SPDX-License-Identifier: Apache-2.0
// Checks of what comes into a text encoder.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor/tensor.h"

namespace kinema::text {

/// @return the ids as int64 on the CPU, [B, M]. Throws kShapeMismatch [tensor.shape] unless [B, M]
/// with B, M > 0, kInvalidArgument [text.token_id] unless integers in [0, vocab_size),
/// [text.too_long] when M > max_tokens.
[[nodiscard]] Tensor checked_ids(const Tensor& input_ids_BM,
                                 std::int64_t vocab_size,
                                 std::optional<std::int64_t> max_tokens,
                                 std::string_view place);

/// @return the mask as int64 on the CPU, or an undefined tensor when absent. Throws kShapeMismatch
/// [tensor.shape] unless it has the shape of the ids, kInvalidArgument [text.mask] unless 0 and 1.
[[nodiscard]] Tensor checked_mask(const std::optional<Tensor>& attention_mask_BM,
                                  const Tensor& input_ids_BM,
                                  std::string_view place);

}  // namespace kinema::text
