// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/vae_options.h"

#include <charconv>
#include <filesystem>

#include "apps/cli/value_checks.h"

namespace kinema::cli {
namespace {

namespace fs = std::filesystem;

void require_file(const std::string& name, const std::string& path) {
  require_exists(name, path);
  if (fs::is_directory(path)) {
    throw bad_value(name, "a file", "the folder " + path);
  }
}

void refuse_two_on_stdout(bool json, const std::string& output) {
  if (json && output == "-") {
    throw bad_value("--json", "a result on stdout, or a video with -o -", "both");
  }
}

void require_fps(double fps) {
  if (!(fps >= 0) || fps > 1000) {
    throw bad_value("--fps", "above 0, at most 1000 frames per second", std::to_string(fps));
  }
}

}  // namespace

std::pair<std::int64_t, std::int64_t> VaeRunOptions::parsed_tile() const {
  if (tile.empty()) {
    return {0, 0};
  }
  if (tile.find('x') != std::string::npos) {
    return parse_size("--tile", tile);
  }
  std::int64_t side = 0;
  const auto result = std::from_chars(tile.data(), tile.data() + tile.size(), side);
  if (result.ec != std::errc() || result.ptr != tile.data() + tile.size() || side < 1) {
    throw bad_value("--tile", "N or WIDTHxHEIGHT in pixels, for example 512", "'" + tile + "'");
  }
  return {side, side};
}

void VaeRunOptions::validate() const {
  if (model.empty() == vae.empty()) {
    throw bad_value("--vae",
                    "--vae DIR (an autoencoder) or --model DIR (a model folder)",
                    model.empty() ? "neither" : "both");
  }
  require_exists(model.empty() ? "--vae" : "--model", model.empty() ? vae : model);
  if (mode != "stream" && mode != "whole" && mode != "dm_paper") {
    throw bad_value("--mode", "stream, whole or dm_paper", "'" + mode + "'");
  }
  if (merge != "drop-first" && merge != "mean") {
    throw bad_value("--merge", "drop-first or mean", "'" + merge + "'");
  }
  if (segment < 2 || segment > 100'000) {
    throw bad_value("--segment", "frames of a segment, for example 5", std::to_string(segment));
  }
  static_cast<void>(parsed_tile());
  if (!(state_memory >= 0) || state_memory > 1e6) {
    throw bad_value("--state-memory", "GB above 0", std::to_string(state_memory));
  }
  if (tile_overlap > 0.5 || (tile_overlap < 0 && tile_overlap != -1)) {
    throw bad_value("--tile-overlap", "0 to 0.5", std::to_string(tile_overlap));
  }
}

void VaeClipOptions::validate() const {
  if (!size.empty()) {
    static_cast<void>(parse_size("--size", size));
  }
  require_fps(fps);
  if (frames < 0) {
    throw bad_value("--frames", "1 or more", std::to_string(frames));
  }
}

void VaeRoundtripOptions::validate(bool json) const {
  run.validate();
  clip.validate();
  require_file("IN", input);
  if (!output.empty()) {
    require_video_output("--output", output);
  }
  if (!compare.empty()) {
    require_video_output("--compare", compare);
  }
  if (!report.empty()) {
    require_writable("--report", report);
  }
  if (against_exact && run.mode != "dm_paper") {
    throw bad_value("--against-exact", "--mode dm_paper, which it measures", "--mode " + run.mode);
  }
  if (output == "-" && compare == "-") {
    throw bad_value("--compare", "one video on stdout", "two");
  }
  refuse_two_on_stdout(json, output);
  refuse_two_on_stdout(json, compare);
}

void VaeSeamOptions::validate() const {
  run.validate();
  clip.validate();
  require_file("IN", input);
  if (!report.empty()) {
    require_writable("--report", report);
  }
}

void VaeEncodeOptions::validate() const {
  run.validate();
  clip.validate();
  if (inputs.empty() && manifest.empty()) {
    throw bad_value("IN",
                    "videos, pictures or folders, or --manifest FILE",
                    "neither",
                    "for example: kinema vae encode clips/ --vae DIR -o cache");
  }
  for (const auto& input : inputs) {
    require_exists("IN", input);
  }
  if (!manifest.empty()) {
    require_file("--manifest", manifest);
  }
  if (store != "bf16" && store != "fp32") {
    throw bad_value("--store", "bf16 or fp32", "'" + store + "'");
  }
  if (clip_frames < 0) {
    throw bad_value("--clip-frames", "1 or more", std::to_string(clip_frames));
  }
  if (output.ends_with(".safetensors") && !fs::is_directory(output)) {
    require_writable("--output", output);
  }
}

void VaeDecodeOptions::validate(bool json) const {
  run.validate();
  require_file("IN", input);
  require_video_output("--output", output);
  require_fps(fps);
  if (seed < 0) {
    throw bad_value("--seed", "0 or more", std::to_string(seed));
  }
  if (run.mode == "dm_paper") {
    throw bad_value("--mode", "stream or whole: segments are a way to encode", "dm_paper");
  }
  refuse_two_on_stdout(json, output);
}

}  // namespace kinema::cli
