// SPDX-License-Identifier: Apache-2.0
// Shape checks at the borders of models, with messages that name the tensor.
//
//   check_shape(video_BCFHW, {kAny, 3, kAny, kAny, kAny}, "vae.encode", "video_BCFHW");
//   // [vae.encode] video_BCFHW: expected [?, 3, ?, ?, ?], got [1, 4, 17, 256, 256]
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "core/tensor/tensor.h"

namespace kinema::tensor {

inline constexpr std::int64_t kAny = -1;  ///< matches any size

/// Throws kShapeMismatch [tensor.shape] unless `tensor` is defined, has as many axes as `expected`
/// and the same size on each that is not kAny.
void check_shape(const Tensor& tensor,
                 std::initializer_list<std::int64_t> expected,
                 std::string_view place,
                 std::string_view name);

/// "[2, 3, ?]".
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);
[[nodiscard]] std::string shape_text(const Tensor& tensor);

}  // namespace kinema::tensor
