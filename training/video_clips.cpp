// SPDX-License-Identifier: Apache-2.0
#include "training/video_clips.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "media/video_reader.h"
#include "world/random.h"

namespace kinema::training {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 30;
constexpr std::size_t kHeldOut = 10;  ///< every tenth
constexpr double kLargestZoom = 1.25;

struct Listed {
  std::string path;
  std::string caption;
};

std::vector<Listed> read_manifest(const fs::path& manifest) {
  std::vector<Listed> listed;
  std::istringstream lines(read_file(manifest.string(), kMaxManifestBytes, "train.data"));
  std::string line;
  std::int64_t number = 0;
  while (std::getline(lines, line)) {
    ++number;
    if (line.empty()) {
      continue;
    }
    const JsonContext context{.place = "train.data",
                              .subject = manifest.string() + " line " + std::to_string(number),
                              .kind = ErrorKind::kBadData};
    const Json json = parse_json(line, context);
    JsonReader reader(json, context);
    Listed video;
    reader.required("path", video.path);
    reader.optional("caption", video.caption);
    video.path = (manifest.parent_path() / video.path).string();
    listed.push_back(std::move(video));
  }
  return listed;
}

std::vector<Listed> list_videos(const std::string& path) {
  if (!fs::is_directory(path)) {
    return read_manifest(path);
  }
  std::vector<Listed> listed;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) {
      listed.push_back({entry.path().string(), ""});
    }
  }
  std::sort(listed.begin(), listed.end(), [](const Listed& a, const Listed& b) {
    return a.path < b.path;
  });
  return listed;
}

}  // namespace

VideoClips::VideoClips(const std::string& path,
                       std::int64_t size,
                       std::int64_t frames,
                       std::uint64_t seed,
                       Logger& logger)
    : size_(size), seed_(seed) {
  std::vector<Video> videos;
  const std::vector<Listed> listed = list_videos(path);
  for (const Listed& item : listed) {
    try {
      const std::int64_t count = media::VideoReader::open(item.path).count_frames();
      if (count >= frames) {
        videos.push_back({item.path, item.caption, count});
        continue;
      }
      logger.warning("left out " + item.path + ": " + std::to_string(count) + " frames");
    } catch (const Error& error) {
      logger.warning("left out " + item.path + ": " + error.what());
    }
  }
  if (videos.empty()) {
    throw Error(ErrorKind::kBadData,
                {.code = "train.data",
                 .place = "train.data",
                 .subject = path,
                 .expected = "videos of at least " + std::to_string(frames) + " frames",
                 .got = std::to_string(listed.size()) + " files, none of them"});
  }
  for (std::size_t i = 0; i < videos.size(); ++i) {
    const bool held_out = videos.size() > 1 && i % kHeldOut == kHeldOut - 1;
    (held_out ? validation_ : training_).push_back(std::move(videos[i]));
  }
  if (validation_.empty()) {
    validation_.push_back(training_.back());
    if (training_.size() > 1) {
      training_.pop_back();
    }
  }
}

Clip VideoClips::clip(std::int64_t index, std::int64_t frames) const {
  const bool validates = index >= kFirstValidationClip && index < kFirstMeasuringClip;
  const std::vector<Video>& videos = validates ? validation_ : training_;
  world::Random random(seed_, "training/video", static_cast<std::uint64_t>(index));
  const Video& video = videos[static_cast<std::size_t>(random.below(std::ssize(videos)))];
  media::VideoReader reader = media::VideoReader::open(video.path);
  const std::int64_t first = random.below(video.frames - frames + 1);
  const double zoom = validates ? 1.0 : random.uniform(1.0, kLargestZoom);
  const double place[2] = {random.uniform(0, 1), random.uniform(0, 1)};
  std::vector<Tensor> cuts;
  media::VideoFrame frame;
  bool found = reader.seek_to_index(first);
  for (std::int64_t f = 0; f < frames && found; ++f) {
    found = reader.next(frame);
    if (!found) {
      break;
    }
    const Tensor picture = at::from_blob(frame.rgb_HWC.data(),
                                         {1, frame.height, frame.width, 3},
                                         at::TensorOptions().dtype(at::kByte))
                               .permute({0, 3, 1, 2})
                               .to(at::kFloat);
    const double scale = zoom * static_cast<double>(size_) /
                         static_cast<double>(std::min(frame.width, frame.height));
    const auto scaled = [&](std::int64_t side) {
      return std::max(size_, static_cast<std::int64_t>(static_cast<double>(side) * scale + 0.5));
    };
    const std::array<std::int64_t, 2> sides = {scaled(frame.height), scaled(frame.width)};
    const Tensor resized = at::_upsample_bilinear2d_aa(
        picture, at::IntArrayRef(sides), /*align_corners=*/false, std::nullopt, std::nullopt);
    const auto offset = [&](int axis) {
      return static_cast<std::int64_t>(place[axis] * static_cast<double>(sides[axis] - size_ + 1));
    };
    cuts.push_back(resized[0].narrow(1, offset(0), size_).narrow(2, offset(1), size_));
  }
  if (std::ssize(cuts) < frames) {
    throw Error(ErrorKind::kBadData,
                {.code = "train.data",
                 .place = "train.data",
                 .subject = video.path,
                 .expected = std::to_string(first + frames) + " frames, as it had at the start",
                 .got = "an end before"});
  }
  return {at::stack(cuts, 1).round().clamp(0, 255).to(at::kByte), video.caption};
}

}  // namespace kinema::training
