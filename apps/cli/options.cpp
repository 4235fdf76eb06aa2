// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/options.h"

#include <charconv>
#include <string_view>

#include "apps/cli/value_checks.h"

namespace kinema::cli {
namespace {

bool is_device(std::string_view text) {
  if (text == "auto" || text == "cpu" || text == "cuda") {
    return true;
  }
  if (!text.starts_with("cuda:")) {
    return false;
  }
  text.remove_prefix(5);
  int index = -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), index);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && index >= 0;
}

void check_preview(const std::string& preview, std::int64_t every) {
  if (!preview.empty()) {
    if (!preview.ends_with(".png") && !preview.ends_with(".gif")) {
      throw bad_value("--preview", "a name that ends in .png or .gif", "'" + preview + "'");
    }
    require_writable("--preview", preview);
  }
  if (every < 1) {
    throw bad_value("--preview-every", "1 or more", std::to_string(every));
  }
}

}  // namespace

void CommonOptions::validate() const {
  if (!is_device(device)) {
    throw bad_value("--device", "auto, cpu or cuda:N", "'" + device + "'");
  }
  if (dtype != "auto" && dtype != "fp32" && dtype != "bf16") {
    throw bad_value("--dtype", "auto, fp32 or bf16", "'" + dtype + "'");
  }
  if (threads < 0 || threads > 4096) {
    throw bad_value("--threads", "0 (all cores) to 4096", std::to_string(threads));
  }
  if (quiet && verbose > 0) {
    throw bad_value("-q", "either -q or -v", "both");
  }
}

void EmbedOptions::validate() const {
  if (texts.empty() == prompts_file.empty()) {
    throw bad_value(
        "TEXT",
        "texts on the command line, or --prompts FILE",
        texts.empty() ? "neither" : "both",
        "for example: kinema embed \"a red circle\" --text-encoder DIR -o ctx.safetensors");
  }
  if (!output.ends_with(".safetensors")) {
    throw bad_value("--output", "a name that ends in .safetensors", "'" + output + "'");
  }
  if (max_length < 0 || max_length > 65536) {
    throw bad_value("--max-length", "1 to 65536 tokens", std::to_string(max_length));
  }
  if (batch_size < 1 || batch_size > 4096) {
    throw bad_value("--batch-size", "1 to 4096", std::to_string(batch_size));
  }
  if (clean != "caption" && clean != "lower" && clean != "none") {
    throw bad_value("--clean", "caption, lower or none", "'" + clean + "'");
  }
  require_exists("--text-encoder", text_encoder);
  if (!tokenizer.empty()) {
    require_exists("--tokenizer", tokenizer);
  }
  if (!prompts_file.empty()) {
    require_exists("--prompts", prompts_file);
  }
  require_writable("--output", output);
}

std::pair<std::int64_t, std::int64_t> GenerateOptions::parsed_size() const {
  return parse_size("--size", size);
}

std::vector<std::pair<double, std::string>> GenerateOptions::parsed_scenes() const {
  std::vector<std::pair<double, std::string>> parsed;
  for (const std::string& scene : scenes) {
    double start = 0;
    const char* const end = scene.data() + scene.size();
    const auto result = std::from_chars(scene.data(), end, start);
    if (result.ec != std::errc() || result.ptr == end || *result.ptr != ':' || !(start > 0) ||
        result.ptr + 1 == end) {
      throw bad_value(
          "--scene", "SECONDS:PROMPT, for example 2.5:\"the sun sets\"", "'" + scene + "'");
    }
    parsed.emplace_back(start, std::string(result.ptr + 1, end));
  }
  return parsed;
}

void GenerateOptions::validate() const {
  if (prompt.empty() == prompts_file.empty()) {
    throw bad_value("PROMPT",
                    "a prompt on the command line, or --prompts FILE",
                    prompt.empty() ? "neither" : "both",
                    "for example: kinema generate \"waves at night\" --model DIR -o waves.mp4");
  }
  if (!prompts_file.empty()) {
    require_exists("--prompts", prompts_file);
  }
  if (videos < 1 || videos > 1'000'000) {
    throw bad_value("--videos", "1 to 1000000", std::to_string(videos));
  }
  if (output == "-" && (videos > 1 || !prompts_file.empty())) {
    throw bad_value("--output", "a file, for more than one video", "standard output");
  }
  check_preview(preview, preview_every);
  if (!long_mode.empty() && long_mode != "exact" && long_mode != "fused" &&
      long_mode != "freenoise" && long_mode != "fifo") {
    throw bad_value("--long", "exact, fused, freenoise or fifo", "'" + long_mode + "'");
  }
  if (window < 0 || given_frames < 0) {
    throw bad_value(window < 0 ? "--window" : "--given-frames", "1 or more", "less than 0");
  }
  if (!image.empty() && !video.empty()) {
    throw bad_value("--image", "either --image or --video", "both");
  }
  for (const auto& [option, path] :
       {std::pair("--image", &image), {"--video", &video}, {"--end-video", &end_video}}) {
    if (!path->empty()) {
      require_exists(option, *path);
    }
  }
  static_cast<void>(parsed_scenes());
  if (!size.empty()) {
    static_cast<void>(parsed_size());
  }
  if (frames < 0) {
    throw bad_value("--frames", "1 or more", std::to_string(frames));
  }
  if (frames > 0 && seconds > 0) {
    throw bad_value("--frames", "either --frames or --seconds", "both");
  }
  if (seconds < 0 || fps < 0 || fps > 240) {
    throw bad_value("--fps",
                    "seconds and frames per second above 0",
                    "less, or more than 240 frames per second");
  }
  if (seed < 0) {
    throw bad_value("--seed", "0 or more", std::to_string(seed));
  }
  if (steps < 0 || steps > 10'000) {
    throw bad_value("--steps", "1 to 10000", std::to_string(steps));
  }
  if (model.empty()) {
    throw bad_value("--model",
                    "a model folder",
                    "none",
                    "kinema has no model of its own yet; name a folder with model_index.json");
  }
  require_exists("--model", model);
  if (output.find_first_of("%{") == std::string::npos) {
    require_video_output("--output", output);
  }
}

void ResumeOptions::validate() const {
  check_preview(preview, preview_every);
}

void RerunOptions::validate() const {
  require_exists("FILE", path);
  if (!model.empty()) {
    require_exists("--model", model);
  }
}

}  // namespace kinema::cli
