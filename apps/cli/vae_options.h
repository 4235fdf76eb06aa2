// SPDX-License-Identifier: Apache-2.0
// What the user asked of `kinema vae`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kinema::cli {

/// Options that every `kinema vae` command takes.
struct VaeRunOptions {
  std::string model;  ///< model folder, whose vae/ is taken
  std::string vae;    ///< folder of the autoencoder itself
  std::string mode = "stream";
  std::int64_t segment = 5;  ///< frames of a segment of dm_paper
  std::string merge = "drop-first";
  std::string tile;          ///< "N" or "WxH"; empty: the whole picture
  double tile_overlap = -1;  ///< below 0: the model's
  bool compact_state = false;
  double state_memory = 0;  ///< GB; 0: the model's default
  bool dry_run = false;
  bool force = false;

  /// Throws kInvalidArgument [usage.value], kIo [io.open].
  void validate() const;
  /// Width and height of a tile; zeros without --tile.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> parsed_tile() const;
};

/// How a source is read.
struct VaeClipOptions {
  std::string size;         ///< "WxH"; empty: as it is
  double fps = 0;           ///< 0: every frame
  std::int64_t frames = 0;  ///< 0: all
  void validate() const;
};

struct VaeRoundtripOptions {
  VaeRunOptions run;
  VaeClipOptions clip;
  std::string input;
  std::string output;   ///< may be empty: only measure
  std::string compare;  ///< side-by-side video
  std::string report;   ///< JSON file
  bool against_exact = false;
  void validate(bool json) const;
};

struct VaeSeamOptions {
  VaeRunOptions run;  ///< mode is not asked
  VaeClipOptions clip;
  std::string input;
  std::string report;
  void validate() const;
};

struct VaeEncodeOptions {
  VaeRunOptions run;
  VaeClipOptions clip;
  std::vector<std::string> inputs;
  std::string manifest;
  std::string output;
  std::int64_t clip_frames = 0;
  std::string store = "bf16";
  bool overwrite = false;
  void validate() const;
};

struct VaeDecodeOptions {
  VaeRunOptions run;
  std::string input;
  std::string output;
  double fps = 0;  ///< 0: of the file
  bool sample = false;
  std::int64_t seed = 0;
  std::int64_t clip = -1;  ///< below 0: all
  void validate(bool json) const;
};

}  // namespace kinema::cli
