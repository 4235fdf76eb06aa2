// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/pictures.h"

#include <algorithm>
#include <cstring>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

constexpr std::int64_t kGap = 2;           // pixels between pictures
constexpr std::uint8_t kGapColour = 0x20;  // dark grey

}  // namespace

Tensor to_bytes(const Tensor& video_CFHW) {
  return video_CFHW.to(at::kFloat)
      .clamp(0, 1)
      .mul(255)
      .round()
      .to(at::kByte)
      .permute({1, 2, 3, 0})
      .contiguous()
      .cpu();
}

io::Image contact_sheet(const std::vector<Tensor>& videos_CFHW, std::int64_t columns) {
  for (const Tensor& video : videos_CFHW) {
    if (video.dim() != 4 || video.size(0) != 3 || video.size(1) < 1 || columns < 1 ||
        video.sizes().slice(2) != videos_CFHW.front().sizes().slice(2)) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "picture.shape",
                   .place = "contact_sheet",
                   .subject = "videos_CFHW",
                   .expected = "[3, F, H, W] of one size, at least one frame and one column",
                   .got = "another shape"});
    }
  }
  io::Image sheet;
  if (videos_CFHW.empty()) {
    return sheet;
  }
  const std::int64_t height = videos_CFHW.front().size(2);
  const std::int64_t width = videos_CFHW.front().size(3);
  const auto rows = static_cast<std::int64_t>(videos_CFHW.size());
  sheet.width = columns * (width + kGap) + kGap;
  sheet.height = rows * (height + kGap) + kGap;
  sheet.pixels.assign(static_cast<std::size_t>(sheet.width * sheet.height * 3), kGapColour);
  for (std::int64_t row = 0; row < rows; ++row) {
    const Tensor& video = videos_CFHW[static_cast<std::size_t>(row)];
    const std::int64_t last = video.size(1) - 1;
    for (std::int64_t column = 0; column < columns; ++column) {
      const std::int64_t frame =
          columns == 1 ? 0 : (column * last + (columns - 1) / 2) / (columns - 1);
      const Tensor pixels_FHWC = to_bytes(video.narrow(1, frame, 1));
      const auto* source = pixels_FHWC.data_ptr<std::uint8_t>();
      for (std::int64_t y = 0; y < height; ++y) {
        const std::int64_t top = kGap + row * (height + kGap) + y;
        const std::int64_t left = kGap + column * (width + kGap);
        std::memcpy(&sheet.pixels[static_cast<std::size_t>((top * sheet.width + left) * 3)],
                    source + y * width * 3,
                    static_cast<std::size_t>(width * 3));
      }
    }
  }
  return sheet;
}

}  // namespace kinema::tensor
