// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "apps/cli/help.h"
#include "apps/front/inspect.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/progress.h"
#include "core/io/container_metadata.h"
#include "core/io/xmp.h"

namespace kinema::front {
namespace {

// The text that kinema or another program left in the file: the XMP property first, it is never
// cut.
std::string text_in(const io::ContainerMetadata& metadata, const std::string& path) {
  if (metadata.xmp) {
    if (auto text = io::unwrap_xmp(*metadata.xmp, path)) {
      return *text;
    }
  }
  return metadata.comment.value_or("");
}

// Provenance is a JSON object that names its format; any other text is only a comment.
std::optional<Json> provenance_in(const std::string& text, const std::string& path) {
  if (!text.starts_with("{")) {
    return std::nullopt;
  }
  try {
    Json json = parse_json(text, {.place = "inspect", .subject = path});
    if (json.contains("format") && json["format"].is_string() &&
        json["format"].get<std::string>().starts_with("kinema")) {
      return json;
    }
  } catch (const Error&) {
    // Somebody else's text that begins like JSON.
  }
  return std::nullopt;
}

void add_rows(const Json& json, const std::string& prefix, std::string& text) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) {
      add_rows(value, prefix + key + ".", text);
    } else {
      const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
      text += fmt::format("  {:<24}  {}\n", prefix + key, cli::wrap(shown, 68, 28));
    }
  }
}

}  // namespace

Inspection inspect_media(const std::string& path) {
  const io::ContainerMetadata metadata = io::read_container_metadata(path);
  const std::uint64_t bytes = std::filesystem::file_size(path);
  Inspection result;
  result.facts = {{"kind", "media"}, {"path", path}, {"bytes", bytes}, {"format", metadata.format}};
  result.text = fmt::format("{}: {}", path, metadata.format);
  if (metadata.width && metadata.height) {
    result.facts["width"] = *metadata.width;
    result.facts["height"] = *metadata.height;
    result.text += fmt::format(", {} x {}", *metadata.width, *metadata.height);
  }
  if (metadata.fps) {
    result.facts["fps"] = *metadata.fps;
    result.text += fmt::format(", {:.6g} frames per second", *metadata.fps);
  }
  if (metadata.duration_seconds) {
    result.facts["duration_seconds"] = *metadata.duration_seconds;
    result.text += ", " + format_duration(*metadata.duration_seconds);
  }
  result.text += ", " + format_bytes(bytes) + "\n";

  const std::string text = text_in(metadata, path);
  if (const auto provenance = provenance_in(text, path)) {
    result.facts["provenance"] = *provenance;
    result.text += "\nmade by kinema:\n";
    add_rows(*provenance, "", result.text);
  } else if (!text.empty()) {
    result.facts["comment"] = text;
    result.text += "\n  comment: " + text.substr(0, 2000) + "\n";
  } else {
    result.text += "\n  no provenance in it\n";
  }
  return result;
}

}  // namespace kinema::front
