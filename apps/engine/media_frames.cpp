// SPDX-License-Identifier: Apache-2.0
#include "apps/engine/media_frames.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/io/image.h"
#include "media/video_reader.h"
#include "media/video_writer.h"

namespace kinema::engine {
namespace {

bool is_picture(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  for (char& c : extension) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg" || extension == ".bmp";
}

Tensor to_tensor(const std::vector<std::uint8_t>& rgb, std::int64_t height, std::int64_t width) {
  Tensor frame_HWC = at::empty({height, width, 3}, at::kByte);
  std::memcpy(frame_HWC.data_ptr<std::uint8_t>(), rgb.data(), rgb.size());
  return frame_HWC;
}

}  // namespace

std::int64_t MediaFrames::count(const std::string& path) {
  if (is_picture(path)) {
    static_cast<void>(io::read_image(path));  // tells what is wrong with it
    return 1;
  }
  return media::VideoReader::open(path).count_frames();
}

void MediaFrames::read(const std::string& path,
                       std::int64_t first,
                       std::int64_t count,
                       const pipeline::ImageConsumer& consumer) {
  if (is_picture(path)) {
    const io::Image image = io::flatten_alpha(io::read_image(path), io::Background::kBlack);
    consumer(to_tensor(image.pixels, image.height, image.width));
    return;
  }
  media::VideoReader reader = media::VideoReader::open(path);
  if (first > 0 && !reader.seek_to_index(first)) {
    return;
  }
  media::VideoFrame frame;
  for (std::int64_t i = 0; i < count && reader.next(frame); ++i) {
    consumer(to_tensor(frame.rgb_HWC, frame.height, frame.width));
  }
}

PreviewFile::PreviewFile(std::string path, Logger& logger)
    : path_(std::move(path)), logger_(logger) {
  if (!path_.ends_with(".png") && !path_.ends_with(".gif")) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "usage.value",
                 .place = "cli",
                 .subject = "--preview",
                 .expected = "a name that ends in .png or .gif",
                 .got = "'" + path_ + "'"});
  }
}

void PreviewFile::write(const Tensor& frames_FHWC, std::int64_t steps_done, double seconds) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t height = frames_FHWC.size(1);
  const std::int64_t width = frames_FHWC.size(2);
  const auto* pixels = frames_FHWC.data_ptr<std::uint8_t>();
  const auto size = static_cast<std::size_t>(height * width * 3);
  try {
    if (is_animation()) {
      media::VideoWriter writer =
          media::VideoWriter::open(path_, {.width = width, .height = height, .fps = {4, 1}});
      for (std::int64_t f = 0; f < frames_FHWC.size(0); ++f) {
        writer.add({.rgb_HWC = {pixels + static_cast<std::size_t>(f) * size, size},
                    .width = width,
                    .height = height});
      }
      static_cast<void>(writer.finish());
    } else {
      io::Image image{.width = width, .height = height, .pixels = {}};
      image.pixels.assign(pixels, pixels + size);
      io::write_png(path_, image);
    }
  } catch (const Error& error) {
    logger_.warning(fmt::format("no preview path={} reason={}", path_, error.what()));
    return;
  }
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  seconds_ += seconds;
  ++num_written_;
  if (num_written_ == 1) {
    logger_.info(fmt::format(
        "preview path={} step={} seconds={:.3f} (each time)", path_, steps_done, seconds));
  }
}

}  // namespace kinema::engine
