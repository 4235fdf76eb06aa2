// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/shape_check.h"

#include "core/base/error.h"

namespace kinema::tensor {

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) {
    text += text.size() > 1 ? ", " : "";
    text += size == kAny ? std::string("?") : std::to_string(size);
  }
  return text + "]";
}

std::string shape_text(const Tensor& tensor) {
  return shape_text(std::span<const std::int64_t>(tensor.sizes().data(), tensor.sizes().size()));
}

void check_shape(const Tensor& tensor,
                 std::initializer_list<std::int64_t> expected,
                 std::string_view place,
                 std::string_view name) {
  bool same = tensor.defined() && tensor.dim() == static_cast<std::int64_t>(expected.size());
  std::int64_t axis = 0;
  for (const std::int64_t size : expected) {
    same = same && (size == kAny || tensor.size(axis) == size);
    ++axis;
  }
  if (!same) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "tensor.shape",
                 .place = std::string(place),
                 .subject = std::string(name),
                 .expected = shape_text(std::span(expected.begin(), expected.size())),
                 .got = tensor.defined() ? shape_text(tensor) : "no tensor"});
  }
}

}  // namespace kinema::tensor
