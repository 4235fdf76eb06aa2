// SPDX-License-Identifier: Apache-2.0
#include "pipeline/frame_sink.h"

#include <filesystem>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/io/image.h"
#include "pipeline/pixels.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

bool is_one_picture(const std::string& path) {
  return path.ends_with(".png") && path.find('%') == std::string::npos;
}

/// Sides that the format can have.
media::WriteOptions with_legal_sides(const std::string& path, media::WriteOptions options) {
  if (is_one_picture(path)) {
    return options;
  }
  const media::VideoFormat format = media::output_format(path, options);
  if (format == media::VideoFormat::kMp4 || format == media::VideoFormat::kMov) {
    options.width = round_up(options.width, 2);
    options.height = round_up(options.height, 2);
  }
  return options;
}

/// The frame with its last row and column repeated up to height x width.
Tensor filled(Tensor frame_HWC, std::int64_t height, std::int64_t width) {
  for (const auto& [axis, size] : {std::pair<std::int64_t, std::int64_t>(0, height), {1, width}}) {
    while (frame_HWC.size(axis) < size) {
      const Tensor edge = frame_HWC.narrow(axis, frame_HWC.size(axis) - 1, 1);
      frame_HWC = at::cat({frame_HWC, edge}, axis);
    }
  }
  return frame_HWC.contiguous();
}

Error too_many(const std::string& path, const std::string& got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "output.one_picture",
                .place = "pipeline.frame_sink",
                .subject = path,
                .expected = "one frame for one picture",
                .got = got,
                .hint = "name a folder/ or name_%05d.png for many, or a video"});
}

}  // namespace

void FrameSink::validate(const std::string& path,
                         const media::WriteOptions& options,
                         std::optional<std::int64_t> num_frames) {
  if (!is_one_picture(path)) {
    media::validate_output(path, with_legal_sides(path, options));
    return;
  }
  if (num_frames.value_or(1) != 1) {
    throw too_many(path, std::to_string(*num_frames));
  }
  const fs::path parent = fs::path(path).parent_path();
  if (fs::is_directory(path) || (!parent.empty() && !fs::is_directory(parent))) {
    throw Error(ErrorKind::kOutput,
                {.code = "output.unwritable",
                 .place = "pipeline.frame_sink",
                 .subject = path,
                 .expected = "a file name in a folder that exists",
                 .got = "another"});
  }
}

FrameSink::FrameSink(const std::string& path, const media::WriteOptions& options)
    : path_(path), options_(with_legal_sides(path, options)) {
  validate(path, options);
  if (!is_one_picture(path)) {
    writer_ = media::VideoWriter::open(path, options_);
  }
}

FrameSink::~FrameSink() = default;

void FrameSink::add(const Tensor& frame_HWC) {
  const Tensor frame = filled(frame_HWC, options_.height, options_.width);
  if (!writer_.has_value()) {
    if (picture_HWC_.defined()) {
      throw too_many(path_, "more");
    }
    picture_HWC_ = frame;
    return;
  }
  writer_->add(
      {.rgb_HWC = {frame.data_ptr<std::uint8_t>(), static_cast<std::size_t>(frame.numel())},
       .width = frame.size(1),
       .height = frame.size(0)});
}

media::WriteReport FrameSink::finish() {
  if (writer_.has_value()) {
    return writer_->finish();
  }
  if (!picture_HWC_.defined()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "media.no_frames",
                 .place = "pipeline.frame_sink",
                 .subject = path_,
                 .expected = "a picture",
                 .got = "none"});
  }
  const auto* pixels = picture_HWC_.data_ptr<std::uint8_t>();
  io::write_png(path_,
                {.width = picture_HWC_.size(1),
                 .height = picture_HWC_.size(0),
                 .channels = 3,
                 .pixels = {pixels, pixels + picture_HWC_.numel()}});
  return {.path = path_, .frames = 1, .bytes = fs::file_size(path_), .duration_seconds = 0};
}

}  // namespace kinema::pipeline
