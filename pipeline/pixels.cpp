// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pixels.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

namespace kinema::pipeline {

Tensor pixels_from_frame(const Tensor& frame_HWC, std::int64_t multiple) {
  const std::int64_t height = frame_HWC.size(0);
  const std::int64_t width = frame_HWC.size(1);
  Tensor x_NCHW = frame_HWC.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).div_(127.5).sub_(1.0);
  const std::int64_t below = round_up(height, multiple) - height;
  const std::int64_t right = round_up(width, multiple) - width;
  if (below > 0 || right > 0) {
    x_NCHW = at::replication_pad2d(x_NCHW, {0, right, 0, below});
  }
  return x_NCHW.unsqueeze(2);
}

Tensor to_images(const Tensor& pixels_BCFHW) {
  const Tensor pixels =
      pixels_BCFHW[0].to(at::kCPU, at::kFloat).add(1).mul(127.5).round().clamp(0, 255);
  return pixels.to(at::kByte).permute({1, 2, 3, 0}).contiguous();
}

Tensor frames_from_pixels(const Tensor& pixels_BCFHW, std::int64_t height, std::int64_t width) {
  return to_images(pixels_BCFHW.narrow(3, 0, height).narrow(4, 0, width));
}

Tensor cover_size(const Tensor& frame_HWC, std::int64_t height, std::int64_t width) {
  Tensor picture = frame_HWC.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat);
  const double scale =
      std::max(static_cast<double>(height) / static_cast<double>(frame_HWC.size(0)),
               static_cast<double>(width) / static_cast<double>(frame_HWC.size(1)));
  const std::int64_t rows =
      std::max<std::int64_t>(height, std::llround(scale * static_cast<double>(frame_HWC.size(0))));
  const std::int64_t columns =
      std::max<std::int64_t>(width, std::llround(scale * static_cast<double>(frame_HWC.size(1))));
  if (rows != frame_HWC.size(0) || columns != frame_HWC.size(1)) {
    picture = at::_upsample_bicubic2d_aa(picture, {rows, columns}, /*align_corners=*/false);
  }
  return picture[0]
      .narrow(1, (rows - height) / 2, height)
      .narrow(2, (columns - width) / 2, width)
      .clamp(0, 255);
}

}  // namespace kinema::pipeline
