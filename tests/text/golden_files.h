// SPDX-License-Identifier: Apache-2.0
// Reads the golden cases of ../shared, where they are there.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace kinema::text::testing {

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(KINEMA_SOURCE_DIR) / "../shared/golden/text" / name;
}

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// JSON of every line; lines end at byte 0x0A only.
inline std::vector<nlohmann::json> read_jsonl(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream stream(slurp(path));
  for (std::string line; std::getline(stream, line, '\n');) {
    if (!line.empty()) {
      lines.push_back(nlohmann::json::parse(line));
    }
  }
  return lines;
}

}  // namespace kinema::text::testing
