// SPDX-License-Identifier: Apache-2.0
#include "training/picture_strip.h"

#include <ATen/ops/cat.h>

#include "core/io/image.h"

namespace kinema::training {

void write_picture_strip(const std::string& path,
                         const std::vector<Tensor>& clips_CFHW,
                         std::int64_t every) {
  std::vector<Tensor> rows;
  for (const Tensor& clip : clips_CFHW) {
    const Tensor frames = clip.slice(1, 0, clip.size(1), every);  // [3, f, H, W]
    rows.push_back(frames.permute({2, 1, 3, 0}).reshape({frames.size(2), -1, 3}));
  }
  const Tensor picture_HWC = at::cat(rows, 0).contiguous();
  io::Image image{.width = picture_HWC.size(1), .height = picture_HWC.size(0), .pixels = {}};
  const auto* data = static_cast<const std::uint8_t*>(picture_HWC.const_data_ptr());
  image.pixels.assign(data, data + picture_HWC.numel());
  io::write_png(path, image);
}

}  // namespace kinema::training
