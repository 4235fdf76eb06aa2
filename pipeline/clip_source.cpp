// SPDX-License-Identifier: Apache-2.0
#include "pipeline/clip_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <string_view>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/io/image.h"
#include "media/video_reader.h"
#include "pipeline/pixels.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kPlace = "pipeline.clip";
constexpr std::int64_t kMaxSide = 16384;

void validate(const ClipOptions& options) {
  const auto refuse = [](const char* subject, const char* expected) {
    return Error(ErrorKind::kInvalidArgument,
                 {.code = "clip.options",
                  .place = kPlace,
                  .subject = subject,
                  .expected = expected,
                  .got = "another value"});
  };
  if (options.width < 0 || options.height < 0 || options.width > kMaxSide ||
      options.height > kMaxSide || (options.width == 0) != (options.height == 0)) {
    throw refuse("size", "width and height of 1 to 16384 pixels");
  }
  if (!(options.fps >= 0) || options.fps > 1000) {
    throw refuse("fps", "more than 0, at most 1000 frames per second");
  }
  if (options.max_frames < 0) {
    throw refuse("frames", "1 or more");
  }
}

/// The picture at the size asked for.
Tensor cover(const Tensor& frame_HWC, std::int64_t width, std::int64_t height) {
  if (frame_HWC.size(0) == height && frame_HWC.size(1) == width) {
    return frame_HWC;
  }
  return cover_size(frame_HWC, height, width).round().to(at::kByte).permute({1, 2, 0}).contiguous();
}

Tensor tensor_of(std::vector<std::uint8_t>& rgb_HWC, std::int64_t height, std::int64_t width) {
  return at::from_blob(rgb_HWC.data(), {height, width, 3}, at::kByte).clone();
}

class ImageSource final : public ClipSource {
 public:
  ImageSource(const std::string& path, const ClipOptions& options) {
    io::Image image = io::flatten_alpha(io::read_image(path), io::Background::kBlack);
    facts_.path = path;
    facts_.is_image = true;
    facts_.source_width = image.width;
    facts_.source_height = image.height;
    facts_.width = options.width > 0 ? options.width : image.width;
    facts_.height = options.height > 0 ? options.height : image.height;
    facts_.expected_frames = 1;
    facts_.fps = options.fps > 0 ? media::rational_rate(options.fps) : media::Rational{1, 1};
    frame_ = cover(tensor_of(image.pixels, image.height, image.width), facts_.width, facts_.height);
  }

  [[nodiscard]] const ClipFacts& facts() const noexcept override { return facts_; }
  [[nodiscard]] std::optional<Tensor> next() override {
    if (facts_.frames > 0) {
      return std::nullopt;
    }
    facts_.frames = 1;
    return std::exchange(frame_, Tensor());
  }

 private:
  ClipFacts facts_;
  Tensor frame_;
};

class VideoSource final : public ClipSource {
 public:
  VideoSource(const std::string& path, const ClipOptions& options)
      : options_(options),
        reader_(media::VideoReader::open(path, {.cancelled = options.cancelled})) {
    const media::VideoInfo& info = reader_.info();
    facts_.path = path;
    facts_.source_width = info.width;
    facts_.source_height = info.height;
    facts_.width = options.width > 0 ? options.width : info.width;
    facts_.height = options.height > 0 ? options.height : info.height;
    facts_.fps = options.fps > 0 ? media::rational_rate(options.fps) : info.fps;
    facts_.expected_frames = expected(info);
  }

  [[nodiscard]] const ClipFacts& facts() const noexcept override { return facts_; }

  [[nodiscard]] std::optional<Tensor> next() override {
    if (options_.max_frames > 0 && facts_.frames >= options_.max_frames) {
      return std::nullopt;
    }
    std::optional<Tensor> frame = options_.fps > 0 ? next_in_time() : read();
    if (frame.has_value()) {
      ++facts_.frames;
    }
    return frame;
  }

 private:
  struct Timed {
    Tensor frame_HWC;
    double begin = 0;
    double end = 0;
  };

  [[nodiscard]] std::int64_t expected(const media::VideoInfo& info) const {
    std::int64_t frames =
        info.declared_frames.value_or(std::llround(info.duration_seconds * info.fps.value()));
    if (options_.fps > 0 && info.fps.positive()) {
      frames = std::llround(static_cast<double>(frames) / info.fps.value() * facts_.fps.value());
    }
    return options_.max_frames > 0 ? std::min(frames, options_.max_frames) : frames;
  }

  /// The next frame of the file, scaled.
  std::optional<Tensor> read() {
    if (!reader_.next(buffer_)) {
      const media::ReadStatus status = reader_.report().status();
      if (status != media::ReadStatus::kOk) {
        facts_.damage = std::string(media::to_string(status));
      }
      return std::nullopt;
    }
    const Tensor frame = tensor_of(buffer_.rgb_HWC, buffer_.height, buffer_.width);
    const bool changed =
        buffer_.width != facts_.source_width || buffer_.height != facts_.source_height;
    facts_.size_changes += changed ? 1 : 0;
    return cover(frame, facts_.width, facts_.height);
  }

  std::optional<Timed> read_timed() {
    std::optional<Tensor> frame = read();
    if (!frame.has_value()) {
      return std::nullopt;
    }
    const double rate = reader_.info().fps.positive() ? reader_.info().fps.value() : 25.0;
    const double length = buffer_.duration_seconds > 0 ? buffer_.duration_seconds : 1.0 / rate;
    return Timed{*frame, buffer_.time_seconds, buffer_.time_seconds + length};
  }

  /// The frame on screen at facts_.frames / fps.
  std::optional<Tensor> next_in_time() {
    // Less than a tick of any time base: times that meet must not fall apart by rounding.
    constexpr double kSlack = 1e-6;
    const double time = static_cast<double>(facts_.frames) / facts_.fps.value() + kSlack;
    if (!current_.has_value()) {
      current_ = read_timed();
      following_ = current_.has_value() ? read_timed() : std::nullopt;
    }
    while (following_.has_value() && following_->begin <= time) {
      current_ = std::exchange(following_, read_timed());
    }
    const bool past_end = !following_.has_value() && current_.has_value() &&
                          time >= current_->end && facts_.frames > 0;
    if (!current_.has_value() || past_end) {
      return std::nullopt;
    }
    return current_->frame_HWC;
  }

  ClipOptions options_;
  media::VideoReader reader_;
  media::VideoFrame buffer_;
  ClipFacts facts_;
  std::optional<Timed> current_;
  std::optional<Timed> following_;
};

}  // namespace

OrderedJson ClipFacts::to_json() const {
  return {{"path", path},
          {"image", is_image},
          {"width", width},
          {"height", height},
          {"source_width", source_width},
          {"source_height", source_height},
          {"fps", fps.value()},
          {"frames", frames},
          {"damage", damage.has_value() ? OrderedJson(*damage) : OrderedJson()},
          {"size_changes", size_changes}};
}

std::unique_ptr<ClipSource> ClipSource::open(const std::string& path, const ClipOptions& options) {
  validate(options);
  if (is_still_picture(path)) {
    return std::make_unique<ImageSource>(path, options);
  }
  return std::make_unique<VideoSource>(path, options);
}

std::int64_t count_frames(const std::string& path, const ClipOptions& options) {
  const auto source = ClipSource::open(path, options);
  while (source->next()) {
  }
  return source->facts().frames;
}

bool is_still_picture(const std::string& path) {
  std::array<char, 4096> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  const std::string_view bytes(head.data(), static_cast<std::size_t>(file.gcount()));
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) {
    return bytes.find("acTL") == std::string_view::npos;
  }
  return bytes.starts_with("\xff\xd8\xff") || bytes.starts_with("BM");
}

}  // namespace kinema::pipeline
