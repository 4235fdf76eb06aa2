// SPDX-License-Identifier: Apache-2.0
#include "pipeline/model_folder.h"

#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

GenerationDefaults read_defaults(const std::string& path) {
  GenerationDefaults defaults;
  if (!fs::exists(path)) {
    return defaults;
  }
  const JsonContext context{.place = "pipeline.model", .subject = path};
  const Json json = read_json_file(path, context);
  JsonReader reader(json, context);
  reader.optional("width", defaults.width);
  reader.optional("height", defaults.height);
  reader.optional("frames", defaults.frames);
  reader.optional("max_frames", defaults.max_frames);
  reader.optional("fps", defaults.fps);
  reader.optional("steps", defaults.steps);
  reader.optional("guidance", defaults.guidance);
  reader.optional("max_length", defaults.max_length);
  reader.optional("clean", defaults.clean);
  reader.finish();
  return defaults;
}

}  // namespace

ModelFolder ModelFolder::open(const std::string& path) {
  if (!fs::is_directory(path)) {
    throw Error(ErrorKind::kIo,
                {.code = "io.open",
                 .place = "pipeline.model",
                 .subject = path,
                 .expected = "a model folder",
                 .got = fs::exists(path) ? "a file" : "nothing of that name"});
  }
  const fs::path folder(path);
  const std::string index_path = (folder / "model_index.json").string();
  if (!fs::exists(index_path)) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "model.index",
                 .place = "pipeline.model",
                 .subject = path,
                 .expected = "model_index.json and the folders that it names",
                 .got = "no model_index.json"});
  }
  const Json index = read_json_file(index_path, {.place = "pipeline.model", .subject = index_path});
  const auto component = [&](const std::string& name) {
    const std::string inside = confined_path(path, name, "pipeline.model");
    if (!index.is_object() || !index.contains(name) || !fs::is_directory(inside)) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "model.component_missing",
                   .place = "pipeline.model",
                   .subject = path,
                   .expected = "the component '" + name + "' in model_index.json and as a folder",
                   .got = fs::is_directory(inside) ? "only the folder" : "no such folder"});
    }
    return inside;
  };
  ModelFolder model{.path = path,
                    .transformer = component("transformer"),
                    .vae = component("vae"),
                    .text_encoder = component("text_encoder"),
                    .tokenizer = component("tokenizer"),
                    .scheduler = std::nullopt,
                    .defaults = read_defaults((folder / "generation.json").string())};
  if (const fs::path scheduler = folder / "scheduler" / "scheduler_config.json";
      fs::exists(scheduler)) {
    model.scheduler = scheduler.string();
  }
  return model;
}

}  // namespace kinema::pipeline
