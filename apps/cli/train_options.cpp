// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/train_options.h"

#include <filesystem>
#include <utility>

#include <unistd.h>

#include "apps/cli/value_checks.h"
#include "core/base/error.h"

namespace kinema::cli {
namespace {

namespace fs = std::filesystem;

void require_word(std::string_view option,
                  const std::string& word,
                  const std::string& a,
                  const std::string& b) {
  if (word != a && word != b) {
    throw bad_value(option, a + " or " + b, "'" + word + "'");
  }
}

template <typename T>
void require_range(std::string_view option, T value, T low, T high) {
  if (!(value >= low && value <= high)) {
    throw bad_value(
        option, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
  }
}

void require_folder(const std::string& path) {
  const std::string parent = fs::path(fs::absolute(path).lexically_normal()).parent_path().string();
  std::error_code failed;
  const bool is_file = fs::exists(path, failed) && !fs::is_directory(path, failed);
  if (is_file || (!fs::is_directory(path, failed) && ::access(parent.c_str(), W_OK) != 0)) {
    throw Error(ErrorKind::kOutput,
                {.code = "output.unwritable",
                 .place = "cli",
                 .subject = "--output " + path,
                 .expected = "a folder, or a name for one in a folder that can be written",
                 .got = is_file ? "a file" : "no such place"});
  }
}

}  // namespace

void TrainRunOptions::validate() const {
  require_folder(output);
  require_range<std::int64_t>("--seed", seed, 0, INT64_MAX);
  require_range<std::int64_t>("--steps", steps, 1, 1'000'000'000);
  require_range<std::int64_t>("--batch", batch, 1, 65536);
  require_range<std::int64_t>("--accumulate", accumulate, 1, 65536);
  require_word("--optimizer", optimizer, "muon", "adamw");
  require_word("--schedule", schedule, "cosine", "constant");
  require_range("--lr", lr, 0.0, 100.0);
  require_range("--muon-lr", muon_lr, 0.0, 100.0);
  require_range("--weight-decay", weight_decay, 0.0, 100.0);
  require_range("--beta1", beta1, 0.0, 0.999999);
  require_range("--beta2", beta2, 0.0, 0.999999);
  require_range("--final-lr", final_lr, 0.0, 1.0);
  require_range("--ema", ema, 0.0, 1.0);
  require_range("--clip", clip, 1e-9, 1e9);
  require_range<std::int64_t>("--warmup", warmup, 0, 1'000'000'000);
  require_range<std::int64_t>("--log-every", log_every, 1, 1'000'000'000);
  require_range<std::int64_t>("--validate-every", validate_every, 0, 1'000'000'000);
  require_range<std::int64_t>("--save-every", save_every, 0, 1'000'000'000);
  require_range<std::int64_t>("--keep", keep, 1, 1000);
}

void TrainVaeOptions::validate() const {
  run.validate();
  require_range<std::int64_t>("--size", size, 16, 4096);
  require_range("--stream-probability", stream_probability, 0.0, 1.0);
  require_range<std::int64_t>("--validation-clips", validation_clips, 1, 100'000);
  require_range<std::int64_t>("--measured-clips", measured_clips, 1, 1'000'000);
  if (lengths.empty() || lengths.size() != length_weights.size()) {
    throw bad_value("--length-weights",
                    "as many as --lengths, which has " + std::to_string(lengths.size()),
                    std::to_string(length_weights.size()));
  }
  if (!data.empty()) {
    require_exists("--data", data);
  }
  if (!start.empty()) {
    require_exists("--start", start);
  }
  if (!vgg.empty()) {
    require_exists("--vgg", vgg);
  }
  require_range("--perceptual", perceptual, 0.0, 1e6);
  require_range("--adversarial", adversarial, 0.0, 1e6);
  require_range<std::int64_t>("--adversarial-start", adversarial_start, 0, 1'000'000'000);
  if (export_dtype != "fp32" && export_dtype != "fp16" && export_dtype != "bf16") {
    throw bad_value("--export-dtype", "fp32, fp16 or bf16", "'" + export_dtype + "'");
  }
}

TrainDitOptions::TrainDitOptions() {
  run.batch = 32;
  run.lr = 1.5e-3;
  run.steps = 10'000;
  run.validate_every = 500;
}

void TrainDitOptions::validate() const {
  run.validate();
  require_exists("--vae", vae);
  require_exists("--tokenizer", tokenizer);
  if (!text_encoder.empty()) {
    require_exists("--text-encoder", text_encoder);
  }
  if (!network.empty()) {
    require_exists("--network", network);
  }
  require_word("--objective", objective, "rflow", "ddpm");
  require_range<std::int64_t>("--clips", clips, 1, 100'000'000);
  require_range<std::int64_t>("--width", width, 8, 16384);
  require_range<std::int64_t>("--layers", layers, 1, 1024);
  require_range<std::int64_t>("--heads", heads, 1, 1024);
  require_range<std::int64_t>("--text-width", text_width, 4, 16384);
  require_range<std::int64_t>("--text-layers", text_layers, 1, 1024);
  require_range<std::int64_t>("--max-length", max_length, 2, 4096);
  require_range("--text-dropout", text_dropout, 0.0, 1.0);
  require_range("--mask-probability", mask_probability, 0.0, 1.0);
  require_range("--attribute-weight", attribute_weight, 0.0, 1e6);
  require_range<std::int64_t>("--pretrain-steps", pretrain_steps, 0, 1'000'000);
  require_range<std::int64_t>("--validation-clips", validation_clips, 1, 100'000);
  require_range<std::int64_t>("--judged-clips", judged_clips, 0, 100'000);
  require_range<std::int64_t>("--sample-steps", sample_steps, 1, 1000);
  require_range("--guidance", guidance, 0.0, 100.0);
}

void TrainCaptionsOptions::validate() const {
  require_range<std::int64_t>("--count", count, 1, 100'000'000);
  require_range<std::int64_t>("--seed", seed, 0, INT64_MAX);
}

}  // namespace kinema::cli
