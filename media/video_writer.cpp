// SPDX-License-Identifier: Apache-2.0
#include "media/video_writer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cmath>
#include <filesystem>
#include <utility>

#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "media/encoder.h"
#include "media/ffmpeg_log.h"
#include "media/output_sink.h"

namespace kinema::media {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxSide = 16384;
constexpr std::array<std::pair<std::string_view, VideoFormat>, 6> kExtensions = {{
    {".mp4", VideoFormat::kMp4},
    {".mov", VideoFormat::kMov},
    {".webm", VideoFormat::kWebm},
    {".mkv", VideoFormat::kMkv},
    {".gif", VideoFormat::kGif},
    {".y4m", VideoFormat::kY4m},
}};
constexpr std::array<std::string_view, 10> kPresets = {"ultrafast",
                                                       "superfast",
                                                       "veryfast",
                                                       "faster",
                                                       "fast",
                                                       "medium",
                                                       "slow",
                                                       "slower",
                                                       "veryslow",
                                                       "placebo"};

Error bad_option(const char* code,
                 const std::string& path,
                 std::string expected,
                 std::string got,
                 std::string hint = "") {
  return Error(ErrorKind::kInvalidArgument,
               {.code = code,
                .place = kWriterPlace,
                .subject = path,
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

std::string lower(std::string text) {
  std::ranges::transform(
      text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return text;
}

std::string size_text(std::int64_t width, std::int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

void validate_size(const std::string& path, VideoFormat format, const WriteOptions& options) {
  const bool even = format == VideoFormat::kMp4 || format == VideoFormat::kMov;
  const std::int64_t step = even ? 2 : 1;
  const auto legal = [&](std::int64_t side) {
    return side >= step && side <= kMaxSide && side % step == 0;
  };
  if (legal(options.width) && legal(options.height)) {
    return;
  }
  const auto nearest = [&](std::int64_t side) {
    return std::clamp((side + step - 1) / step * step, step, kMaxSide);
  };
  throw bad_option("media.frame_size",
                   path,
                   std::string(even ? "even sides" : "sides") + " of 1 to " +
                       std::to_string(kMaxSide) + " pixels for " + std::string(to_string(format)),
                   size_text(options.width, options.height),
                   "nearest: " + size_text(nearest(options.width), nearest(options.height)));
}

void validate_rate(const std::string& path, VideoFormat format, const WriteOptions& options) {
  const double most = format == VideoFormat::kGif ? 50.0 : 1000.0;
  const Rational fps = options.fps;
  const std::string got =
      std::to_string(fps.num) + "/" + std::to_string(fps.den) + " frames per second";
  if (!fps.positive() || fps.num > INT_MAX || fps.den > INT_MAX || fps.value() < 0.001 ||
      fps.value() > most) {
    throw bad_option("media.frame_rate",
                     path,
                     "a rate above 0 and at most " + std::to_string(static_cast<int>(most)) +
                         " for " + std::string(to_string(format)),
                     got,
                     format == VideoFormat::kGif
                         ? "a GIF counts hundredths of a second, and players slow down "
                           "frames of a single one"
                         : "");
  }
}

void validate_quality(const std::string& path, VideoFormat format, const WriteOptions& options) {
  const bool h264 = format == VideoFormat::kMp4 || format == VideoFormat::kMov;
  const bool vp9 = format == VideoFormat::kWebm;
  const auto bad = [&](const char* expected, const std::string& got) {
    return bad_option("media.write_options", path, expected, got);
  };
  if (options.crf && !h264 && !vp9) {
    throw bad("no quality setting for a format that is exact or has none",
              std::to_string(*options.crf));
  }
  if (options.crf && (*options.crf < 0 || *options.crf > (h264 ? 51 : 63))) {
    throw bad(h264 ? "a quality (crf) of 0 to 51" : "a quality (crf) of 0 to 63",
              std::to_string(*options.crf));
  }
  if (std::ranges::find(kPresets, options.preset) == kPresets.end()) {
    throw bad("a preset of x264, ultrafast to placebo", "'" + options.preset + "'");
  }
  if (!(options.key_interval_seconds > 0.0) || options.key_interval_seconds > 3600.0) {
    throw bad("a key frame interval above 0 s", std::to_string(options.key_interval_seconds));
  }
  if (options.b_frames < 0 || options.b_frames > 16) {
    throw bad("0 to 16 B frames", std::to_string(options.b_frames));
  }
  if (options.threads < 1 || options.threads > 128) {
    throw bad("1 to 128 threads", std::to_string(options.threads));
  }
}

void validate_encoder(const std::string& path, VideoFormat format) {
  const char* name = encoder_name(format);
  if (name != nullptr && avcodec_find_encoder_by_name(name) == nullptr) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "media.no_encoder",
                 .place = kWriterPlace,
                 .subject = path,
                 .expected = std::string("FFmpeg with the encoder ") + name,
                 .got = "a build without it",
                 .hint = "choose another format by its extension"});
  }
}

void validate_place(const std::string& path, VideoFormat format, const WriteOptions& options) {
  if (path == "-") {
    if (format == VideoFormat::kPng) {
      throw bad_option(
          "media.unknown_format", path, "one stream for standard output", "numbered pictures");
    }
    if (options.sidecar) {
      throw bad_option(
          "media.write_options", path, "a file that a sidecar can stand beside", "standard output");
    }
    if (::isatty(STDOUT_FILENO) == 1) {
      throw Error(ErrorKind::kOutput,
                  {.code = "output.unwritable",
                   .place = kWriterPlace,
                   .subject = "standard output",
                   .expected = "a file or pipe",
                   .got = "a terminal",
                   .hint = "redirect it, for example with '| ffplay -'"});
    }
    return;
  }
  if (format == VideoFormat::kPng) {
    validate_png_target(path);
  }
  const auto unwritable = [&](const char* expected, const char* got) {
    return Error(ErrorKind::kOutput,
                 {.code = "output.unwritable",
                  .place = kWriterPlace,
                  .subject = path,
                  .expected = expected,
                  .got = got});
  };
  std::error_code failed;
  const fs::file_status status = fs::status(path, failed);
  if (format != VideoFormat::kPng && fs::exists(status) && !fs::is_regular_file(status)) {
    throw unwritable("a file name", fs::is_directory(status) ? "a folder" : "a device or pipe");
  }
  fs::path folder = fs::path(path).parent_path();
  if (format == VideoFormat::kPng) {
    folder = folder.parent_path();
  }
  if (folder.empty()) {
    folder = ".";
  }
  if (!fs::is_directory(folder, failed)) {
    throw unwritable("a folder that exists", "none of that name");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw system_error(ErrorKind::kOutput,
                       errno,
                       {.code = "output.unwritable", .place = kWriterPlace, .subject = path});
  }
}

std::unique_ptr<Encoder> make_encoder(const std::string& path, const WriteOptions& options) {
  const VideoFormat format = output_format(path, options);
  switch (format) {
    case VideoFormat::kGif:
      return make_gif_encoder(path, options);
    case VideoFormat::kY4m:
      return make_y4m_encoder(path, options);
    case VideoFormat::kPng:
      return make_png_encoder(path, options);
    default:
      return make_container_encoder(path, format, options);
  }
}

}  // namespace

std::string_view to_string(VideoFormat format) noexcept {
  switch (format) {
    case VideoFormat::kMp4:
      return "mp4";
    case VideoFormat::kMov:
      return "mov";
    case VideoFormat::kWebm:
      return "webm";
    case VideoFormat::kMkv:
      return "mkv";
    case VideoFormat::kGif:
      return "gif";
    case VideoFormat::kY4m:
      return "y4m";
    case VideoFormat::kPng:
      return "png";
    case VideoFormat::kAuto:
      break;
  }
  return "auto";
}

VideoFormat output_format(const std::string& path, const WriteOptions& options) {
  if (options.format != VideoFormat::kAuto) {
    return options.format;
  }
  if (path == "-") {
    return VideoFormat::kY4m;
  }
  if (path.ends_with('/')) {
    return VideoFormat::kPng;
  }
  const fs::path name(path);
  const std::string extension = lower(name.extension().string());
  for (const auto& [known, format] : kExtensions) {
    if (extension == known) {
      return format;
    }
  }
  if (extension == ".png") {
    return VideoFormat::kPng;
  }
  throw bad_option(
      "media.unknown_format",
      path,
      "a name that ends in .mp4, .mov, .webm, .mkv, .gif, .y4m, name_%05d.png, a folder with "
      "'/' at its end, or '-'",
      extension.empty() ? "no extension" : "'" + extension + "'");
}

void validate_output(const std::string& path, const WriteOptions& options) {
  const VideoFormat format = output_format(path, options);
  validate_size(path, format, options);
  validate_rate(path, format, options);
  validate_quality(path, format, options);
  validate_encoder(path, format);
  validate_place(path, format, options);
}

VideoWriter::VideoWriter(std::string path, const WriteOptions& options)
    : path_(std::move(path)),
      options_(std::make_unique<WriteOptions>(options)),
      encoder_(make_encoder(path_, *options_)) {}

VideoWriter VideoWriter::open(const std::string& path, const WriteOptions& options) {
  validate_output(path, options);
  return {path, options};
}

VideoWriter::VideoWriter(VideoWriter&&) noexcept = default;
VideoWriter& VideoWriter::operator=(VideoWriter&&) noexcept = default;
VideoWriter::~VideoWriter() = default;

void VideoWriter::add(const FrameView& frame) {
  if (!encoder_) {
    throw bad_option(
        "media.finished", path_, "frames before the end", "a frame after finish() or an error");
  }
  FrameView view = frame;
  if (view.width != options_->width || view.height != options_->height) {
    throw bad_option("media.frame_size",
                     path_,
                     size_text(options_->width, options_->height),
                     size_text(view.width, view.height));
  }
  view.stride = view.stride == 0 ? view.width * 3 : view.stride;
  const bool fits = view.stride >= view.width * 3 && view.stride <= INT_MAX &&
                    view.rgb_HWC.size() >= static_cast<std::size_t>(view.stride) *
                                                   static_cast<std::size_t>(view.height - 1) +
                                               static_cast<std::size_t>(view.width) * 3;
  if (!fits) {
    throw bad_option(
        "media.frame_size",
        path_,
        "3 bytes for every pixel and rows that do not overlap",
        std::to_string(view.rgb_HWC.size()) + " bytes, " + std::to_string(view.stride) + " a row");
  }
  try {
    encoder_->add(view);
  } catch (...) {
    encoder_.reset();
    throw;
  }
  ++frames_;
}

WriteReport VideoWriter::finish() {
  if (!encoder_) {
    throw bad_option(
        "media.finished", path_, "one finish()", "a second one, or one after an error");
  }
  const std::unique_ptr<Encoder> encoder = std::move(encoder_);
  if (frames_ == 0) {
    throw bad_option("media.no_frames", path_, "at least one frame", "none");
  }
  WriteReport report;
  report.path = path_;
  report.frames = frames_;
  report.duration_seconds = static_cast<double>(frames_) / options_->fps.value();
  report.bytes = encoder->finish();
  if (options_->sidecar && !options_->provenance.empty()) {
    const std::size_t end = path_.find_last_not_of('/');
    write_file(path_.substr(0, end + 1) + ".json", options_->provenance);
  }
  return report;
}

}  // namespace kinema::media
