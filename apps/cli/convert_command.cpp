// SPDX-License-Identifier: Apache-2.0
// Flags and help of `kinema convert`.
#include <filesystem>

#include <CLI/CLI.hpp>

#include "apps/cli/common_flags.h"
#include "apps/cli/value_checks.h"

namespace kinema::cli {

void ConvertOptions::validate() const {
  require_exists("SRC", source);
  for (const auto& [option, path] : {std::pair<const char*, const std::string&>("--vae", vae),
                                     {"--text-encoder", text_encoder},
                                     {"--tokenizer", tokenizer},
                                     {"--scheduler", scheduler}}) {
    if (!path.empty()) {
      require_exists(option, path);
    }
  }
  if (scaling_factor < 0 || image_size < 0) {
    throw bad_value(
        scaling_factor < 0 ? "--scaling-factor" : "--image-size", "above 0", "a number below");
  }
}

void add_convert_command(CLI::App& root, Invocation& invocation) {
  ConvertOptions& options = invocation.convert;
  CLI::App* sub = root.add_subcommand(
      "convert", "Make a model folder from Open-Sora, PixArt or single-file checkpoints");
  sub->callback([&invocation] { invocation.command = Command::kConvert; });
  sub->add_option("src",
                  options.source,
                  "A diffusers folder, the folder of one component, or one safetensors file")
      ->option_text("SRC")
      ->required();
  sub->add_option("-o,--output", options.output, "The model folder; new or empty")
      ->option_text("DIR")
      ->required();
  sub->add_option("--vae", options.vae, "Autoencoder from elsewhere: folder or file")
      ->option_text("PATH");
  sub->add_option("--text-encoder", options.text_encoder, "Text encoder from elsewhere")
      ->option_text("DIR");
  sub->add_option("--tokenizer", options.tokenizer, "Tokenizer from elsewhere")->option_text("DIR");
  sub->add_option("--scheduler", options.scheduler, "Folder with scheduler_config.json")
      ->option_text("DIR");
  sub->add_option("--only", options.only, "Only this component of the source: transformer, vae, …")
      ->option_text("NAME");
  sub->add_option("--scaling-factor",
                  options.scaling_factor,
                  "Of an autoencoder in one file (default: 0.18215, 0.13025 in an SDXL file)")
      ->option_text("X");
  sub->add_option("--image-size",
                  options.image_size,
                  "Pixels of a PixArt file's training pictures, where the file does not say it")
      ->option_text("N");
  add_common_flags(*sub, invocation.common, false);
  sub->footer(
      "  kinema convert OpenSora-STDiT-v3 -o opensora --vae OpenSora-VAE-v1.2 --text-encoder "
      "t5-v1_1-xxl \\\n"
      "      --tokenizer t5-v1_1-xxl\n"
      "  kinema convert PixArt-Sigma-XL-2-512-MS -o pixart\n"
      "  kinema convert vae-ft-mse-840000-ema-pruned.safetensors -o sd-vae\n"
      "  kinema convert sd_xl_base_1.0.safetensors -o sdxl-vae --only vae\n"
      "\n"
      "Every component is loaded once to prove that it fits; what was renamed and what was left "
      "out "
      "is shown,\n"
      "and a tensor that has no place is an error. Files that need no change are hard links where "
      "the disk\n"
      "allows it. Pickle files (*.bin, *.ckpt, *.pt) are not read.");
}

}  // namespace kinema::cli
