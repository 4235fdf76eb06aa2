// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pixels.h"

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

Tensor frames_from_pixels(const Tensor& pixels_BCFHW, std::int64_t height, std::int64_t width) {
  const Tensor pixels = pixels_BCFHW[0]
                            .narrow(2, 0, height)
                            .narrow(3, 0, width)
                            .to(at::kCPU, at::kFloat)
                            .add(1)
                            .mul(127.5)
                            .round()
                            .clamp(0, 255);
  return pixels.to(at::kByte).permute({1, 2, 3, 0}).contiguous();
}

}  // namespace kinema::pipeline
