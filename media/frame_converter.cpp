// SPDX-License-Identifier: Apache-2.0
#include "media/frame_converter.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "media/demuxer.h"

namespace kinema::media {
namespace {

// The deprecated full-range twins; the range is a property of the frame, not of the format.
AVPixelFormat plain_format(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P:
      return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P:
      return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
      return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
      return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P:
      return AV_PIX_FMT_YUV411P;
    default:
      return format;
  }
}

bool has_alpha(AVPixelFormat format) {
  const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format);
  return descriptor != nullptr &&
         (descriptor->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL)) != 0;
}

// Brightest light that the content claims; 1000 nits when it does not say.
double content_peak(const AVFrame& frame) {
  constexpr double kUnknown = 1000.0;
  if (const AVFrameSideData* side =
          av_frame_get_side_data(&frame, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL)) {
    const auto* light = reinterpret_cast<const AVContentLightMetadata*>(side->data);
    if (light->MaxCLL > 0) {
      return light->MaxCLL;
    }
  }
  if (const AVFrameSideData* side =
          av_frame_get_side_data(&frame, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA)) {
    const auto* display = reinterpret_cast<const AVMasteringDisplayMetadata*>(side->data);
    if (display->has_luminance != 0 && display->max_luminance.num > 0 &&
        display->max_luminance.den > 0) {
      return av_q2d(display->max_luminance);
    }
  }
  return kUnknown;
}

// swscale takes grey for full range, whatever the frame says.
bool is_limited_grey(const AVFrame& frame) {
  const AVPixFmtDescriptor* descriptor =
      av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  return descriptor != nullptr && descriptor->nb_components == 1 &&
         (descriptor->flags & AV_PIX_FMT_FLAG_PAL) == 0 && frame.color_range == AVCOL_RANGE_MPEG;
}

void expand_range(std::vector<std::uint8_t>& values) {
  for (std::uint8_t& value : values) {
    value = static_cast<std::uint8_t>(std::clamp(((value - 16) * 255 + 109) / 219, 0, 255));
  }
}

std::optional<ToneMapper::Transfer> needed_mapping(const AVFrame& frame) {
  switch (hdr_kind(frame.color_trc)) {
    case HdrKind::kPq:
      return ToneMapper::Transfer::kPq;
    case HdrKind::kHlg:
      return ToneMapper::Transfer::kHlg;
    case HdrKind::kNone:
      break;
  }
  if (frame.color_primaries == AVCOL_PRI_BT2020) {
    return ToneMapper::Transfer::kGamma;
  }
  return std::nullopt;
}

}  // namespace

HdrKind hdr_kind(AVColorTransferCharacteristic transfer) {
  switch (transfer) {
    case AVCOL_TRC_SMPTE2084:
      return HdrKind::kPq;
    case AVCOL_TRC_ARIB_STD_B67:
      return HdrKind::kHlg;
    default:
      return HdrKind::kNone;
  }
}

bool is_full_range(AVPixelFormat format, AVColorRange range) {
  return range == AVCOL_RANGE_JPEG || plain_format(format) != format;
}

int sws_matrix(AVColorSpace space) {
  switch (space) {
    case AVCOL_SPC_BT709:
      return SWS_CS_ITU709;
    case AVCOL_SPC_FCC:
      return SWS_CS_FCC;
    case AVCOL_SPC_SMPTE240M:
      return SWS_CS_SMPTE240M;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return SWS_CS_BT2020;
    default:
      return SWS_CS_ITU601;
  }
}

Orientation Orientation::from_matrix(const std::int32_t* matrix) {
  // FFmpeg: x' = a x + c y, y' = b x + d y with rows (a b u), (c d v). The inverse of a quarter
  // turn is its transpose.
  const std::int64_t a = matrix[0];
  const std::int64_t b = matrix[1];
  const std::int64_t c = matrix[3];
  const std::int64_t d = matrix[4];
  const auto sign = [](std::int64_t value) { return value < 0 ? -1 : 1; };
  if (std::abs(a) + std::abs(d) >= std::abs(b) + std::abs(c)) {
    return {.xx = sign(a), .xy = 0, .yx = 0, .yy = sign(d)};
  }
  return {.xx = 0, .xy = sign(b), .yx = sign(c), .yy = 0};
}

int Orientation::rotation() const {
  // The mirror touches source x only, so source y alone tells the turn.
  if (swaps_sides()) {
    return yx > 0 ? 270 : 90;
  }
  return yy > 0 ? 0 : 180;
}

void orient_rgb(const std::uint8_t* source,
                std::ptrdiff_t stride,
                std::int64_t width,
                std::int64_t height,
                Orientation orientation,
                std::uint8_t* target) {
  const std::int64_t out_width = orientation.swaps_sides() ? height : width;
  const std::int64_t out_height = orientation.swaps_sides() ? width : height;
  const std::ptrdiff_t step_x = orientation.xx * 3 + orientation.yx * stride;
  const std::ptrdiff_t step_y = orientation.xy * 3 + orientation.yy * stride;
  const std::ptrdiff_t first_x = orientation.xx + orientation.xy < 0 ? width - 1 : 0;
  const std::ptrdiff_t first_y = orientation.yx + orientation.yy < 0 ? height - 1 : 0;
  const std::uint8_t* origin = source + first_x * 3 + first_y * stride;
  constexpr std::int64_t kBlock = 32;  // keeps both sides of a turn in the cache
  for (std::int64_t top = 0; top < out_height; top += kBlock) {
    for (std::int64_t left = 0; left < out_width; left += kBlock) {
      const std::int64_t bottom = std::min(top + kBlock, out_height);
      const std::int64_t right = std::min(left + kBlock, out_width);
      for (std::int64_t y = top; y < bottom; ++y) {
        const std::uint8_t* from = origin + y * step_y + left * step_x;
        std::uint8_t* to = target + (y * out_width + left) * 3;
        for (std::int64_t x = left; x < right; ++x, from += step_x, to += 3) {
          to[0] = from[0];
          to[1] = from[1];
          to[2] = from[2];
        }
      }
    }
  }
}

FrameConverter::Shape FrameConverter::square_size(std::int64_t width,
                                                  std::int64_t height,
                                                  Rational aspect,
                                                  const std::string& path) const {
  double wide = static_cast<double>(width);
  double high = static_cast<double>(height);
  if (aspect.positive() && aspect.num != aspect.den) {
    (aspect.num > aspect.den ? wide : high) *= std::max(aspect.value(), 1.0 / aspect.value());
  }
  const double longest = std::max(wide, high);
  if (options_.max_side > 0 && longest > static_cast<double>(options_.max_side)) {
    const double factor = static_cast<double>(options_.max_side) / longest;
    wide *= factor;
    high *= factor;
  }
  if (!(wide * high <= static_cast<double>(options_.max_pixels)) || wide > 65535.0 ||
      high > 65535.0) {
    throw bad_media("media.too_large",
                    path,
                    "at most " + std::to_string(options_.max_pixels) + " pixels",
                    std::to_string(width) + "x" + std::to_string(height) + " with pixels of " +
                        std::to_string(aspect.num) + ":" + std::to_string(aspect.den));
  }
  return {.width = std::max<std::int64_t>(1, std::llround(wide)),
          .height = std::max<std::int64_t>(1, std::llround(high))};
}

void FrameConverter::prepare(const AVFrame& frame, Shape shape, AVPixelFormat out_format) {
  const auto in_format = static_cast<AVPixelFormat>(frame.format);
  const AVColorSpace space = frame.colorspace == AVCOL_SPC_UNSPECIFIED
                                 ? assumed_matrix(frame.width, frame.height)
                                 : frame.colorspace;
  const Key key{.width = frame.width,
                .height = frame.height,
                .format = plain_format(in_format),
                .out_width = static_cast<int>(shape.width),
                .out_height = static_cast<int>(shape.height),
                .out_format = out_format,
                .matrix = sws_matrix(space),
                .full_range = is_full_range(in_format, frame.color_range) ? 1 : 0};
  if (key_ == key) {
    return;
  }
  key_.reset();
  const bool smaller = key.out_width < key.width || key.out_height < key.height;
  int flags = smaller ? SWS_AREA : SWS_BICUBIC;
  if (options_.accurate_color) {
    flags |= SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND;
  }
  scaler_ = checked(sws_getContext(key.width,
                                   key.height,
                                   static_cast<AVPixelFormat>(key.format),
                                   key.out_width,
                                   key.out_height,
                                   out_format,
                                   flags,
                                   nullptr,
                                   nullptr,
                                   nullptr),
                    kReaderPlace);
  sws_setColorspaceDetails(scaler_.get(),
                           sws_getCoefficients(key.matrix),
                           key.full_range,
                           sws_getCoefficients(SWS_CS_DEFAULT),
                           1,
                           0,
                           1 << 16,
                           1 << 16);
  key_ = key;
}

void FrameConverter::scale(const AVFrame& frame, std::uint8_t* target, int stride) {
  std::uint8_t* planes[4] = {target, nullptr, nullptr, nullptr};
  const int strides[4] = {stride, 0, 0, 0};
  sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, planes, strides);
}

void FrameConverter::compose_alpha(const std::uint8_t* rgba,
                                   std::ptrdiff_t stride,
                                   Shape shape,
                                   std::uint8_t* rgb) const {
  for (std::int64_t y = 0; y < shape.height; ++y) {
    const std::uint8_t* from = rgba + y * stride;
    std::uint8_t* to = rgb + y * shape.width * 3;
    for (std::int64_t x = 0; x < shape.width; ++x, from += 4, to += 3) {
      const int alpha = from[3];
      for (std::size_t c = 0; c < 3; ++c) {
        to[c] = static_cast<std::uint8_t>(
            (from[c] * alpha + options_.background_rgb[c] * (255 - alpha) + 127) / 255);
      }
    }
  }
}

void FrameConverter::scale_to_scratch(const AVFrame& frame, Shape shape, AVPixelFormat format) {
  const auto width = static_cast<int>(shape.width);
  const auto height = static_cast<int>(shape.height);
  if (!scratch_ || scratch_->width != width || scratch_->height != height ||
      scratch_->format != format) {
    FramePtr scratch = new_frame(kReaderPlace);
    scratch->width = width;
    scratch->height = height;
    scratch->format = format;
    if (av_frame_get_buffer(scratch.get(), 64) < 0) {
      throw Error(
          ErrorKind::kOutOfMemory,
          {.code = "out_of_memory", .place = kReaderPlace, .subject = "a converted picture"});
    }
    scratch_ = std::move(scratch);
  }
  scale(frame, scratch_->data[0], scratch_->linesize[0]);
}

void FrameConverter::tone_map(const AVFrame& frame,
                              ToneMapper::Transfer transfer,
                              Shape shape,
                              std::uint8_t* rgb) {
  const bool wide = frame.color_primaries == AVCOL_PRI_BT2020;
  const double peak = content_peak(frame);
  if (!tone_mapper_ || tone_mapper_->transfer() != transfer ||
      tone_mapper_->bt2020_primaries() != wide || tone_map_peak_ != peak) {
    tone_mapper_.emplace(transfer, peak, wide);
    tone_map_peak_ = peak;
  }
  const std::size_t values = static_cast<std::size_t>(shape.width) * 3;
  for (std::int64_t y = 0; y < shape.height; ++y) {
    const auto* row =
        reinterpret_cast<const std::uint16_t*>(scratch_->data[0] + y * scratch_->linesize[0]);
    tone_mapper_->map_row({row, values}, {rgb + static_cast<std::size_t>(y) * values, values});
  }
}

void FrameConverter::convert(const AVFrame& frame,
                             Rational aspect,
                             Orientation orientation,
                             const std::string& path,
                             VideoFrame& out) {
  const Shape shape = square_size(frame.width, frame.height, aspect, path);
  const auto mapping = needed_mapping(frame);
  const bool alpha = !mapping && has_alpha(static_cast<AVPixelFormat>(frame.format));
  const AVPixelFormat format = mapping ? AV_PIX_FMT_RGB48
                               : alpha ? AV_PIX_FMT_RGBA
                                       : AV_PIX_FMT_RGB24;
  prepare(frame, shape, format);

  const auto row_bytes = static_cast<std::size_t>(shape.width) * 3;
  const std::size_t bytes = row_bytes * static_cast<std::size_t>(shape.height);
  out.width = orientation.swaps_sides() ? shape.height : shape.width;
  out.height = orientation.swaps_sides() ? shape.width : shape.height;
  out.rgb_HWC.resize(bytes);
  out.tone_mapped = mapping.has_value();
  const bool turned = orientation != Orientation{};
  const bool plain = !mapping && !alpha;

  // swscale may write whole vectors: rows that end within one need room behind them.
  if (plain && !turned && shape.width % 32 == 0) {
    scale(frame, out.rgb_HWC.data(), static_cast<int>(row_bytes));
  } else {
    scale_to_scratch(frame, shape, format);
    const std::uint8_t* source = scratch_->data[0];
    std::ptrdiff_t stride = scratch_->linesize[0];
    if (!plain) {
      if (turned) {
        upright_scratch_.resize(bytes);
      }
      std::uint8_t* packed = turned ? upright_scratch_.data() : out.rgb_HWC.data();
      mapping ? tone_map(frame, *mapping, shape, packed)
              : compose_alpha(source, stride, shape, packed);
      source = packed;
      stride = static_cast<std::ptrdiff_t>(row_bytes);
    }
    if (turned) {
      orient_rgb(source, stride, shape.width, shape.height, orientation, out.rgb_HWC.data());
    } else if (plain) {
      av_image_copy_plane(out.rgb_HWC.data(),
                          static_cast<int>(row_bytes),
                          source,
                          static_cast<int>(stride),
                          static_cast<int>(row_bytes),
                          static_cast<int>(shape.height));
    }
  }
  if (is_limited_grey(frame)) {
    expand_range(out.rgb_HWC);
  }
}

}  // namespace kinema::media
