// SPDX-License-Identifier: Apache-2.0
#include "data_pipeline/world_export.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/archive/tar_writer.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/tensor/pictures.h"
#include "world/caption.h"
#include "world/render.h"

namespace kinema::data_pipeline {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFramesAtOnce = 16;
constexpr std::int64_t kClipsPerFolder = 1000;
constexpr std::size_t kMaxClipBytes = 1ULL << 30;
constexpr const char* kSettingsFile = "export.json";

std::string clip_path(std::int64_t index) {
  return fmt::format("clips/{:03}/{:08}.mp4", index / kClipsPerFolder, index);
}

std::string shard_path(std::int64_t shard) {
  return fmt::format("clips-{:06}.tar", shard);
}

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

media::WriteOptions clip_options(const WorldExport& settings) {
  media::WriteOptions options;
  options.crf = settings.crf;
  options.threads = 1;
  return options;
}

// Runs job(0) .. job(count - 1) on several threads; job says how many clips it made. The first
// exception stops the others and is thrown here.
std::int64_t run_jobs(std::int64_t count,
                      std::int64_t workers,
                      ProgressObserver& progress,
                      const std::function<std::int64_t(std::int64_t)>& job) {
  std::atomic<std::int64_t> next{0};
  std::int64_t done = 0;
  std::int64_t made = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    const at::InferenceMode inference;
    for (;;) {
      const std::int64_t index = next.fetch_add(1);
      if (index >= count) {
        return;
      }
      try {
        check_cancelled(progress, "world export");
        const std::int64_t clips = job(index);
        const std::lock_guard lock(mutex);
        made += clips;
        progress.on_step(++done, {});
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) {
          failure = std::current_exception();
        }
        next = count;
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::int64_t i = 1; i < workers; ++i) {
    threads.emplace_back(work);
  }
  work();
  for (auto& thread : threads) {
    thread.join();
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
  return made;
}

// Makes the folder, or checks that it is the unfinished export of the same settings.
void claim(const std::string& folder, const WorldExport& settings) {
  const std::string text = settings.to_json().dump(2) + "\n";
  const std::string path = (fs::path(folder) / kSettingsFile).string();
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    if (read_file(path, 1U << 20U, "world export") == text) {
      return;
    }
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "world.other_export",
                 .place = "world export",
                 .subject = folder,
                 .expected = "an export of the same settings, or an empty folder",
                 .got = "one of other settings (see export.json in it)"});
  }
  if (fs::exists(folder, ignored) &&
      (!fs::is_directory(folder, ignored) || !fs::is_empty(folder, ignored))) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "world.other_export",
                 .place = "world export",
                 .subject = folder,
                 .expected = "a new or empty folder",
                 .got = "something else is there"});
  }
  fs::create_directories(folder, ignored);
  write_file(path, text);
}

std::int64_t export_files(const WorldExport& settings,
                          const std::string& folder,
                          std::int64_t workers,
                          ProgressObserver& progress) {
  std::error_code ignored;
  for (std::int64_t index = settings.first; index < settings.first + settings.count;
       index += kClipsPerFolder - index % kClipsPerFolder) {
    fs::create_directories((fs::path(folder) / clip_path(index)).parent_path(), ignored);
  }
  progress.on_stage("render", settings.count, "clip");
  const std::int64_t made = run_jobs(settings.count, workers, progress, [&](std::int64_t i) {
    const std::int64_t index = settings.first + i;
    const std::string path = (fs::path(folder) / clip_path(index)).string();
    if (fs::exists(path)) {
      return 0;  // complete, since files appear under their name only then
    }
    write_scene(
        world::make_scene(settings.world, settings.seed, index), path, clip_options(settings));
    return 1;
  });
  AtomicFile manifest((fs::path(folder) / "manifest.jsonl").string());
  for (std::int64_t i = 0; i < settings.count; ++i) {
    const auto scene = world::make_scene(settings.world, settings.seed, settings.first + i);
    manifest.write(dump(manifest_row(settings, scene)) + "\n");
  }
  manifest.commit();
  progress.on_stage_end();
  return made;
}

std::int64_t write_shard(const WorldExport& settings,
                         const std::string& folder,
                         std::int64_t shard,
                         ProgressObserver& progress) {
  const std::string path = (fs::path(folder) / shard_path(shard)).string();
  if (fs::exists(path)) {
    return 0;
  }
  archive::TarWriter tar(path);
  const std::int64_t begin = settings.first + shard * settings.shard_clips;
  const std::int64_t end = std::min(begin + settings.shard_clips, settings.first + settings.count);
  for (std::int64_t index = begin; index < end; ++index) {
    check_cancelled(progress, "world export");
    const auto scene = world::make_scene(settings.world, settings.seed, index);
    const std::string clip = part_path(path + fmt::format(".{:08}.mp4", index));
    write_scene(scene, clip, clip_options(settings));
    const std::string video = read_file(clip, kMaxClipBytes, "world export");
    fs::remove(clip);
    OrderedJson row = manifest_row(settings, scene);
    row.erase("path");
    const std::string key = fmt::format("{:08}", index);
    tar.add(key + ".mp4", video);
    tar.add(key + ".txt", row["caption"].get<std::string>());
    tar.add(key + ".json", dump(row));
  }
  tar.commit();
  return end - begin;
}

}  // namespace

media::WriteReport write_scene(const world::Scene& scene,
                               const std::string& path,
                               media::WriteOptions options,
                               ProgressObserver& progress) {
  options.width = scene.width;
  options.height = scene.height;
  options.fps = media::rational_rate(scene.fps);
  media::VideoWriter writer = media::VideoWriter::open(path, options);
  for (std::int64_t frame = 0; frame < scene.frames; frame += kFramesAtOnce) {
    check_cancelled(progress, "world");
    const std::int64_t count = std::min(kFramesAtOnce, scene.frames - frame);
    const Tensor frames_FHWC = tensor::to_bytes(world::render(scene, frame, count));
    const std::int64_t bytes = scene.width * scene.height * 3;
    for (std::int64_t i = 0; i < count; ++i) {
      writer.add({.rgb_HWC = {frames_FHWC.data_ptr<std::uint8_t>() + i * bytes,
                              static_cast<std::size_t>(bytes)},
                  .width = scene.width,
                  .height = scene.height});
    }
  }
  return writer.finish();
}

OrderedJson WorldExport::to_json() const {
  return {{"format", "kinema-world-1"},
          {"world", world.to_json()},
          {"seed", seed},
          {"first", first},
          {"count", count},
          {"captions", captions},
          {"layout", layout == WorldLayout::kFiles ? "files" : "webdataset"},
          {"shard_clips", shard_clips},
          {"crf", crf}};
}

void WorldExport::validate() const {
  world.validate();
  const auto require = [](bool holds, const char* subject, const char* expected, std::int64_t got) {
    if (!holds) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "world.export",
                   .place = "world export",
                   .subject = subject,
                   .expected = expected,
                   .got = std::to_string(got)});
    }
  };
  require(first >= 0 && first <= 100'000'000, "first", "0 .. 100000000", first);
  require(count >= 1 && first + count <= 100'000'000, "count", "1 .. 100000000 in all", count);
  require(captions >= 1 && captions <= 100, "captions", "1 .. 100", captions);
  require(shard_clips >= 1 && shard_clips <= 1'000'000, "shard_clips", "1 .. 1000000", shard_clips);
  require(workers >= 0 && workers <= 1024, "workers", "0 .. 1024", workers);
  require(crf >= 0 && crf <= 51, "crf", "0 .. 51", crf);
}

OrderedJson manifest_row(const WorldExport& settings, const world::Scene& scene) {
  OrderedJson captions = OrderedJson::array();
  for (std::int64_t variant = 0; variant < settings.captions; ++variant) {
    captions.push_back(world::caption(scene, variant));
  }
  return {{"id", fmt::format("{:08}", scene.index)},
          {"path", clip_path(scene.index)},
          {"caption", captions.front()},
          {"captions", captions},
          {"width", scene.width},
          {"height", scene.height},
          {"frames", scene.frames},
          {"fps", scene.fps},
          {"truth", scene.to_json()}};
}

WorldExportReport export_world(const WorldExport& settings,
                               const std::string& folder,
                               ProgressObserver& progress) {
  settings.validate();
  claim(folder, settings);
  const std::int64_t workers = settings.workers > 0
                                   ? settings.workers
                                   : std::max<std::int64_t>(1, std::thread::hardware_concurrency());
  WorldExportReport report{.clips = settings.count};
  if (settings.layout == WorldLayout::kFiles) {
    report.rendered = export_files(settings, folder, workers, progress);
    return report;
  }
  report.shards = (settings.count + settings.shard_clips - 1) / settings.shard_clips;
  progress.on_stage("render", report.shards, "shard");
  report.rendered = run_jobs(report.shards, workers, progress, [&](std::int64_t shard) {
    return write_shard(settings, folder, shard, progress);
  });
  progress.on_stage_end();
  return report;
}

}  // namespace kinema::data_pipeline
