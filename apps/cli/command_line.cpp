// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/command_line.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>

#include "apps/cli/common_flags.h"
#include "apps/cli/completion.h"
#include "apps/cli/config_file.h"
#include "apps/cli/help.h"
#include "core/base/error.h"

namespace kinema::cli {
namespace {

Error usage_error(std::string code, std::string subject, std::string hint = "") {
  return Error(ErrorKind::kInvalidArgument,
               {.code = std::move(code),
                .place = "cli",
                .subject = std::move(subject),
                .hint = std::move(hint)});
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substitution = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substitution});
    }
  }
  return row.back();
}

// The candidate that a misspelt word most likely meant, or nothing.
std::string closest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  return names;
}

bool takes_value(std::string_view argument) {
  return argument == "--config" || argument == "--device" || argument == "--dtype" ||
         argument == "--threads";
}

// `kinema --json inspect F` means `kinema inspect --json F`, and `kinema vae --json encode` means
// `kinema vae encode --json`: common flags may come first. @return the command that is named, and
// how many words name it.
std::pair<const CLI::App*, std::ptrdiff_t> move_command_to_front(
    const CLI::App& root, std::vector<std::string>& arguments) {
  const CLI::App* command = &root;
  std::ptrdiff_t depth = 0;
  while (!command->get_subcommands({}).empty()) {
    auto at = arguments.begin() + depth;
    while (at != arguments.end() && at->starts_with("-")) {
      at += takes_value(*at) && std::next(at) != arguments.end() ? 2 : 1;
    }
    const CLI::App* sub = at == arguments.end() ? nullptr : find_command(*command, *at);
    if (at != arguments.end()) {
      std::rotate(arguments.begin() + depth, at, at + 1);
    }
    if (sub == nullptr) {
      break;
    }
    command = sub;
    ++depth;
  }
  return {command, depth};
}

Error unknown_command(const CLI::App& group, const std::string& name) {
  const std::string guess = closest(name, command_names(group));
  const std::string where = full_name(group);
  return usage_error(
      "usage.command",
      (name.starts_with("-") ? "unknown option '" : "unknown command '") + name + "'",
      guess.empty() ? "see " + where + " --help" : "did you mean " + where + " " + guess + "?");
}

}  // namespace

struct CommandLine::Impl {
  CLI::App app{"text to video, raw video to training data, a museum of styles", "kinema"};
  Invocation invocation;

  CLI::App* add(const std::string& name, const std::string& summary, Command command) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->callback([this, command] { invocation.command = command; });
    return sub;
  }

  void add_common(CLI::App* sub, bool engine) { add_common_flags(*sub, invocation.common, engine); }

  void add_inspect() {
    auto& options = invocation.inspect;
    CLI::App* sub =
        add("inspect", "Show what a file or model folder is made of", Command::kInspect);
    sub->add_option("path",
                    options.path,
                    "A safetensors file, an index, a model folder, a video or an image")
        ->option_text("FILE")
        ->required();
    sub->add_flag("--tensors", options.tensors, "List every tensor");
    add_common(sub, false);
    sub->footer(
        "  kinema inspect model.safetensors           tensors, types, parameters, metadata\n"
        "  kinema inspect models/opensora --json      components and weights of a model folder\n"
        "  kinema inspect out.mp4                     the request that made a video");
  }

  void add_doctor() {
    CLI::App* sub = add("doctor", "Say what this machine and this build can do", Command::kDoctor);
    sub->add_flag("--full",
                  invocation.doctor.full,
                  "Also load the engine and measure its speed (some seconds)");
    add_common(sub, true);
    sub->footer(
        "  kinema doctor                              processor, memory, disk, libraries, cards\n"
        "  kinema doctor --full --json                with measured matrix rates, for a bug "
        "report");
  }

  void add_embed() {
    auto& options = invocation.embed;
    CLI::App* sub = add("embed",
                        "Encode prompts with a text encoder (T5, UMT5, CLIP) into a file",
                        Command::kEmbed);
    sub->add_option("texts", options.texts, "The prompts")->option_text("TEXT...");
    sub->add_option("-o,--output", options.output, "Where the embeddings go")
        ->option_text("FILE.safetensors")
        ->required();
    sub->add_option(
           "--text-encoder",
           options.text_encoder,
           "Hugging Face folder of the encoder, or a model folder that holds text_encoder/")
        ->option_text("DIR")
        ->required();
    sub->add_option("--tokenizer",
                    options.tokenizer,
                    "Folder or file of the tokenizer (default: in or beside the encoder's folder)")
        ->option_text("PATH");
    sub->add_option("--prompts",
                    options.prompts_file,
                    "File of prompts: one a line, or JSON lines with the key \"prompt\"")
        ->option_text("FILE");
    sub->add_option(
           "--max-length",
           options.max_length,
           "Tokens per prompt, end token included (default: the tokenizer's own, at most 512)")
        ->option_text("N");
    sub->add_option(
           "--clean",
           options.clean,
           "caption (the cleaning that Open-Sora models were trained with), lower (lower case, "
           "trimmed), or none")
        ->option_text("MODE")
        ->capture_default_str();
    sub->add_option("--batch-size", options.batch_size, "Prompts per forward pass")
        ->option_text("N")
        ->capture_default_str();
    add_common(sub, true);
    sub->footer(
        "  kinema embed \"a red circle moves right\" --text-encoder t5-v1_1-xxl -o "
        "ctx.safetensors\n"
        "  kinema embed --prompts prompts.txt --text-encoder opensora --max-length 300 -o "
        "ctx.safetensors\n"
        "  kinema embed \"a cat\" --text-encoder clip-vit-large-patch14 --clean none -o "
        "cat.safetensors\n"
        "\n"
        "The file holds context_BMD [B, M, D], attention_mask [B, M] and input_ids [B, M]; CLIP "
        "adds\n"
        "pooled_BD [B, D]. T5 rows beyond the mask are zero.");
  }

  static void add_preview(CLI::App* sub, std::string& path, std::int64_t& every) {
    sub->add_option(
           "--preview",
           path,
           "Small picture (.png) or animation (.gif) of what is being made, replaced every "
           "few steps")
        ->option_text("FILE");
    sub->add_option("--preview-every", every, "Steps between previews")
        ->option_text("N")
        ->capture_default_str();
  }

  void add_long_video(CLI::App* sub) {
    auto& options = invocation.generate;
    const std::string group = "Long video and given frames";
    sub->add_option("--long",
                    options.long_mode,
                    "exact (all at once), fused (overlapping windows), freenoise or fifo (default: "
                    "exact up to the model's length, then freenoise or fused)")
        ->option_text("MODE")
        ->group(group);
    sub->add_option("--window",
                    options.window,
                    "Frames that the network sees at once (default: the model's length)")
        ->option_text("N")
        ->group(group);
    sub->add_option("--scene",
                    options.scenes,
                    "From this second on another prompt; may be repeated (fused and fifo)")
        ->option_text("SECONDS:PROMPT")
        ->group(group);
    sub->add_option("--image", options.image, "Picture that the video begins with")
        ->option_text("FILE")
        ->group(group);
    sub->add_option("--video", options.video, "Clip that the video begins with: it is continued")
        ->option_text("FILE")
        ->group(group);
    sub->add_option("--end-video",
                    options.end_video,
                    "Clip that the video ends with: what comes before is made; with --video or "
                    "--image what lies between")
        ->option_text("FILE")
        ->group(group);
    sub->add_option("--given-frames",
                    options.given_frames,
                    "Frames of these clips to keep, next to the new ones (default: all)")
        ->option_text("N")
        ->group(group);
  }

  void add_generate() {
    auto& options = invocation.generate;
    CLI::App* sub = add("generate", "Make a video from a prompt", Command::kGenerate);
    sub->add_option("prompt", options.prompt, "What to show")->option_text("PROMPT");
    sub->add_option("--prompts",
                    options.prompts_file,
                    "File of prompts: one a line, or JSON lines with \"prompt\" and other settings")
        ->option_text("FILE");
    sub->add_option(
           "--videos", options.videos, "Videos of each prompt, with the seeds SEED, SEED + 1, ...")
        ->option_text("N");
    sub->add_option(
           "-o,--output",
           options.output,
           "Where it goes: .mp4 .mov .webm .mkv .gif .y4m, a folder/ or name_%05d.png of pictures, "
           "or - for Y4M on stdout; {index}, {seed} and {prompt} in the name of many videos")
        ->option_text("FILE")
        ->required();
    sub->add_option("--model", options.model, "Model folder with model_index.json")
        ->option_text("DIR")
        ->required();
    sub->add_option("--size", options.size, "Pixels, for example 512x288 (default: the model's)")
        ->option_text("WxH");
    sub->add_option("--frames", options.frames, "Number of frames; exactly as many are written")
        ->option_text("N");
    sub->add_option("--seconds", options.seconds, "Length, instead of --frames")->option_text("S");
    sub->add_option("--fps", options.fps, "Frames per second")->option_text("N");
    sub->add_option("--seed", options.seed, "The same seed and request give the same bytes")
        ->option_text("N")
        ->capture_default_str();
    sub->add_option("--steps", options.steps, "Denoising steps")->option_text("N");
    sub->add_option(
           "--sampler",
           options.sampler,
           "rflow, ddpm, iddpm, ddim, dpmpp, unipc, euler or flow-euler (default: the model's)")
        ->option_text("NAME");
    sub->add_option("--guidance", options.guidance, "Guidance scale; 1: none, twice as fast")
        ->option_text("X");
    sub->add_option("--negative", options.negative, "What not to show")->option_text("TEXT");
    add_long_video(sub);
    add_preview(sub, options.preview, options.preview_every);
    sub->add_flag("--dry-run",
                  options.dry_run,
                  "Check everything and print memory, arithmetic and time of each stage");
    sub->add_flag("--restart", options.restart, "Drop an unfinished run of the same output");
    sub->add_flag("--force", options.force, "Start although memory will probably not suffice");
    sub->add_flag(
        "--no-provenance", options.no_provenance, "Do not write the request into the output");
    add_common(sub, true);
    sub->footer(
        "  kinema generate \"a red circle moves right\" --model DIR -o red.mp4\n"
        "  kinema generate \"waves at night\" --model opensora --size 424x240 --seconds 4 -o "
        "waves.mp4\n"
        "  kinema generate \"waves\" --model opensora -o waves.mp4 --dry-run --json\n"
        "  kinema generate \"waves\" --model opensora --videos 4 -o waves-{seed}.mp4 --preview "
        "now.png\n"
        "  kinema generate --prompts ideas.jsonl --model opensora -o \"out/{index}-{prompt}.mp4\"\n"
        "  kinema generate \"a day at sea\" --scene 10:\"the sun sets\" --seconds 20 --long fused "
        "--model opensora -o day.mp4\n"
        "  kinema generate \"it starts to rain\" --video street.mp4 --seconds 8 --model opensora "
        "-o "
        "rain.mp4\n"
        "  kinema generate \"morning to evening\" --video am.mp4 --end-video pm.mp4 --frames 65 "
        "--model opensora -o day.mp4\n"
        "\n"
        "Every finished step is kept in a journal beside the output: `kinema resume waves.mp4` "
        "goes on where\n"
        "a run stopped, a batch of many videos included. The file knows how it was made: `kinema "
        "inspect waves.mp4`, `kinema rerun "
        "waves.mp4`.");
    CLI::App* resume = add("resume", "Go on with a generation that was stopped", Command::kResume);
    resume->add_option("output", invocation.resume.output, "The output of the stopped run")
        ->option_text("OUTPUT")
        ->required();
    add_preview(resume, invocation.resume.preview, invocation.resume.preview_every);
    resume->add_flag("--no-provenance",
                     invocation.resume.no_provenance,
                     "Do not write the request into the output");
    add_common(resume, true);
    resume->footer("  kinema resume waves.mp4");
    CLI::App* rerun =
        add("rerun", "Make a video again from the request inside it", Command::kRerun);
    rerun->add_option("file", invocation.rerun.path, "A video that kinema made")
        ->option_text("FILE")
        ->required();
    rerun->add_option("-o,--output", invocation.rerun.output, "Where it goes")
        ->option_text("FILE")
        ->required();
    rerun
        ->add_option("--model",
                     invocation.rerun.model,
                     "Model folder, where the one in the file is elsewhere")
        ->option_text("DIR");
    add_common(rerun, true);
    rerun->footer("  kinema rerun waves.mp4 -o again.mp4");
  }

  void add_small_commands() {
    CLI::App* completion =
        add("completion", "Print a completion script for bash or zsh", Command::kCompletion);
    completion->add_option("shell", invocation.completion.shell, "bash or zsh")
        ->option_text("SHELL")
        ->required();
    completion->footer(
        "  kinema completion bash > ~/.local/share/bash-completion/completions/kinema\n"
        "  kinema completion zsh > \"${fpath[1]}/_kinema\"");
    CLI::App* help = add("help", "Explain a command", Command::kHelp);
    help->add_option("command", invocation.help.command, "The command to explain")
        ->option_text("COMMAND");
    help->footer("  kinema help embed");
  }

  Impl() {
    app.set_help_flag(
        "");  // handled before CLI11, so that it works beside missing required options
    app.require_subcommand(0, 1);
    add_generate();
    add_embed();
    add_train_commands(app, invocation);
    add_vae_commands(app, invocation);
    add_world_commands(app, invocation);
    add_convert_command(app, invocation);
    add_inspect();
    add_doctor();
    add_small_commands();
    remove_help_flags(app);
  }

  static void remove_help_flags(CLI::App& command) {
    for (CLI::App* sub : command.get_subcommands({})) {
      sub->set_help_flag("");
      remove_help_flags(*sub);
    }
  }

  [[noreturn]] static void rethrow(const CLI::ParseError& error, const CLI::App* sub) {
    const std::string where = full_name(*sub);
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
      for (const auto& argument : sub->remaining()) {
        if (!argument.starts_with("-")) {
          throw usage_error("usage.argument",
                            where + ": one argument too many: '" + argument + "'",
                            "see " + where + " --help");
        }
        const std::string name = argument.substr(0, argument.find('='));
        const std::string guess = closest(name, option_names(*sub));
        throw usage_error(
            "usage.option",
            where + ": unknown option " + name,
            guess.empty() ? "see " + where + " --help" : "did you mean " + guess + "?");
      }
    }
    throw usage_error("usage.arguments", where + ": " + error.what(), "see " + where + " --help");
  }
};

CommandLine::CommandLine() : impl_(std::make_unique<Impl>()) {}
CommandLine::~CommandLine() = default;

Invocation CommandLine::parse(std::vector<std::string> arguments) {
  Invocation& invocation = impl_->invocation;
  const auto [sub, depth] = move_command_to_front(impl_->app, arguments);
  const auto until_separator = std::find(arguments.begin(), arguments.end(), "--");
  const auto given = [&](std::string_view a, std::string_view b) {
    return std::any_of(arguments.begin(), until_separator, [&](const std::string& argument) {
      return argument == a || argument == b;
    });
  };
  const bool is_group = !sub->get_subcommands({}).empty();
  const auto words = static_cast<std::ptrdiff_t>(arguments.size());
  if (given("-h", "--help") || (is_group && words == depth)) {
    invocation.command = Command::kHelp;
    // A word that is no command is explained by help().
    const bool one_more =
        is_group && words > depth && !arguments[static_cast<std::size_t>(depth)].starts_with("-");
    invocation.help.command.assign(arguments.begin(),
                                   arguments.begin() + depth + (one_more ? 1 : 0));
    return invocation;
  }
  if (arguments.front() == "--version" || arguments.front() == "-V") {
    invocation.command = Command::kVersion;
    invocation.common.json = given("--json", "--json");
    return invocation;
  }
  if (is_group) {
    throw unknown_command(*sub, arguments[static_cast<std::size_t>(depth)]);
  }
  merge_config_file(*sub, arguments, depth);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    impl_->app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    Impl::rethrow(error, sub);
  }
  invocation.common.validate();
  return invocation;
}

std::string CommandLine::help(const std::vector<std::string>& command) const {
  const CLI::App* app = &impl_->app;
  for (const auto& name : command) {
    const CLI::App* sub = find_command(*app, name);
    if (sub == nullptr) {
      throw unknown_command(*app, name);
    }
    app = sub;
  }
  return help_text(*app);
}

std::string CommandLine::completion(const std::string& shell) const {
  return completion_script(impl_->app, shell);
}

}  // namespace kinema::cli
