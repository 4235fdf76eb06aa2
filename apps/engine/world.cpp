// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/image.h"
#include "core/tensor/pictures.h"
#include "data_pipeline/world_export.h"
#include "world/caption.h"
#include "world/render.h"

namespace kinema::engine {
namespace {

world::WorldConfig config_of(const cli::WorldOptions& options) {
  world::WorldConfig config;
  std::tie(config.width, config.height) = options.parsed_size();
  config.frames = options.frames;
  config.fps = options.fps;
  std::tie(config.min_objects, config.max_objects) = options.parsed_objects();
  config.gradient_probability = options.gradients;
  config.textured_probability = options.textures;
  config.shadow_probability = options.shadows;
  config.split =
      static_cast<world::Split>(world::index_of(world::kSplitNames, options.split).value());
  config.validate();
  return config;
}

}  // namespace

void world_render(const cli::WorldRenderOptions& options,
                  const cli::CommonOptions& /*common*/,
                  cli::Console& console) {
  const at::InferenceMode inference;
  const world::Scene scene = world::make_scene(
      config_of(options.world), static_cast<std::uint64_t>(options.world.seed), options.index);
  const std::string caption = world::caption(scene, options.variant);
  if (!options.truth.empty()) {
    write_file(options.truth, scene.to_json().dump(2) + "\n");
  }
  const media::WriteReport report =
      data_pipeline::write_scene(scene, options.output, {}, console.progress());
  console.finish({{"output", report.path},
                  {"frames", report.frames},
                  {"bytes", report.bytes},
                  {"caption", caption},
                  {"truth", scene.to_json()}},
                 fmt::format("{}: {} frames, {} x {}\n{}\n",
                             report.path,
                             report.frames,
                             scene.width,
                             scene.height,
                             caption));
}

void world_show(const cli::WorldShowOptions& options,
                const cli::CommonOptions& /*common*/,
                cli::Console& console) {
  const at::InferenceMode inference;
  const world::WorldConfig config = config_of(options.world);
  OrderedJson scenes = OrderedJson::array();
  std::string text;
  std::vector<Tensor> videos;
  console.progress().on_stage("render", options.count, "scene");
  for (std::int64_t i = 0; i < options.count; ++i) {
    check_cancelled(console.progress(), "world show");
    const world::Scene scene = world::make_scene(
        config, static_cast<std::uint64_t>(options.world.seed), options.first + i);
    const std::string caption = world::caption(scene, options.variant);
    text += fmt::format("{:>6}  {}\n", scene.index, caption);
    scenes.push_back({{"index", scene.index}, {"caption", caption}, {"truth", scene.to_json()}});
    if (!options.output.empty()) {
      videos.push_back(world::render(scene));
    }
    console.progress().on_step(i + 1, {});
  }
  console.progress().on_stage_end();
  OrderedJson result = {{"scenes", scenes}};
  if (!options.output.empty()) {
    io::write_png(options.output, tensor::contact_sheet(videos, options.columns));
    result["output"] = options.output;
    text += fmt::format("{}: {} scenes, a row each\n", options.output, options.count);
  }
  console.finish(result, text);
}

void world_export(const cli::WorldExportOptions& options,
                  const cli::CommonOptions& common,
                  cli::Console& console) {
  data_pipeline::WorldExport settings;
  settings.world = config_of(options.world);
  settings.seed = static_cast<std::uint64_t>(options.world.seed);
  settings.first = options.first;
  settings.count = options.count;
  settings.captions = options.captions;
  settings.layout = options.format == "webdataset" ? data_pipeline::WorldLayout::kWebDataset
                                                   : data_pipeline::WorldLayout::kFiles;
  settings.shard_clips = options.shard_clips;
  settings.workers = common.threads;
  settings.crf = static_cast<int>(options.crf);
  const auto report = data_pipeline::export_world(settings, options.output, console.progress());
  console.finish(
      {{"output", options.output},
       {"clips", report.clips},
       {"rendered", report.rendered},
       {"shards", report.shards},
       {"settings", settings.to_json()}},
      fmt::format(
          "{}: {} clips, {} of them made now\n", options.output, report.clips, report.rendered));
}

}  // namespace kinema::engine
