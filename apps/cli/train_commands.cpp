// SPDX-License-Identifier: Apache-2.0
// Flags and help of `kinema train`.
#include <string>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>

#include "apps/cli/common_flags.h"

namespace kinema::cli {
namespace {

/// Adds options with a value to one group of the help.
class Flags {
 public:
  Flags(CLI::App& app, std::string group) : app_(app), group_(std::move(group)) {}

  template <typename T>
  CLI::Option* add(const std::string& name,
                   T& value,
                   const std::string& text,
                   const std::string& description) {
    CLI::Option* option =
        app_.add_option(name, value, description)->option_text(text)->group(group_);
    if constexpr (!std::is_same_v<T, std::string>) {
      option->capture_default_str();
    } else if (!value.empty()) {
      option->capture_default_str();
    }
    return option;
  }
  template <typename T>
  void required(const std::string& name,
                T& value,
                const std::string& text,
                const std::string& description) {
    add(name, value, text, description)->required();
  }
  void flag(const std::string& name, bool& value, const std::string& description) {
    app_.add_flag(name, value, description)->group(group_);
  }

 private:
  CLI::App& app_;
  std::string group_;
};

void add_run_flags(CLI::App& app, TrainRunOptions& run) {
  Flags main(app, "Options");
  main.required(
      "-o,--output", run.output, "DIR", "Folder of the run: checkpoints, metrics, samples, result");
  main.flag("--resume", run.resume, "Go on from the newest checkpoint in the folder");
  main.add("--seed", run.seed, "N", "The same seed gives the same run");
  main.add("--steps", run.steps, "N", "Length of the run; may be changed when it is resumed");
  main.add("--batch", run.batch, "N", "Clips per micro-batch");
  main.add("--accumulate", run.accumulate, "N", "Micro-batches per step");
  Flags optimiser(app, "Optimiser");
  optimiser.add(
      "--optimizer", run.optimizer, "NAME", "muon (matrices by Muon, the rest by AdamW) or adamw");
  optimiser.add("--lr", run.lr, "X", "Learning rate of AdamW");
  optimiser.add("--muon-lr", run.muon_lr, "X", "Learning rate of Muon");
  optimiser.add("--weight-decay", run.weight_decay, "X", "Decoupled decay of matrices and kernels");
  optimiser.add("--beta1", run.beta1, "X", "First moment of AdamW");
  optimiser.add("--beta2", run.beta2, "X", "Second moment of AdamW");
  optimiser.add("--schedule", run.schedule, "NAME", "cosine or constant, after the warm-up");
  optimiser.add("--warmup", run.warmup, "N", "Steps of linear rise");
  optimiser.add("--final-lr", run.final_lr, "X", "Part of the rate that a cosine ends with");
  optimiser.add("--clip", run.clip, "X", "Largest norm of the gradient");
  optimiser.add("--ema", run.ema, "X", "Decay of the averaged weights, which are the result");
  Flags keeping(app, "Log and checkpoints");
  keeping.add("--log-every", run.log_every, "N", "Steps between lines of metrics.jsonl");
  keeping.add(
      "--validate-every", run.validate_every, "N", "Steps between validations; 0: at the end");
  keeping.add("--save-every", run.save_every, "N", "Steps between checkpoints; 0: at the end");
  keeping.add("--keep", run.keep, "N", "Checkpoints that are kept");
}

void add_train_vae_flags(CLI::App& app, TrainVaeOptions& options) {
  add_run_flags(app, options.run);
  Flags model(app, "Model and data");
  model.add(
      "--network", options.network, "NAME", "world, nano, tiny, or the path of a config.json");
  model.add("--data",
            options.data,
            "PATH",
            "Folder of videos, or JSON lines with \"path\"; default: the synthetic world");
  model.add("--start", options.start, "DIR", "Folder of a trained VidVAE to go on from");
  model.flag("--freeze-encoder",
             options.freeze_encoder,
             "Train the decoder only, so that latents stay what they are");
  model.add("--size", options.size, "N", "Edge of the clips in pixels");
  model.add("--lengths", options.lengths, "N...", "Frames of a batch, one of these");
  model.add("--length-weights", options.length_weights, "X...", "How often each length is drawn");
  model.add("--stream-probability",
            options.stream_probability,
            "X",
            "Part of the batches that run as two streamed chunks");
  model.add("--validation-clips", options.validation_clips, "N", "Held-out clips per validation");
  model.add("--measured-clips",
            options.measured_clips,
            "N",
            "Clips that latent shift and scale are measured on");
  model.add(
      "--export-dtype", options.export_dtype, "NAME", "Weights of the result: fp32, fp16 or bf16");
  Flags loss(app, "Loss");
  loss.add("--l1", options.l1, "X", "Weight of the absolute error");
  loss.add("--mse", options.mse, "X", "Weight of the squared error");
  loss.add("--gradient",
           options.gradient,
           "X",
           "Weight of the error of neighbouring pixels' differences");
  loss.add("--kl", options.kl, "X", "Weight of the mean KL divergence of the latents");
  loss.add("--vgg",
           options.vgg,
           "FILE",
           "torchvision's vgg16 as safetensors, for the perceptual loss; rows and columns >= 32");
  loss.add("--perceptual", options.perceptual, "X", "Weight of the perceptual loss");
  loss.add("--adversarial",
           options.adversarial,
           "X",
           "Weight of a 3-D patch discriminator, beside its adaptive weight; 0: none");
  loss.add("--adversarial-start",
           options.adversarial_start,
           "N",
           "Step from which the discriminator trains and pulls");
}

void add_train_dit_flags(CLI::App& app, TrainDitOptions& options) {
  add_run_flags(app, options.run);
  Flags data(app, "Data");
  data.required("--vae", options.vae, "DIR", "Folder of a trained autoencoder");
  data.required("--tokenizer", options.tokenizer, "PATH", "Folder or file of the tokenizer");
  data.add(
      "--cache", options.cache, "DIR", "Where latents are kept (default: in the run's folder)");
  data.add("--clips", options.clips, "N", "Clips that are encoded once and trained on");
  data.add("--buckets",
           options.buckets,
           "WxHxF...",
           "Sizes and lengths of clips; with :X how often each is drawn. The first is validated");
  data.add("--mask-probability",
           options.mask_probability,
           "X",
           "Part of the samples that are given some frames, for image to video and continuation");
  Flags model(app, "Model");
  model.add(
      "--network", options.network, "FILE", "config.json of a transformer, instead of the sizes");
  model.add("--width", options.width, "N", "Width of the transformer");
  model.add("--layers", options.layers, "N", "Its blocks");
  model.add("--heads", options.heads, "N", "Its attention heads");
  model.add("--text-encoder",
            options.text_encoder,
            "DIR",
            "A text encoder that stays as it is (default: a small T5 is trained along)");
  model.add("--text-width", options.text_width, "N", "Width of the text encoder");
  model.add("--text-layers", options.text_layers, "N", "Its blocks");
  model.add("--max-length", options.max_length, "N", "Tokens of the longest prompt");
  model.flag("--recompute",
             options.recompute,
             "Compute blocks again for their gradients: less memory, a third more time");
  Flags objective(app, "Objective");
  objective.add("--objective", options.objective, "NAME", "rflow (rectified flow) or ddpm");
  objective.add(
      "--text-dropout", options.text_dropout, "X", "Part of the captions left empty, for guidance");
  objective.add("--pretrain-steps",
                options.pretrain_steps,
                "N",
                "Steps of the text encoder alone, naming what captions say");
  objective.add("--attribute-weight",
                options.attribute_weight,
                "X",
                "Weight of that loss beside the diffusion loss");
  Flags validation(app, "Validation");
  validation.add("--validation-clips",
                 options.validation_clips,
                 "N",
                 "Held-out clips for the loss with and without captions");
  validation.add("--judged-clips",
                 options.judged_clips,
                 "N",
                 "Samples that the world's judge looks at; 0: none");
  validation.add("--sample-steps",
                 options.sample_steps,
                 "N",
                 "Denoising steps of samples, and of the model's default");
  validation.add(
      "--guidance", options.guidance, "X", "Guidance of samples, and of the model's default");
}

void add_train_captions_flags(CLI::App& app, TrainCaptionsOptions& options) {
  Flags main(app, "Options");
  main.required("-o,--output", options.output, "FILE", "One caption a line");
  main.add("--count", options.count, "N", "Captions");
  main.add("--seed", options.seed, "N", "Of the training run that they are for");
}

}  // namespace

void add_train_commands(CLI::App& root, Invocation& invocation) {
  CLI::App* group = root.add_subcommand("train", "Train the parts of a text-to-video model");
  const auto add = [&](const std::string& name, const std::string& summary, Command command) {
    CLI::App* sub = group->add_subcommand(name, summary);
    sub->callback([&invocation, command] { invocation.command = command; });
    return sub;
  };
  CLI::App* vae =
      add("vae", "Train a video autoencoder on the synthetic world", Command::kTrainVae);
  add_train_vae_flags(*vae, invocation.train_vae);
  add_common_flags(*vae, invocation.common, /*engine=*/true);
  vae->footer(
      "  kinema train vae -o runs/vae --steps 2000\n"
      "  kinema train vae -o runs/vae --steps 4000 --resume     longer, from where it stands\n"
      "  kinema train vae --config vae.toml                     every long option is a key\n"
      "\n"
      "The result is runs/vae/vae. Metrics: runs/vae/metrics.jsonl and TensorBoard events beside "
      "it;\n"
      "pictures of held-out clips: runs/vae/samples. Ctrl-C saves and exits 130; a killed run "
      "loses the\n"
      "steps since its last checkpoint, and on the CPU --resume gives the same numbers as no "
      "interruption.");
  CLI::App* dit = add("dit", "Train a video transformer and its text encoder", Command::kTrainDit);
  add_train_dit_flags(*dit, invocation.train_dit);
  add_common_flags(*dit, invocation.common, /*engine=*/true);
  dit->footer(
      "  kinema train dit --vae runs/vae/vae --tokenizer tokenizer/ -o runs/dit\n"
      "  kinema train dit --config dit.toml --steps 20000 --resume\n"
      "  kinema generate \"a red circle moves right\" --model runs/dit/model -o red.mp4\n"
      "\n"
      "Clips are rendered and encoded once, into runs/dit/latents. Held-out pairs of shape and "
      "colour and of\n"
      "shape and motion never occur in training. The result is the model folder runs/dit/model.");
  CLI::App* captions = add("captions",
                           "Write captions of the synthetic world, for a tokenizer",
                           Command::kTrainCaptions);
  add_train_captions_flags(*captions, invocation.train_captions);
  add_common_flags(*captions, invocation.common, /*engine=*/false);
  captions->footer(
      "  kinema train captions -o captions.txt\n"
      "  scripts/make_world_tokenizer.py captions.txt tokenizer/");
}

}  // namespace kinema::cli
