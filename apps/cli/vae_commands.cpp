// SPDX-License-Identifier: Apache-2.0
// Flags and help of `kinema vae`.
#include <string>

#include <CLI/CLI.hpp>

#include "apps/cli/common_flags.h"

namespace kinema::cli {
namespace {

constexpr const char* kModelGroup = "Model and memory";
constexpr const char* kClipGroup = "Reading";

void add_model_flags(CLI::App& command, VaeRunOptions& options) {
  command.add_option("--vae", options.vae, "Folder of the autoencoder: config.json, weights")
      ->option_text("DIR")
      ->group(kModelGroup);
  command.add_option("--model", options.model, "Model folder; its vae/ is taken")
      ->option_text("DIR")
      ->group(kModelGroup);
  command
      .add_option("--tile",
                  options.tile,
                  "Work in overlapping tiles of N (or WxH) pixels: less memory, not exact")
      ->option_text("N")
      ->group(kModelGroup);
  command
      .add_option(
          "--tile-overlap", options.tile_overlap, "Part of a tile shared with the next, 0 to 0.5")
      ->option_text("F")
      ->group(kModelGroup);
  command
      .add_flag("--compact-state",
                options.compact_state,
                "Remember past frames as bf16: half the memory of the stream, not exact")
      ->group(kModelGroup);
  command
      .add_option(
          "--state-memory",
          options.state_memory,
          "Keep at most GB of past frames in memory, the rest in a temporary file (default: "
          "4.3)")
      ->option_text("GB")
      ->group(kModelGroup);
  command
      .add_flag("--dry-run", options.dry_run, "Check everything, tell what it takes, do nothing")
      ->group(kModelGroup);
  command.add_flag("--force", options.force, "Start although memory will probably not suffice")
      ->group(kModelGroup);
}

void add_mode_flag(CLI::App& command, VaeRunOptions& options, const std::string& text) {
  command.add_option("--mode", options.mode, text)
      ->option_text("NAME")
      ->capture_default_str()
      ->group(kModelGroup);
}

void add_segment_flags(CLI::App& command, VaeRunOptions& options) {
  command
      .add_option("--segment",
                  options.segment,
                  "Frames of a segment of dm_paper, 1 + 4 k; segments share one frame")
      ->option_text("N")
      ->capture_default_str()
      ->group(kModelGroup);
  command
      .add_option("--merge",
                  options.merge,
                  "What becomes of the shared frame: drop-first (of the later segment) or mean")
      ->option_text("RULE")
      ->capture_default_str()
      ->group(kModelGroup);
}

void add_clip_flags(CLI::App& command, VaeClipOptions& options) {
  command
      .add_option("--size",
                  options.size,
                  "Scale until the picture covers WxH pixels, then cut its centre (default: as it "
                  "is)")
      ->option_text("WxH")
      ->group(kClipGroup);
  command
      .add_option(
          "--fps", options.fps, "Frames per second, taken at their times (default: every frame)")
      ->option_text("N")
      ->group(kClipGroup);
  command.add_option("--frames", options.frames, "Only the first N frames")
      ->option_text("N")
      ->group(kClipGroup);
}

constexpr const char* kModeText =
    "stream (exact, memory independent of length), whole (one shot), or dm_paper (the segments of "
    "xGen-VideoSyn-1)";

CLI::App* add(CLI::App& group,
              Invocation& invocation,
              Command command,
              const std::string& name,
              const std::string& summary) {
  CLI::App* sub = group.add_subcommand(name, summary);
  sub->callback([&invocation, command] { invocation.command = command; });
  return sub;
}

void add_roundtrip(CLI::App& group, Invocation& invocation) {
  VaeRoundtripOptions& options = invocation.vae_roundtrip;
  CLI::App* sub = add(group,
                      invocation,
                      Command::kVaeRoundtrip,
                      "roundtrip",
                      "A video or picture through the autoencoder and back, and what is lost");
  sub->add_option("in", options.input, "A video or picture")->option_text("IN")->required();
  sub->add_option("-o,--output",
                  options.output,
                  "Where the result goes: .mp4 .mov .webm .mkv .gif .y4m, .png for a picture, a "
                  "folder/ of pictures, or - (default: only measure)")
      ->option_text("FILE");
  sub->add_option("--compare", options.compare, "A second video, original and result side by side")
      ->option_text("FILE");
  sub->add_option("--report", options.report, "The numbers of every frame as JSON")
      ->option_text("FILE.json");
  sub->add_flag("--against-exact",
                options.against_exact,
                "With --mode dm_paper: also run the exact stream and measure the seams");
  add_clip_flags(*sub, options.clip);
  add_model_flags(*sub, options.run);
  add_mode_flag(*sub, options.run, kModeText);
  add_segment_flags(*sub, options.run);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema vae roundtrip clip.mp4 -o back.mp4 --vae DIR\n"
      "  kinema vae roundtrip clip.mp4 --vae DIR --compare both.mp4 --report numbers.json\n"
      "  kinema vae roundtrip photo.jpg -o photo_back.png --model opensora\n"
      "  kinema vae roundtrip clip.mp4 --vae DIR --size 256x256 --frames 17 --json\n"
      "  kinema vae roundtrip clip.mp4 --vae DIR --mode dm_paper --against-exact\n"
      "\n"
      "As many frames come out as go in: a count that the model cannot take is filled with the "
      "last "
      "frame and\n"
      "cut again, sides that are no multiples are filled with their edge and cut again; the report "
      "says so.\n"
      "Sound is not kept.");
}

void add_encode(CLI::App& group, Invocation& invocation) {
  VaeEncodeOptions& options = invocation.vae_encode;
  CLI::App* sub = add(group,
                      invocation,
                      Command::kVaeEncode,
                      "encode",
                      "Videos and pictures into latent files, a cache to train on");
  sub->add_option("in", options.inputs, "Videos, pictures, or folders of them")
      ->option_text("IN...");
  sub->add_option("--manifest",
                  options.manifest,
                  "More sources: JSON lines with \"path\" and maybe \"caption\" (other keys are "
                  "carried over), or a text file with one path a line")
      ->option_text("FILE");
  sub->add_option("-o,--output", options.output, "A folder, or one file for one source")
      ->option_text("DIR|FILE.safetensors")
      ->required();
  sub->add_option("--clip-frames",
                  options.clip_frames,
                  "Cut every source into clips of N frames; what is left at the end is dropped")
      ->option_text("N");
  sub->add_option("--store", options.store, "bf16 or fp32 in the files")
      ->option_text("NAME")
      ->capture_default_str();
  sub->add_flag("--overwrite", options.overwrite, "Encode again what is there already");
  add_clip_flags(*sub, options.clip);
  add_model_flags(*sub, options.run);
  add_mode_flag(*sub, options.run, kModeText);
  add_segment_flags(*sub, options.run);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema vae encode clip.mp4 -o clip.safetensors --vae DIR\n"
      "  kinema vae encode clips/ -o cache --vae DIR --size 256x256 --fps 8 --clip-frames 17\n"
      "  kinema vae encode --manifest train.jsonl -o cache --model opensora\n"
      "\n"
      "A file that is there is whole. Run the same command again after a crash or a kill: finished "
      "files are\n"
      "skipped. A source that cannot be read is listed at the end (exit code 3) and does not stop "
      "the others.\n"
      "The folder also gets latents.jsonl, one line per file, with the captions. Files hold the "
      "mean and log\n"
      "variance of the posterior, not in model space (docs/formats.md).");
}

void add_decode(CLI::App& group, Invocation& invocation) {
  VaeDecodeOptions& options = invocation.vae_decode;
  CLI::App* sub =
      add(group, invocation, Command::kVaeDecode, "decode", "A latent file back into a video");
  sub->add_option("in", options.input, "A file of kinema vae encode")
      ->option_text("IN.safetensors")
      ->required();
  sub->add_option("-o,--output",
                  options.output,
                  "Where it goes: .mp4 .mov .webm .mkv .gif .y4m, .png for one picture, a folder/ "
                  "of pictures, or -")
      ->option_text("FILE")
      ->required();
  sub->add_option("--clip", options.clip, "Only this clip of the file, from 0 (default: all)")
      ->option_text("K");
  sub->add_flag("--sample", options.sample, "Draw from the posterior instead of taking its mean");
  sub->add_option("--seed", options.seed, "Of --sample; the same seed gives the same bytes")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--fps", options.fps, "Frames per second (default: the source's)")
      ->option_text("N");
  add_model_flags(*sub, options.run);
  add_mode_flag(*sub, options.run, "stream (exact) or whole (one shot)");
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema vae decode cache/clip.mp4.safetensors -o clip.mp4 --vae DIR\n"
      "  kinema vae decode clip.safetensors -o frames/ --vae DIR --sample --seed 7\n"
      "  kinema vae decode clip.safetensors -o - --vae DIR | ffplay -");
}

void add_seam(CLI::App& group, Invocation& invocation) {
  VaeSeamOptions& options = invocation.vae_seam;
  CLI::App* sub = add(group,
                      invocation,
                      Command::kVaeSeam,
                      "seam",
                      "What the paper's segments change against the exact stream");
  sub->add_option("in", options.input, "A video")->option_text("IN")->required();
  sub->add_option("--report", options.report, "The numbers of every seam and frame as JSON")
      ->option_text("FILE.json");
  add_clip_flags(*sub, options.clip);
  add_model_flags(*sub, options.run);
  add_segment_flags(*sub, options.run);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema vae seam clip.mp4 --vae DIR\n"
      "  kinema vae seam clip.mp4 --vae DIR --segment 17 --merge mean --report seams.json\n"
      "\n"
      "xGen-VideoSyn-1 encodes long video in segments that share one frame with their neighbour. "
      "Both ways are\n"
      "run on the same frames and decoded by the same exact stream.");
}

}  // namespace

void add_vae_commands(CLI::App& root, Invocation& invocation) {
  CLI::App* group =
      root.add_subcommand("vae", "Video through an autoencoder: measure, encode, decode");
  group->require_subcommand(0, 1);
  add_roundtrip(*group, invocation);
  add_encode(*group, invocation);
  add_decode(*group, invocation);
  add_seam(*group, invocation);
  group->footer(
      "  kinema vae roundtrip clip.mp4 -o back.mp4 --vae DIR --compare both.mp4\n"
      "  kinema vae encode clips/ -o cache --vae DIR --size 256x256 --clip-frames 17\n"
      "  kinema vae decode cache/clip.mp4.safetensors -o clip.mp4 --vae DIR\n"
      "  kinema vae seam clip.mp4 --vae DIR");
}

}  // namespace kinema::cli
