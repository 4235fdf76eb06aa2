// SPDX-License-Identifier: Apache-2.0
// What the user asked for: one plain struct per command, filled by CommandLine, checked by
// validate().
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/train_options.h"
#include "apps/cli/vae_options.h"
#include "apps/cli/world_options.h"

namespace kinema::cli {

/// Options that every command takes.
struct CommonOptions {
  bool json = false;            ///< one JSON object on stdout, nothing else there
  bool json_progress = false;   ///< JSON lines of progress on stderr
  bool quiet = false;           ///< errors only
  std::int64_t verbose = 0;     ///< 1: debug messages
  std::string config;           ///< TOML file, already merged when parsing is done
  std::string device = "auto";  ///< auto, cpu, cuda:N
  std::string dtype = "auto";   ///< auto, fp32, bf16
  std::int64_t threads = 0;     ///< 0: all cores

  /// Throws kInvalidArgument [usage.value].
  void validate() const;
};

struct InspectOptions {
  std::string path;
  bool tensors = false;  ///< list every tensor
};

struct DoctorOptions {
  bool full = false;  ///< also load the engine and measure it
};

struct CompletionOptions {
  std::string shell;
};

struct HelpOptions {
  std::vector<std::string> command;
};

struct EmbedOptions {
  std::vector<std::string> texts;
  std::string prompts_file;       ///< one prompt a line, or JSONL with "prompt"
  std::string output;             ///< *.safetensors
  std::string text_encoder;       ///< folder with config.json and weights, or a model folder
  std::string tokenizer;          ///< empty: beside the encoder
  std::int64_t max_length = 0;    ///< tokens; 0: what the tokenizer's files say, at most 512
  std::string clean = "caption";  ///< caption, lower, none
  std::int64_t batch_size = 8;

  /// Everything that can be known in milliseconds: values, inputs that exist, an output that can be
  /// written. Throws kInvalidArgument, kIo, kOutput.
  void validate() const;
};

struct GenerateOptions {
  std::string prompt;
  std::string output;
  std::string model;  ///< model folder
  std::string negative;
  std::string size;         ///< "WxH"; empty: the model's
  std::int64_t frames = 0;  ///< 0: from seconds, else the model's
  double seconds = 0;
  double fps = 0;
  std::int64_t seed = 0;
  std::int64_t steps = 0;
  std::string sampler;
  double guidance = -1;      ///< below 0: the model's
  std::string prompts_file;  ///< instead of `prompt`
  std::int64_t videos = 1;   ///< of each prompt, with seeds seed, seed + 1, ...
  std::string preview;       ///< *.png or *.gif
  std::int64_t preview_every = 5;
  std::string long_mode;            ///< exact, fused, freenoise, fifo; empty: chosen
  std::int64_t window = 0;          ///< frames
  std::vector<std::string> scenes;  ///< "SECONDS:PROMPT"
  std::string image;
  std::string video;
  std::string end_video;
  std::int64_t given_frames = 0;
  bool dry_run = false;
  bool restart = false;  ///< drop an unfinished run of the same output
  bool force = false;    ///< start although memory will not suffice
  bool no_provenance = false;

  void validate() const;
  /// Throws kInvalidArgument [usage.value].
  [[nodiscard]] std::vector<std::pair<double, std::string>> parsed_scenes() const;
  /// width and height of `size`. Throws kInvalidArgument [usage.value].
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> parsed_size() const;
};

struct ResumeOptions {
  std::string output;
  std::string preview;
  std::int64_t preview_every = 5;
  bool no_provenance = false;

  void validate() const;
};

struct RerunOptions {
  std::string path;
  std::string output;
  std::string model;  ///< instead of the one that the file names
  void validate() const;
};

struct ConvertOptions {
  std::string source;
  std::string output;
  std::string vae;
  std::string text_encoder;
  std::string tokenizer;
  std::string scheduler;
  std::string only;
  double scaling_factor = 0;    ///< 0: as the file implies
  std::int64_t image_size = 0;  ///< 0: as the file says
  void validate() const;
};

enum class Command {
  kNone,
  kHelp,
  kVersion,
  kInspect,
  kDoctor,
  kCompletion,
  kEmbed,
  kGenerate,
  kResume,
  kRerun,
  kVaeRoundtrip,
  kVaeEncode,
  kVaeDecode,
  kVaeSeam,
  kConvert,
  kWorldRender,
  kWorldShow,
  kWorldExport,
  kEvalWorld,
  kTrainVae,
  kTrainDit,
  kTrainCaptions,
};

/// One parsed command line.
struct Invocation {
  Command command = Command::kNone;
  CommonOptions common;
  HelpOptions help;
  InspectOptions inspect;
  DoctorOptions doctor;
  CompletionOptions completion;
  EmbedOptions embed;
  GenerateOptions generate;
  ResumeOptions resume;
  RerunOptions rerun;
  VaeRoundtripOptions vae_roundtrip;
  VaeEncodeOptions vae_encode;
  VaeDecodeOptions vae_decode;
  VaeSeamOptions vae_seam;
  ConvertOptions convert;
  WorldRenderOptions world_render;
  WorldShowOptions world_show;
  WorldExportOptions world_export;
  EvalWorldOptions eval_world;
  TrainVaeOptions train_vae;
  TrainDitOptions train_dit;
  TrainCaptionsOptions train_captions;
};

}  // namespace kinema::cli
