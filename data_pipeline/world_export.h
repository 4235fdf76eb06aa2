// SPDX-License-Identifier: Apache-2.0
// The synthetic world on disk: single scenes, and data sets of captioned clips with their truth, as
// files with a manifest or as WebDataset shards. A killed export goes on where it stood.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/progress.h"
#include "media/video_writer.h"
#include "world/scene.h"

namespace kinema::data_pipeline {

/// Renders a scene into a video, a few frames at a time: memory does not grow with its length.
/// `options` gives format and quality; size and rate are the scene's.
media::WriteReport write_scene(const world::Scene& scene,
                               const std::string& path,
                               media::WriteOptions options,
                               ProgressObserver& progress = null_progress());

enum class WorldLayout {
  kFiles,       ///< clips/000/00000042.mp4 and manifest.jsonl
  kWebDataset,  ///< clips-000000.tar with 00000042.{mp4,txt,json}
};

struct WorldExport {
  world::WorldConfig world;
  std::uint64_t seed = 0;
  std::int64_t first = 0;     ///< index of the first scene
  std::int64_t count = 1000;  ///< scenes
  std::int64_t captions = 1;  ///< variants per clip, 1..100
  WorldLayout layout = WorldLayout::kFiles;
  std::int64_t shard_clips = 1000;  ///< clips per shard
  std::int64_t workers = 0;         ///< threads; 0: one per core
  int crf = 12;                     ///< H.264 quality

  [[nodiscard]] OrderedJson to_json() const;
  /// Throws kInvalidArgument [world.config, world.export].
  void validate() const;
};

struct WorldExportReport {
  std::int64_t clips = 0;     ///< in the finished data set
  std::int64_t rendered = 0;  ///< of them made by this call
  std::int64_t shards = 0;
};

/// Writes the data set into `folder`, which is new, empty, or holds an unfinished export of the
/// same settings. The bytes do not depend on the number of workers or on interruptions.
/// Throws kInvalidArgument [world.other_export] for a folder that holds something else, kOutput,
/// kDiskFull, kCancelled.
WorldExportReport export_world(const WorldExport& settings,
                               const std::string& folder,
                               ProgressObserver& progress);

/// One line of the manifest: id, path, captions, size, rate, truth.
[[nodiscard]] OrderedJson manifest_row(const WorldExport& settings, const world::Scene& scene);

}  // namespace kinema::data_pipeline
