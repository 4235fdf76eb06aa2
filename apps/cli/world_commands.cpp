// SPDX-License-Identifier: Apache-2.0
// Flags and help of `kinema world` and `kinema eval`.
#include <string>

#include <CLI/CLI.hpp>

#include "apps/cli/common_flags.h"

namespace kinema::cli {
namespace {

constexpr const char* kWorldGroup = "World";

void add_world_flags(CLI::App& command, WorldOptions& options) {
  command.add_option("--size", options.size, "Pixels")
      ->option_text("WxH")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--frames", options.frames, "Frames of a clip")
      ->option_text("N")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--fps", options.fps, "Frames per second")
      ->option_text("N")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--objects", options.objects, "Objects in a scene, at most 3")
      ->option_text("N|N-M")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--gradients", options.gradients, "Share of backgrounds with a gradient")
      ->option_text("P")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--textures", options.textures, "Share of striped and checkered backgrounds")
      ->option_text("P")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--shadows", options.shadows, "Share of scenes with soft shadows")
      ->option_text("P")
      ->capture_default_str()
      ->group(kWorldGroup);
  command
      .add_option(
          "--split",
          options.split,
          "all, seen (no held-out pair of shape and colour or shape and motion) or held-out")
      ->option_text("NAME")
      ->capture_default_str()
      ->group(kWorldGroup);
  command.add_option("--seed", options.seed, "Another seed is another world")
      ->option_text("N")
      ->capture_default_str()
      ->group(kWorldGroup);
}

CLI::App* add(CLI::App& group,
              Invocation& invocation,
              Command command,
              const std::string& name,
              const std::string& summary) {
  CLI::App* sub = group.add_subcommand(name, summary);
  sub->callback([&invocation, command] { invocation.command = command; });
  return sub;
}

void add_render(CLI::App& group, Invocation& invocation) {
  WorldRenderOptions& options = invocation.world_render;
  CLI::App* sub = add(group, invocation, Command::kWorldRender, "render", "One scene as a video");
  sub->add_option("index", options.index, "Number of the scene")
      ->option_text("INDEX")
      ->capture_default_str();
  sub->add_option("-o,--output",
                  options.output,
                  "Where it goes: .mp4 .mov .webm .mkv .gif .y4m, a folder/ of pictures, or -")
      ->option_text("FILE")
      ->required();
  sub->add_option("--truth", options.truth, "Also write what is in the scene, frame by frame")
      ->option_text("FILE.json");
  sub->add_option("--caption", options.variant, "Number of the caption that is printed")
      ->option_text("K")
      ->capture_default_str();
  add_world_flags(*sub, options.world);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema world render 42 -o scene.mp4 --truth scene.json\n"
      "  kinema world render 7 -o big.mp4 --size 512x512 --frames 49 --fps 24 --objects 2-3 "
      "--shadows 1\n"
      "\n"
      "A scene is a function of the options, the seed and its number: the same call gives the same "
      "video.");
}

void add_show(CLI::App& group, Invocation& invocation) {
  WorldShowOptions& options = invocation.world_show;
  CLI::App* sub = add(group,
                      invocation,
                      Command::kWorldShow,
                      "show",
                      "Captions of scenes, and a picture of them with a row each");
  sub->add_option("-o,--output", options.output, "Picture with a row per scene")
      ->option_text("FILE.png");
  sub->add_option("--first", options.first, "Number of the first scene")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--count", options.count, "Scenes")->option_text("N")->capture_default_str();
  sub->add_option("--columns", options.columns, "Frames of each scene in the picture")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--caption", options.variant, "Number of the caption; each is worded anew")
      ->option_text("K")
      ->capture_default_str();
  add_world_flags(*sub, options.world);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema world show --count 20\n"
      "  kinema world show -o scenes.png --objects 1-3 --textures 0.5 --shadows 0.5\n"
      "  kinema world show --split held-out --json       with the whole truth");
}

void add_export(CLI::App& group, Invocation& invocation) {
  WorldExportOptions& options = invocation.world_export;
  CLI::App* sub = add(
      group, invocation, Command::kWorldExport, "export", "A data set of captioned clips on disk");
  sub->add_option("-o,--output", options.output, "Folder: new, empty, or unfinished")
      ->option_text("DIR")
      ->required();
  sub->add_option("--count", options.count, "Clips")->option_text("N")->capture_default_str();
  sub->add_option("--first", options.first, "Number of the first scene")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--captions", options.captions, "Captions per clip")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--format",
                  options.format,
                  "files (clips/ and manifest.jsonl) or webdataset (tar shards of mp4, txt, json)")
      ->option_text("NAME")
      ->capture_default_str();
  sub->add_option("--shard-clips", options.shard_clips, "Clips per shard")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--crf", options.crf, "H.264 quality, smaller is better, 0 to 51")
      ->option_text("N")
      ->capture_default_str();
  add_world_flags(*sub, options.world);
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema world export -o clips --count 20000 --captions 4\n"
      "  kinema world export -o shards --count 100000 --format webdataset --split seen\n"
      "\n"
      "Run the same command again after a crash or a kill: finished clips and shards are kept. "
      "--threads says\n"
      "how many clips are rendered at a time; the bytes do not depend on it.");
}

void add_eval_world(CLI::App& group, Invocation& invocation) {
  EvalWorldOptions& options = invocation.eval_world;
  CLI::App* sub = add(group,
                      invocation,
                      Command::kEvalWorld,
                      "world",
                      "Does a model of the synthetic world show what the prompt says?");
  sub->add_option("--model", options.model, "Model folder")->option_text("DIR")->required();
  sub->add_option("-o,--output", options.output, "Folder of the report: new, or unfinished")
      ->option_text("DIR")
      ->required();
  sub->add_option("--prompts", options.prompts, "Videos that are made and judged")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--split", options.split, "seen, held-out or all combinations")
      ->option_text("NAME")
      ->capture_default_str();
  sub->add_option("--seed", options.seed, "Of the prompts and of the noise")
      ->option_text("N")
      ->capture_default_str();
  sub->add_option("--steps", options.steps, "Denoising steps (default: the model's)")
      ->option_text("N");
  sub->add_option("--guidance", options.guidance, "Guidance scale (default: the model's)")
      ->option_text("X");
  sub->add_option("--sampler", options.sampler, "Sampler (default: the model's)")
      ->option_text("NAME");
  sub->add_option("--sheet-rows", options.sheet_rows, "Videos on the picture; 0: no picture")
      ->option_text("N")
      ->capture_default_str();
  add_common_flags(*sub, invocation.common, true);
  sub->footer(
      "  kinema eval world --model models/world -o report\n"
      "  kinema eval world --model models/world -o report-seen --split seen --prompts 1000 --json\n"
      "\n"
      "The judge goes by rules on pixels, not by a network. Its own accuracy on rendered truth, "
      "the "
      "truth through\n"
      "the autoencoder (the ceiling) and the videos against shuffled prompts (chance) stand beside "
      "the model's.\n"
      "Killed? The same command goes on: finished latents are kept in the folder.");
}

}  // namespace

void add_world_commands(CLI::App& root, Invocation& invocation) {
  CLI::App* world =
      root.add_subcommand("world", "The synthetic world: captioned videos of moving shapes");
  world->require_subcommand(0, 1);
  add_render(*world, invocation);
  add_show(*world, invocation);
  add_export(*world, invocation);
  CLI::App* eval = root.add_subcommand("eval", "Judge a model");
  eval->require_subcommand(0, 1);
  add_eval_world(*eval, invocation);
}

}  // namespace kinema::cli
