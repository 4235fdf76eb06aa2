// SPDX-License-Identifier: Apache-2.0
#include "media/frame_converter.h"

#include <array>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "media/tone_map.h"

namespace kinema::media {
namespace {

constexpr std::int32_t kOne = 1 << 16;

TEST(OrientationTest, DisplayMatricesOfQuarterTurns) {
  const std::int32_t upright[9] = {kOne, 0, 0, 0, kOne, 0, 0, 0, 1 << 30};
  EXPECT_EQ(Orientation::from_matrix(upright).rotation(), 0);
  // av_display_rotation_set turns counter-clockwise for positive angles.
  for (const int clockwise : {0, 90, 180, 270}) {
    std::int32_t matrix[9] = {};
    av_display_rotation_set(matrix, clockwise);
    const Orientation orientation = Orientation::from_matrix(matrix);
    EXPECT_EQ(orientation.rotation(), (720 + clockwise) % 360) << clockwise;
    EXPECT_FALSE(orientation.mirrored());
    av_display_matrix_flip(matrix, 1, 0);
    EXPECT_TRUE(Orientation::from_matrix(matrix).mirrored());
  }
  const std::int32_t nothing[9] = {};
  EXPECT_EQ(Orientation::from_matrix(nothing), Orientation{});
}

TEST(OrientationTest, TurnsPixels) {
  // 3 x 2 pixels named 0..5, row by row.
  std::vector<std::uint8_t> source;
  for (std::uint8_t i = 0; i < 6; ++i) {
    source.insert(source.end(), {i, i, i});
  }
  const auto turned = [&](Orientation orientation) {
    std::vector<std::uint8_t> target(18);
    orient_rgb(source.data(), 9, 3, 2, orientation, target.data());
    std::vector<int> names;
    for (std::size_t i = 0; i < 18; i += 3) {
      names.push_back(target[i]);
    }
    return names;
  };
  EXPECT_EQ(turned({}), (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(turned({.xx = 0, .xy = 1, .yx = -1, .yy = 0}),
            (std::vector<int>{3, 0, 4, 1, 5, 2}));  // clockwise
  EXPECT_EQ(turned({.xx = -1, .xy = 0, .yx = 0, .yy = -1}), (std::vector<int>{5, 4, 3, 2, 1, 0}));
  EXPECT_EQ(turned({.xx = 0, .xy = -1, .yx = 1, .yy = 0}), (std::vector<int>{2, 5, 1, 4, 0, 3}));
  EXPECT_EQ(turned({.xx = -1, .xy = 0, .yx = 0, .yy = 1}),
            (std::vector<int>{2, 1, 0, 5, 4, 3}));  // mirror
}

FramePtr plane_frame(AVPixelFormat format, int width, int height, std::array<int, 4> values) {
  FramePtr frame = new_frame("test");
  frame->format = format;
  frame->width = width;
  frame->height = height;
  EXPECT_EQ(av_frame_get_buffer(frame.get(), 64), 0);
  const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format);
  for (int c = 0; c < descriptor->nb_components; ++c) {
    const AVComponentDescriptor& component = descriptor->comp[c];
    const bool chroma = (c == 1 || c == 2) && (descriptor->flags & AV_PIX_FMT_FLAG_RGB) == 0;
    const int w = chroma ? AV_CEIL_RSHIFT(width, descriptor->log2_chroma_w) : width;
    const int h = chroma ? AV_CEIL_RSHIFT(height, descriptor->log2_chroma_h) : height;
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        std::uint8_t* at = frame->data[component.plane] + y * frame->linesize[component.plane] +
                           x * component.step + component.offset;
        if (component.depth > 8) {
          at[0] = static_cast<std::uint8_t>(values[static_cast<std::size_t>(c)] & 0xff);
          at[1] = static_cast<std::uint8_t>(values[static_cast<std::size_t>(c)] >> 8);
        } else {
          at[0] = static_cast<std::uint8_t>(values[static_cast<std::size_t>(c)]);
        }
      }
    }
  }
  return frame;
}

std::array<int, 3> middle(const VideoFrame& frame) {
  const auto at = static_cast<std::size_t>((frame.height / 2 * frame.width + frame.width / 2) * 3);
  return {frame.rgb_HWC[at], frame.rgb_HWC[at + 1], frame.rgb_HWC[at + 2]};
}

void expect_color(const AVFrame& frame,
                  std::array<int, 3> wanted,
                  int tolerance,
                  const char* what) {
  FrameConverter converter({});
  VideoFrame out;
  converter.convert(frame, {1, 1}, {}, "test", out);
  const auto got = middle(out);
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(got[c], wanted[c], tolerance) << what << " channel " << c;
  }
}

// Red 200, green 100, blue 50 by the equations of each standard.
std::array<int, 4> yuv_of(double kr, double kb, bool full) {
  const double r = 200.0 / 255.0;
  const double g = 100.0 / 255.0;
  const double b = 50.0 / 255.0;
  const double y = kr * r + (1.0 - kr - kb) * g + kb * b;
  const double cb = (b - y) / (2.0 * (1.0 - kb));
  const double cr = (r - y) / (2.0 * (1.0 - kr));
  const auto code = [](double value) { return static_cast<int>(std::lround(value)); };
  return full ? std::array<int, 4>{code(255.0 * y),
                                   code(128.0 + 255.0 * cb),
                                   code(128.0 + 255.0 * cr),
                                   0}
              : std::array<int, 4>{
                    code(16.0 + 219.0 * y), code(128.0 + 224.0 * cb), code(128.0 + 224.0 * cr), 0};
}

TEST(FrameConverterTest, MatricesAndRanges) {
  struct Case {
    const char* what;
    AVColorSpace space;
    double kr, kb;
    bool full;
    int width;
  };
  for (const Case& c :
       {Case{"601 limited", AVCOL_SPC_SMPTE170M, 0.299, 0.114, false, 64},
        Case{"601 full", AVCOL_SPC_BT470BG, 0.299, 0.114, true, 64},
        Case{"709 limited", AVCOL_SPC_BT709, 0.2126, 0.0722, false, 64},
        Case{"709 full", AVCOL_SPC_BT709, 0.2126, 0.0722, true, 64},
        Case{"2020 limited", AVCOL_SPC_BT2020_NCL, 0.2627, 0.0593, false, 64},
        Case{"untagged small is 601", AVCOL_SPC_UNSPECIFIED, 0.299, 0.114, false, 640},
        Case{"untagged large is 709", AVCOL_SPC_UNSPECIFIED, 0.2126, 0.0722, false, 1280}}) {
    const FramePtr frame = plane_frame(AV_PIX_FMT_YUV420P, c.width, 32, yuv_of(c.kr, c.kb, c.full));
    frame->colorspace = c.space;
    frame->color_range = c.full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    expect_color(*frame, {200, 100, 50}, 3, c.what);
  }
}

TEST(FrameConverterTest, GreyPaletteAndRgb) {
  FramePtr grey = plane_frame(AV_PIX_FMT_GRAY8, 64, 32, {77, 0, 0, 0});
  grey->color_range = AVCOL_RANGE_JPEG;
  expect_color(*grey, {77, 77, 77}, 1, "grey, full range");
  grey->color_range = AVCOL_RANGE_MPEG;
  expect_color(*grey, {71, 71, 71}, 1, "grey, limited range");  // (77 - 16) x 255 / 219
  expect_color(
      *plane_frame(AV_PIX_FMT_GBRP, 64, 32, {200, 100, 50, 0}), {200, 100, 50}, 0, "planar RGB");
  expect_color(*plane_frame(AV_PIX_FMT_BGR24, 64, 32, {200, 100, 50, 0}), {200, 100, 50}, 0, "BGR");
}

TEST(FrameConverterTest, AlphaLiesOverTheBackground) {
  const FramePtr frame = plane_frame(AV_PIX_FMT_RGBA, 40, 30, {200, 100, 50, 64});
  FrameConverter converter({.background_rgb = {0, 0, 255}});
  VideoFrame out;
  converter.convert(*frame, {1, 1}, {}, "test", out);
  const auto got = middle(out);
  EXPECT_NEAR(got[0], 200 * 64 / 255.0, 1.0);
  EXPECT_NEAR(got[1], 100 * 64 / 255.0, 1.0);
  EXPECT_NEAR(got[2], 50 * 64 / 255.0 + 255 * 191 / 255.0, 1.0);
}

TEST(FrameConverterTest, OddWidthsFillTheLastColumn) {
  for (int width = 1; width <= 70; ++width) {
    const FramePtr frame = plane_frame(AV_PIX_FMT_YUV420P, width, 6, {235, 128, 128, 0});
    frame->color_range = AVCOL_RANGE_MPEG;
    FrameConverter converter({});
    VideoFrame out;
    converter.convert(*frame, {1, 1}, {}, "test", out);
    for (const std::uint8_t value : out.rgb_HWC) {
      ASSERT_EQ(value, 255) << "width " << width;
    }
  }
}

TEST(FrameConverterTest, SquarePixels) {
  const FrameConverter converter({.max_pixels = 1000 * 1000});
  const auto wide = converter.square_size(192, 144, {4, 3}, "test");
  EXPECT_EQ(wide.width, 256);
  EXPECT_EQ(wide.height, 144);
  const auto tall = converter.square_size(720, 480, {8, 9}, "test");
  EXPECT_EQ(tall.width, 720);
  EXPECT_EQ(tall.height, 540);
  EXPECT_THROW((void)converter.square_size(192, 144, {65535, 1}, "test"), Error);
  EXPECT_THROW((void)converter.square_size(2000, 2000, {1, 1}, "test"), Error);
  const FrameConverter small({.max_side = 100});
  EXPECT_EQ(small.square_size(4000, 20, {1, 1}, "test").height, 1);
}

TEST(ToneMapTest, PqCurveOfTheStandard) {
  // SMPTE ST 2084: 100 nits is code 0.508, 1000 nits 0.752, 10000 nits 1.
  EXPECT_NEAR(nits_to_pq(100.0), 0.5081, 1e-4);
  EXPECT_NEAR(nits_to_pq(1000.0), 0.7518, 1e-4);
  EXPECT_NEAR(nits_to_pq(10000.0), 1.0, 1e-9);
  for (const double nits : {0.01, 1.0, 48.0, 203.0, 4000.0}) {
    EXPECT_NEAR(pq_to_nits(nits_to_pq(nits)), nits, nits * 1e-9);
  }
}

TEST(ToneMapTest, CurveKeepsShadowsAndMeetsThePeak) {
  EXPECT_DOUBLE_EQ(bt2390_nits(20.0, 1000.0, 203.0), pq_to_nits(nits_to_pq(20.0)));
  EXPECT_NEAR(bt2390_nits(1000.0, 1000.0, 203.0), 203.0, 1e-6);
  EXPECT_EQ(bt2390_nits(150.0, 203.0, 203.0), 150.0);
  double last = -1.0;
  for (double nits = 0.0; nits <= 1000.0; nits += 1.0) {
    const double mapped = bt2390_nits(nits, 1000.0, 203.0);
    ASSERT_GT(mapped, last);
    ASSERT_LE(mapped, nits + 1e-9);
    last = mapped;
  }
}

std::array<int, 3> map_pixel(const ToneMapper& mapper, std::array<std::uint16_t, 3> pixel) {
  std::array<std::uint8_t, 3> out{};
  mapper.map_row(pixel, out);
  return {out[0], out[1], out[2]};
}

TEST(ToneMapTest, GreyStaysGreyAndFollowsTheFormula) {
  const ToneMapper mapper(ToneMapper::Transfer::kPq, 1000.0, true);
  for (const double nits : {1.0, 20.0, 100.0, 203.0, 500.0, 1000.0, 4000.0}) {
    const auto code = static_cast<std::uint16_t>(std::lround(65535.0 * nits_to_pq(nits)));
    const auto got = map_pixel(mapper, {code, code, code});
    const double wanted =
        255.0 * std::pow(bt2390_nits(std::min(nits, 1000.0), 1000.0, 203.0) / 203.0, 1.0 / 2.4);
    EXPECT_NEAR(got[0], wanted, 1.01) << nits;
    EXPECT_NEAR(got[0], got[1], 1.0);
    EXPECT_NEAR(got[0], got[2], 1.0);
  }
  EXPECT_EQ(map_pixel(mapper, {0, 0, 0}), (std::array<int, 3>{0, 0, 0}));
}

TEST(ToneMapTest, HlgWhiteIsThePeak) {
  const ToneMapper mapper(ToneMapper::Transfer::kHlg, 0.0, true);
  EXPECT_NEAR(map_pixel(mapper, {65535, 65535, 65535})[0], 255, 1);
  // BT.2408: HLG reference white, signal 0.75, is 203 nits on a 1000-nit display.
  const auto code = static_cast<std::uint16_t>(std::lround(65535.0 * 0.75));
  const double wanted = 255.0 * std::pow(bt2390_nits(203.0, 1000.0, 203.0) / 203.0, 1.0 / 2.4);
  EXPECT_NEAR(map_pixel(mapper, {code, code, code})[1], wanted, 1.5);
}

TEST(ToneMapTest, WideGamutIsConverted) {
  const ToneMapper mapper(ToneMapper::Transfer::kGamma, 0.0, true);
  // BT.709 red (1, 0, 0) has these BT.2020 coordinates in linear light (BT.2087).
  const auto code = [](double linear) {
    return static_cast<std::uint16_t>(std::lround(65535.0 * std::pow(linear, 1.0 / 2.4)));
  };
  const auto got = map_pixel(mapper, {code(0.627404), code(0.069097), code(0.016391)});
  EXPECT_NEAR(got[0], 255, 1);
  EXPECT_NEAR(got[1], 0, 12);  // the last steps above black are steep in gamma 2.4
  EXPECT_NEAR(got[2], 0, 12);
}

}  // namespace
}  // namespace kinema::media
