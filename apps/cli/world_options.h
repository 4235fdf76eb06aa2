// SPDX-License-Identifier: Apache-2.0
// What the user asked of `kinema world` and `kinema eval world`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace kinema::cli {

/// Which world: options that every `kinema world` command takes.
struct WorldOptions {
  std::string size = "64x64";
  std::int64_t frames = 17;
  double fps = 8;
  std::string objects = "1";  ///< "N" or "N-M"
  double gradients = 0.5;     ///< share of backgrounds with a gradient
  double textures = 0;        ///< share of striped and checkered backgrounds
  double shadows = 0;         ///< share of scenes with soft shadows
  std::string split = "all";
  std::int64_t seed = 0;

  /// Throws kInvalidArgument [usage.value].
  void validate() const;
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> parsed_size() const;
  /// Fewest and most objects of a scene.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> parsed_objects() const;
};

struct WorldRenderOptions {
  WorldOptions world;
  std::int64_t index = 0;
  std::int64_t variant = 0;  ///< of the caption
  std::string output;
  std::string truth;  ///< JSON file; may be empty
  void validate(bool json) const;
};

struct WorldShowOptions {
  WorldOptions world;
  std::int64_t first = 0;
  std::int64_t count = 10;
  std::int64_t variant = 0;
  std::string output;  ///< PNG; may be empty
  std::int64_t columns = 9;
  void validate() const;
};

struct WorldExportOptions {
  WorldOptions world;
  std::int64_t first = 0;
  std::int64_t count = 1000;
  std::int64_t captions = 1;
  std::string format = "files";
  std::int64_t shard_clips = 1000;
  std::int64_t crf = 12;
  std::string output;
  void validate() const;
};

struct EvalWorldOptions {
  std::string model;
  std::string output;  ///< folder of the report
  std::string split = "held-out";
  std::int64_t prompts = 500;
  std::int64_t seed = 0;
  std::int64_t steps = 0;  ///< 0: the model's
  double guidance = -1;    ///< below 0: the model's
  std::string sampler;
  std::int64_t sheet_rows = 12;
  void validate() const;
};

}  // namespace kinema::cli
