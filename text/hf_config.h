// SPDX-License-Identifier: Apache-2.0
// What the config.json files of all Hugging Face text models have in common.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/base/log.h"

namespace kinema::text {

/// A config.json and the two keys that say what it is about.
struct HfConfig {
  Json json;
  std::string path;
  std::string model_type;                  ///< "" when the file does not say
  std::vector<std::string> architectures;  ///< may be empty

  /// Throws kIo [io.open], kBadCheckpoint [json.*, config.type].
  static HfConfig read(const std::string& path);
};

/// Marks as read the keys that say how to train, generate, label or save, and change no activation.
void ignore_common_keys(JsonReader& reader);

/// One warning that names the keys nobody knows; nothing when there are none.
void warn_unknown_keys(Logger& logger,
                       const std::string& path,
                       const std::vector<std::string>& keys);

/// Sizes that a config may state: 1 to 2^24 (layers: to 4096), so that products of three fit in
/// int64. Appends to `problems` one sentence per value outside.
void check_sizes(const std::vector<std::pair<std::string_view, std::int64_t>>& sizes,
                 std::vector<std::string>& problems);

inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;
inline constexpr std::int64_t kMaxLayers = 4096;

/// Throws kBadCheckpoint [text.config] that lists all `problems`, if there are any.
void throw_config_problems(std::string_view place,
                           std::string_view subject,
                           const std::vector<std::string>& problems);

}  // namespace kinema::text
