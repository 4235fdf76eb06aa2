// SPDX-License-Identifier: Apache-2.0
// Element types of checkpoint files, under the names that safetensors uses.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace kinema::io {

enum class DType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
  kC64,
};

/// Size of one element in bytes.
[[nodiscard]] std::size_t size_of(DType dtype) noexcept;
/// Name in the file: "BF16".
[[nodiscard]] std::string_view to_string(DType dtype) noexcept;
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view name) noexcept;

}  // namespace kinema::io
