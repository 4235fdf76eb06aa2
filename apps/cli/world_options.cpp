// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/world_options.h"

#include <charconv>
#include <string_view>

#include "apps/cli/value_checks.h"

namespace kinema::cli {
namespace {

constexpr std::int64_t kMaxIndex = 100'000'000;

void require_range(std::string_view option,
                   std::int64_t value,
                   std::int64_t low,
                   std::int64_t high) {
  if (value < low || value > high) {
    throw bad_value(
        option, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
  }
}

void require_share(std::string_view option, double value) {
  if (!(value >= 0 && value <= 1)) {
    throw bad_value(option, "a share from 0 to 1", std::to_string(value));
  }
}

void require_split(const std::string& split) {
  if (split != "all" && split != "seen" && split != "held-out") {
    throw bad_value("--split", "all, seen or held-out", "'" + split + "'");
  }
}

bool parse_count(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::pair<std::int64_t, std::int64_t> WorldOptions::parsed_size() const {
  return parse_size("--size", size);
}

std::pair<std::int64_t, std::int64_t> WorldOptions::parsed_objects() const {
  const std::size_t dash = objects.find('-');
  std::int64_t low = 0;
  std::int64_t high = 0;
  const bool good =
      parse_count(std::string_view(objects).substr(0, dash), low) &&
      (dash == std::string::npos ? (high = low) > 0
                                 : parse_count(std::string_view(objects).substr(dash + 1), high));
  if (!good || low < 1 || high > 3 || low > high) {
    throw bad_value("--objects", "1, 2, 3 or a range such as 1-3", "'" + objects + "'");
  }
  return {low, high};
}

void WorldOptions::validate() const {
  const auto [width, height] = parsed_size();
  require_range("--size", width, 16, 4096);
  require_range("--size", height, 16, 4096);
  require_range("--frames", frames, 1, 100'000);
  if (!(fps > 0 && fps <= 240)) {
    throw bad_value("--fps", "frames per second above 0, at most 240", std::to_string(fps));
  }
  static_cast<void>(parsed_objects());
  require_share("--gradients", gradients);
  require_share("--textures", textures);
  require_share("--shadows", shadows);
  require_split(split);
  if (seed < 0) {
    throw bad_value("--seed", "0 or more", std::to_string(seed));
  }
}

void WorldRenderOptions::validate(bool json) const {
  world.validate();
  require_range("INDEX", index, 0, kMaxIndex);
  require_range("--caption", variant, 0, kMaxIndex);
  require_video_output("--output", output);
  if (!truth.empty()) {
    require_writable("--truth", truth);
  }
  if (json && output == "-") {
    throw bad_value("--output", "a file with --json, which writes to stdout", "-");
  }
}

void WorldShowOptions::validate() const {
  world.validate();
  require_range("--first", first, 0, kMaxIndex);
  require_range("--count", count, 1, 10'000);
  require_range("--caption", variant, 0, kMaxIndex);
  require_range("--columns", columns, 1, 100);
  if (!output.empty()) {
    if (!output.ends_with(".png")) {
      throw bad_value("--output", "a name that ends in .png", "'" + output + "'");
    }
    require_writable("--output", output);
  }
}

void WorldExportOptions::validate() const {
  world.validate();
  require_range("--first", first, 0, kMaxIndex);
  require_range("--count", count, 1, kMaxIndex - first);
  require_range("--captions", captions, 1, 100);
  require_range("--shard-clips", shard_clips, 1, 1'000'000);
  require_range("--crf", crf, 0, 51);
  if (format != "files" && format != "webdataset") {
    throw bad_value("--format", "files or webdataset", "'" + format + "'");
  }
  require_writable("--output", output);
}

void EvalWorldOptions::validate() const {
  require_exists("--model", model);
  require_split(split);
  require_range("--prompts", prompts, 2, 1'000'000);
  require_range("--sheet-rows", sheet_rows, 0, 200);
  if (seed < 0) {
    throw bad_value("--seed", "0 or more", std::to_string(seed));
  }
  if (steps < 0) {
    throw bad_value("--steps", "1 or more", std::to_string(steps));
  }
  require_writable("--output", output);
}

}  // namespace kinema::cli
