// SPDX-License-Identifier: Apache-2.0
// GIF with one palette for the whole clip, in two passes: the first measures colours and keeps the
// frames in a lossless temporary file, the second maps and writes them. Memory holds single frames.
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/file.h"
#include "media/encoder.h"
#include "media/ffmpeg_log.h"
#include "media/output_sink.h"
#include "media/video_reader.h"

namespace kinema::media {
namespace {

namespace fs = std::filesystem;

FramePtr rgb_frame(const FrameView& view) {
  FramePtr frame = new_frame(kWriterPlace);
  frame->width = static_cast<int>(view.width);
  frame->height = static_cast<int>(view.height);
  frame->format = AV_PIX_FMT_RGB24;
  if (av_frame_get_buffer(frame.get(), 64) < 0) {
    throw encode_error("frame", "memory", AVERROR(ENOMEM));
  }
  av_image_copy_plane(frame->data[0],
                      frame->linesize[0],
                      view.rgb_HWC.data(),
                      static_cast<int>(view.stride),
                      frame->width * 3,
                      frame->height);
  return frame;
}

// A chain of filters between one or two sources and a sink.
class Filters {
 public:
  Filters() : graph_(checked(avfilter_graph_alloc(), kWriterPlace)) { graph_->nb_threads = 1; }

  AVFilterContext* add(const char* name, const char* label, const std::string& arguments) {
    AVFilterContext* filter = nullptr;
    const AVFilter* kind = avfilter_get_by_name(name);
    require(kind == nullptr ? AVERROR_FILTER_NOT_FOUND
                            : avfilter_graph_create_filter(
                                  &filter, kind, label, arguments.c_str(), nullptr, graph_.get()));
    return filter;
  }
  AVFilterContext* add_source(const char* label, int width, int height, AVPixelFormat format) {
    return add("buffer",
               label,
               "video_size=" + std::to_string(width) + "x" + std::to_string(height) +
                   ":pix_fmt=" + std::to_string(format) + ":time_base=1/100");
  }
  static void link(AVFilterContext* from, AVFilterContext* to, unsigned pad = 0) {
    require(avfilter_link(from, 0, to, pad));
  }
  void configure() { require(avfilter_graph_config(graph_.get(), nullptr)); }

  static void require(int result) {
    if (result < 0) {
      throw encode_error("gif", "a palette filter", result);
    }
  }

 private:
  FilterGraphPtr graph_;
};

class GifEncoder final : public Encoder {
 public:
  GifEncoder(const std::string& path, const WriteOptions& options)
      : path_(path), options_(options), sink_(working_path()) {
    WriteOptions spill = options;
    spill.format = VideoFormat::kMkv;
    spill.provenance.clear();
    spill.sidecar = false;
    spill_path_ = sink_.part() + ".spill.mkv";
    spill_ = make_container_encoder(spill_path_, VideoFormat::kMkv, spill);
    source_ = measure_.add_source(
        "in", static_cast<int>(options.width), static_cast<int>(options.height), AV_PIX_FMT_RGB24);
    AVFilterContext* palette = measure_.add("palettegen", "palettegen", "stats_mode=full");
    palette_sink_ = measure_.add("buffersink", "out", "");
    Filters::link(source_, palette);
    Filters::link(palette, palette_sink_);
    measure_.configure();
  }

  ~GifEncoder() override {
    spill_.reset();
    std::error_code ignored;
    fs::remove(spill_path_, ignored);
    if (!private_folder_.empty()) {
      fs::remove_all(private_folder_, ignored);
    }
  }

  void add(const FrameView& view) override {
    spill_->add(view);
    const FramePtr frame = rgb_frame(view);
    frame->pts = frames_++;
    Filters::require(av_buffersrc_add_frame(source_, frame.get()));
  }

  std::uint64_t finish() override {
    spill_->finish();
    Filters::require(av_buffersrc_add_frame(source_, nullptr));
    const FramePtr palette = new_frame(kWriterPlace);
    Filters::require(av_buffersink_get_frame(palette_sink_, palette.get()));
    write_gif(*palette);
    sink_.close();
    if (!options_.provenance.empty()) {
      append_comment();
    }
    if (path_ == "-") {
      return copy_to_stdout();
    }
    return sink_.publish();
  }

 private:
  // Two passes need a file also for standard output: in a private folder, which is removed.
  std::string working_path() {
    if (path_ != "-") {
      return path_;
    }
    std::string name = (fs::temp_directory_path() / "kinema-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw system_error(ErrorKind::kOutput,
                         errno,
                         {.code = "output.unwritable", .place = kWriterPlace, .subject = name});
    }
    private_folder_ = name;
    return (fs::path(name) / "out.gif").string();
  }

  // GIF counts hundredths of a second; rounding each start keeps the mean rate.
  std::int64_t start_of(std::int64_t index) const {
    return std::llround(static_cast<double>(index) * 100.0 / options_.fps.value());
  }

  void require(int result, const char* what) {
    sink_.rethrow();
    if (result < 0) {
      throw encode_error(path_, what, result);
    }
  }

  void open_gif() {
    AVFormatContext* muxer = nullptr;
    require(avformat_alloc_output_context2(&muxer, nullptr, "gif", ""), "a muxer");
    muxer_.reset(muxer);
    log_.attach(*muxer);
    muxer->pb = sink_.io();
    muxer->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    const AVCodec* codec = avcodec_find_encoder_by_name("gif");
    gif_ = checked(avcodec_alloc_context3(codec), kWriterPlace);
    log_.attach(*gif_);
    gif_->width = static_cast<int>(options_.width);
    gif_->height = static_cast<int>(options_.height);
    gif_->pix_fmt = AV_PIX_FMT_PAL8;
    gif_->time_base = {1, 100};
    gif_->flags |= AV_CODEC_FLAG_BITEXACT;
    require(avcodec_open2(gif_.get(), codec, nullptr), "a GIF encoder");
    AVStream* stream = avformat_new_stream(muxer, nullptr);
    require(stream == nullptr ? AVERROR(ENOMEM) : 0, "a stream");
    require(avcodec_parameters_from_context(stream->codecpar, gif_.get()), "stream parameters");
    stream->time_base = gif_->time_base;
    Dictionary settings;
    const std::int64_t last_length = start_of(frames_) - start_of(frames_ - 1);
    settings.set("final_delay", std::to_string(last_length));
    settings.set("loop", "0");
    require(avformat_write_header(muxer, settings.address()), "a header");
  }

  void write_gif(const AVFrame& palette) {
    open_gif();
    Filters map;
    AVFilterContext* frames = map.add_source("frames",
                                             static_cast<int>(options_.width),
                                             static_cast<int>(options_.height),
                                             AV_PIX_FMT_RGB24);
    AVFilterContext* colors = map.add_source(
        "palette", palette.width, palette.height, static_cast<AVPixelFormat>(palette.format));
    AVFilterContext* use =
        map.add("paletteuse", "paletteuse", "dither=sierra2_4a:diff_mode=rectangle");
    AVFilterContext* out = map.add("buffersink", "out", "");
    Filters::link(frames, use, 0);
    Filters::link(colors, use, 1);
    Filters::link(use, out);
    map.configure();
    const FramePtr palette_copy = checked(av_frame_clone(&palette), kWriterPlace);
    palette_copy->pts = 0;
    Filters::require(av_buffersrc_add_frame(colors, palette_copy.get()));
    Filters::require(av_buffersrc_add_frame(colors, nullptr));

    VideoReader reader = VideoReader::open(spill_path_);
    VideoFrame frame;
    while (reader.next(frame)) {
      const FramePtr input = rgb_frame({.rgb_HWC = frame.rgb_HWC,
                                        .width = frame.width,
                                        .height = frame.height,
                                        .stride = frame.width * 3});
      input->pts = start_of(frame.index);
      Filters::require(av_buffersrc_add_frame(frames, input.get()));
      encode_mapped(out);
    }
    Filters::require(av_buffersrc_add_frame(frames, nullptr));
    encode_mapped(out);
    encode(nullptr);
    require(av_write_trailer(muxer_.get()), "a complete file");
  }

  void encode_mapped(AVFilterContext* out) {
    const FramePtr mapped = new_frame(kWriterPlace);
    while (av_buffersink_get_frame(out, mapped.get()) >= 0) {
      encode(mapped.get());
      av_frame_unref(mapped.get());
    }
  }

  void encode(const AVFrame* frame) {
    require(avcodec_send_frame(gif_.get(), frame), "an encoded frame");
    const PacketPtr packet = new_packet(kWriterPlace);
    while (avcodec_receive_packet(gif_.get(), packet.get()) >= 0) {
      packet->stream_index = 0;
      require(av_interleaved_write_frame(muxer_.get(), packet.get()), "a written packet");
    }
  }

  // A comment extension (GIF89a, 24) in blocks of at most 255 bytes, before the trailer byte.
  void append_comment() {
    std::string blocks("\x21\xfe", 2);
    for (std::size_t at = 0; at < options_.provenance.size(); at += 255) {
      const std::string block = options_.provenance.substr(at, 255);
      blocks += static_cast<char>(block.size());
      blocks += block;
    }
    blocks += std::string("\0\x3b", 2);
    const auto size = static_cast<off_t>(fs::file_size(sink_.part()));
    const int file = ::open(sink_.part().c_str(), O_WRONLY | O_CLOEXEC);
    const ssize_t written = file < 0 ? -1 : ::pwrite(file, blocks.data(), blocks.size(), size - 1);
    const int number = errno;
    if (file >= 0) {
      ::close(file);
    }
    if (written != static_cast<ssize_t>(blocks.size())) {
      throw system_error(ErrorKind::kOutput,
                         written >= 0 ? ENOSPC : number,
                         {.code = written >= 0 || number == ENOSPC ? "disk_full" : "output.write",
                          .place = kWriterPlace,
                          .subject = path_});
    }
  }

  std::uint64_t copy_to_stdout() {
    OutputSink standard("-");
    const MappedFile whole = MappedFile::open(sink_.part(), kWriterPlace);
    standard.write(
        {reinterpret_cast<const std::uint8_t*>(whole.bytes().data()), whole.bytes().size()});
    return standard.bytes();
  }

  std::string path_;
  WriteOptions options_;
  LogCapture log_;
  std::string private_folder_;  ///< before sink_, whose path it makes
  OutputSink sink_;
  std::string spill_path_;
  std::unique_ptr<Encoder> spill_;
  Filters measure_;
  AVFilterContext* source_ = nullptr;
  AVFilterContext* palette_sink_ = nullptr;
  OutputFormatPtr muxer_;
  CodecContextPtr gif_;
  std::int64_t frames_ = 0;
};

}  // namespace

std::unique_ptr<Encoder> make_gif_encoder(const std::string& path, const WriteOptions& options) {
  return std::make_unique<GifEncoder>(path, options);
}

}  // namespace kinema::media
