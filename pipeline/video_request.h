// SPDX-License-Identifier: Apache-2.0
// One video that was asked for, completely resolved: the same request gives the same bytes on one
// build and device. Written into the output as provenance and into the journal of a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "pipeline/model_folder.h"

namespace kinema::pipeline {

/// From `seconds` on, this prompt instead of the one before.
struct Scene {
  double seconds = 0;
  std::string prompt;
  bool operator==(const Scene&) const = default;
};

struct VideoRequest {
  std::string prompt;
  std::string negative;  ///< empty: the model's null caption, or an empty prompt
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t frames = 0;
  double fps = 0;
  std::int64_t seed = 0;
  std::int64_t steps = 0;
  std::string sampler;  ///< empty: the model's own
  double guidance = 0;
  std::int64_t max_length = 0;
  std::string clean;
  std::string model;  ///< folder
  /// How a video longer than the model was trained on is made: exact, fused, freenoise or fifo
  /// (pipeline/long_video.h). Empty: TextToVideo::resolve() chooses.
  std::string long_mode;
  std::int64_t window = 0;        ///< frames that the network sees at once; 0 with exact
  std::vector<Scene> scenes;      ///< later prompts, by rising time
  std::string image;              ///< picture that the video begins with; empty: none
  std::string video;              ///< clip that it begins with
  std::string end_video;          ///< clip that it ends with
  std::int64_t given_frames = 0;  ///< of each clip, those next to the new ones; 0: all

  /// A request with the recommendations of the model's authors.
  static VideoRequest with_defaults(const ModelFolder& model);
  static VideoRequest from_json(const Json& json, const std::string& subject);
  [[nodiscard]] OrderedJson to_json() const;
  /// What can be known without opening the model. Throws kInvalidArgument [request.*].
  void validate() const;
  /// Whether some frames are given and not generated.
  [[nodiscard]] bool has_given() const noexcept {
    return !image.empty() || !video.empty() || !end_video.empty();
  }
  bool operator==(const VideoRequest&) const = default;
};

/// [{"seconds": 2.5, "prompt": "..."}, ...]. Throws kBadData [config.*].
[[nodiscard]] std::vector<Scene> scenes_from_json(const Json& json, const std::string& subject);

/// The text that goes into outputs: {"format":"kinema-generation-1","version":...,"request":{...}}.
[[nodiscard]] std::string provenance(const VideoRequest& request);

/// The request in such a text. Throws kBadData [provenance.format].
[[nodiscard]] VideoRequest request_from_provenance(const std::string& text,
                                                   const std::string& subject);

}  // namespace kinema::pipeline
