// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/denoiser.h"

#include <algorithm>
#include <string>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

Tensor slice_frames(const Tensor& tensor,
                    std::int64_t axis,
                    std::int64_t first,
                    std::int64_t length,
                    const char* name) {
  if (!tensor.defined()) {
    return tensor;
  }
  if (tensor.dim() <= axis || first < 0 || length < 1 || first > tensor.size(axis) - length) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "conditioning.window",
                 .place = "diffusion.conditioning",
                 .subject = name,
                 .expected = "at least " + std::to_string(first) + " + " + std::to_string(length) +
                             " frames on axis " + std::to_string(axis),
                 .got = tensor::shape_text(tensor)});
  }
  return tensor.narrow(axis, first, length);
}

Tensor join(const Tensor& first, const Tensor& second, const char* name) {
  if (!first.defined() && !second.defined()) {
    return {};
  }
  if (first.defined() != second.defined() || first.dim() != second.dim()) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "conditioning.concat",
                 .place = "diffusion.conditioning",
                 .subject = name,
                 .expected = "the field on both sides, with the same axes",
                 .got = std::string(first.defined() ? tensor::shape_text(first) : "nothing") +
                        " and " + (second.defined() ? tensor::shape_text(second) : "nothing")});
  }
  return at::cat({first, second}, 0);
}

Tensor mask_or_ones(const Conditioning& conditioning) {
  if (conditioning.context_mask_BM.defined()) {
    return conditioning.context_mask_BM;
  }
  return at::ones({conditioning.context_BMD.size(0), conditioning.context_BMD.size(1)},
                  conditioning.context_BMD.options().dtype(at::kBool));
}

Tensor pad_tokens(const Tensor& tensor, std::int64_t num_tokens) {
  if (tensor.size(1) == num_tokens) {
    return tensor;
  }
  auto shape = tensor.sizes().vec();
  shape[1] = num_tokens - tensor.size(1);
  return at::cat({tensor, at::zeros(shape, tensor.options())}, 1);
}

}  // namespace

Conditioning Conditioning::window(std::int64_t first, std::int64_t length) const {
  Conditioning result = *this;
  result.frame_mask_BT = slice_frames(frame_mask_BT, 1, first, length, "frame_mask_BT");
  result.image_BCTHW = slice_frames(image_BCTHW, 2, first, length, "image_BCTHW");
  result.frame_offset = frame_offset + first;
  return result;
}

Conditioning concat(const Conditioning& first, const Conditioning& second) {
  Conditioning result;
  Conditioning a = first;
  Conditioning b = second;
  if (a.context_BMD.defined() && b.context_BMD.defined()) {
    const bool masked = a.context_mask_BM.defined() || b.context_mask_BM.defined();
    if (masked || a.context_BMD.size(1) != b.context_BMD.size(1)) {
      a.context_mask_BM = mask_or_ones(a);
      b.context_mask_BM = mask_or_ones(b).to(a.context_mask_BM.scalar_type());
      const std::int64_t num_tokens = std::max(a.context_BMD.size(1), b.context_BMD.size(1));
      for (Conditioning* side : {&a, &b}) {
        side->context_BMD = pad_tokens(side->context_BMD, num_tokens);
        side->context_mask_BM = pad_tokens(side->context_mask_BM, num_tokens);
      }
    }
  }
  result.context_BMD = join(a.context_BMD, b.context_BMD, "context_BMD");
  result.context_mask_BM = join(a.context_mask_BM, b.context_mask_BM, "context_mask_BM");
  result.pooled_BD = join(a.pooled_BD, b.pooled_BD, "pooled_BD");
  result.fps_B = join(a.fps_B, b.fps_B, "fps_B");
  result.height_B = join(a.height_B, b.height_B, "height_B");
  result.width_B = join(a.width_B, b.width_B, "width_B");
  result.num_frames_B = join(a.num_frames_B, b.num_frames_B, "num_frames_B");
  result.aspect_ratio_B = join(a.aspect_ratio_B, b.aspect_ratio_B, "aspect_ratio_B");
  result.frame_mask_BT = join(a.frame_mask_BT, b.frame_mask_BT, "frame_mask_BT");
  result.image_BCTHW = join(a.image_BCTHW, b.image_BCTHW, "image_BCTHW");
  result.frame_offset = a.frame_offset;
  return result;
}

}  // namespace kinema::diffusion
