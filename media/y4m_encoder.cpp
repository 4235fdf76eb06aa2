// SPDX-License-Identifier: Apache-2.0
// YUV4MPEG2: a text header, then raw planes (mjpegtools, yuv4mpeg(5)).
#include "media/encoder.h"
#include "media/frame_converter.h"
#include "media/output_sink.h"

namespace kinema::media {
namespace {

class Y4mEncoder final : public Encoder {
 public:
  Y4mEncoder(const std::string& path, const WriteOptions& options)
      : sink_(path),
        half_chroma_(options.y4m_chroma == Y4mChroma::k420),
        converter_(options.width,
                   options.height,
                   half_chroma_ ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_YUV444P,
                   assumed_matrix(options.width, options.height)) {
    sink_.write("YUV4MPEG2 W" + std::to_string(options.width) + " H" +
                std::to_string(options.height) + " F" + std::to_string(options.fps.num) + ":" +
                std::to_string(options.fps.den) + " Ip A1:1 C" +
                (half_chroma_ ? "420mpeg2" : "444") + " XCOLORRANGE=LIMITED\n");
  }

  void add(const FrameView& view) override {
    const AVFrame& frame = converter_.convert(view);
    sink_.write("FRAME\n");
    for (int plane = 0; plane < 3; ++plane) {
      const bool half = half_chroma_ && plane > 0;
      const int width = half ? (frame.width + 1) / 2 : frame.width;
      const int height = half ? (frame.height + 1) / 2 : frame.height;
      rows_.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
      av_image_copy_plane(
          rows_.data(), width, frame.data[plane], frame.linesize[plane], width, height);
      sink_.write(rows_);
    }
  }

  std::uint64_t finish() override { return sink_.publish(); }

 private:
  OutputSink sink_;
  bool half_chroma_;
  PlaneConverter converter_;
  std::vector<std::uint8_t> rows_;
};

}  // namespace

std::unique_ptr<Encoder> make_y4m_encoder(const std::string& path, const WriteOptions& options) {
  return std::make_unique<Y4mEncoder>(path, options);
}

}  // namespace kinema::media
