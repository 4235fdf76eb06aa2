// SPDX-License-Identifier: Apache-2.0
// Options of `kinema train`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kinema::cli {

/// What every trainer takes.
struct TrainRunOptions {
  std::string output;  ///< folder of the run
  bool resume = false;
  std::int64_t seed = 0;
  std::int64_t steps = 1000;
  std::int64_t batch = 8;
  std::int64_t accumulate = 1;
  std::string optimizer = "muon";
  double lr = 1e-3;
  double muon_lr = 0.02;
  double weight_decay = 0.01;
  double beta1 = 0.9;
  double beta2 = 0.95;
  std::string schedule = "cosine";
  std::int64_t warmup = 50;
  double final_lr = 0.1;
  double clip = 1.0;
  double ema = 0.999;
  std::int64_t log_every = 10;
  std::int64_t validate_every = 200;
  std::int64_t save_every = 200;
  std::int64_t keep = 2;

  /// Throws kInvalidArgument [usage.value], kOutput.
  void validate() const;
};

struct TrainVaeOptions {
  TrainRunOptions run;
  std::string network = "world";
  std::string data;   ///< folder or manifest of videos
  std::string start;  ///< folder of an autoencoder to go on from
  std::int64_t size = 64;
  std::vector<std::int64_t> lengths = {1, 5, 9, 17};
  std::vector<double> length_weights = {1, 2, 3, 4};
  double stream_probability = 0.25;
  bool freeze_encoder = false;
  double l1 = 1.0;
  double mse = 2.0;
  double gradient = 0.5;
  double kl = 2e-4;
  std::string vgg;
  double perceptual = 0.1;
  double adversarial = 0.0;
  std::int64_t adversarial_start = 2000;
  std::int64_t validation_clips = 32;
  std::int64_t measured_clips = 256;
  std::string export_dtype = "fp16";

  void validate() const;
};

struct TrainDitOptions {
  TrainDitOptions();

  TrainRunOptions run;
  std::string vae;           ///< folder of a trained autoencoder
  std::string tokenizer;     ///< folder or file
  std::string text_encoder;  ///< folder of one that stays as it is
  std::string cache;         ///< folder of latents; empty: in the run's
  std::vector<std::string> buckets = {"64x64x17"};
  std::int64_t clips = 8192;
  std::string objective = "rflow";
  std::string network;  ///< path of a transformer config.json
  std::int64_t width = 128;
  std::int64_t layers = 5;
  std::int64_t heads = 4;
  std::int64_t text_width = 128;
  std::int64_t text_layers = 2;
  std::int64_t max_length = 48;
  double text_dropout = 0.1;
  double mask_probability = 0.0;
  double attribute_weight = 0.1;
  std::int64_t pretrain_steps = 300;
  std::int64_t validation_clips = 64;
  std::int64_t judged_clips = 16;
  std::int64_t sample_steps = 20;
  double guidance = 3.0;
  bool recompute = false;

  void validate() const;
};

struct TrainCaptionsOptions {
  std::string output;  ///< text file, one caption a line
  std::int64_t count = 20'000;
  std::int64_t seed = 0;

  void validate() const;
};

}  // namespace kinema::cli
