// SPDX-License-Identifier: Apache-2.0
#include "core/io/dtype.h"

#include <array>
#include <utility>

namespace kinema::io {
namespace {

struct Row {
  std::string_view name;
  std::size_t size;
};

// In the order of the enumerators.
constexpr std::array<Row, 16> kRows = {{{"BOOL", 1},
                                        {"U8", 1},
                                        {"I8", 1},
                                        {"F8_E4M3", 1},
                                        {"F8_E5M2", 1},
                                        {"I16", 2},
                                        {"U16", 2},
                                        {"F16", 2},
                                        {"BF16", 2},
                                        {"I32", 4},
                                        {"U32", 4},
                                        {"F32", 4},
                                        {"I64", 8},
                                        {"U64", 8},
                                        {"F64", 8},
                                        {"C64", 8}}};
static_assert(static_cast<std::size_t>(DType::kC64) + 1 == kRows.size());

const Row& row(DType dtype) noexcept {
  return kRows[static_cast<std::size_t>(dtype)];
}

}  // namespace

std::size_t size_of(DType dtype) noexcept {
  return row(dtype).size;
}

std::string_view to_string(DType dtype) noexcept {
  return row(dtype).name;
}

std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) {
      return static_cast<DType>(i);
    }
  }
  return std::nullopt;
}

}  // namespace kinema::io
