// SPDX-License-Identifier: Apache-2.0
#include "text/encoder_inputs.h"

#include <string>

#include <ATen/ops/logical_and.h>

#include "core/base/error.h"
#include "core/tensor/place.h"
#include "core/tensor/shape_check.h"

namespace kinema::text {

Tensor checked_ids(const Tensor& input_ids_BM,
                   std::int64_t vocab_size,
                   std::optional<std::int64_t> max_tokens,
                   std::string_view place) {
  tensor::check_shape(input_ids_BM, {tensor::kAny, tensor::kAny}, place, "input_ids_BM");
  const auto refuse = [&](const char* code, std::string expected, std::string got) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = code,
                 .place = std::string(place),
                 .subject = "input_ids_BM",
                 .expected = std::move(expected),
                 .got = std::move(got)});
  };
  if (input_ids_BM.numel() == 0) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "tensor.shape",
                 .place = std::string(place),
                 .subject = "input_ids_BM",
                 .expected = "at least one text of at least one token",
                 .got = tensor::shape_text(input_ids_BM)});
  }
  if (!c10::isIntegralType(input_ids_BM.scalar_type(), /*includeBool=*/false)) {
    refuse("text.token_id", "integers", tensor::dtype_name(input_ids_BM.scalar_type()));
  }
  if (max_tokens.has_value() && input_ids_BM.size(1) > *max_tokens) {
    refuse("text.too_long",
           "at most " + std::to_string(*max_tokens) + " tokens",
           std::to_string(input_ids_BM.size(1)));
  }
  Tensor ids = input_ids_BM.to(at::kCPU, at::kLong).contiguous();
  const auto lowest = ids.min().item<std::int64_t>();
  const auto highest = ids.max().item<std::int64_t>();
  if (lowest < 0 || highest >= vocab_size) {
    refuse("text.token_id",
           "ids from 0 to " + std::to_string(vocab_size - 1),
           std::to_string(lowest < 0 ? lowest : highest));
  }
  return ids;
}

Tensor checked_mask(const std::optional<Tensor>& attention_mask_BM,
                    const Tensor& input_ids_BM,
                    std::string_view place) {
  if (!attention_mask_BM.has_value()) {
    return {};
  }
  tensor::check_shape(
      *attention_mask_BM, {input_ids_BM.size(0), input_ids_BM.size(1)}, place, "attention_mask_BM");
  const Tensor mask = attention_mask_BM->to(at::kCPU);
  const Tensor is_one = mask.eq(1);
  if (!is_one.logical_or(mask.eq(0)).all().item<bool>()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "text.mask",
                 .place = std::string(place),
                 .subject = "attention_mask_BM",
                 .expected = "values 0 and 1",
                 .got = "others"});
  }
  return is_one.to(at::kLong).contiguous();
}

}  // namespace kinema::text
