// SPDX-License-Identifier: Apache-2.0
// Trains a video diffusion transformer (dit/) together with a small T5-shaped text encoder on clips
// of the synthetic world, as latents of a trained autoencoder that are cached on disk. The result
// is a whole model folder for `kinema generate`.
//
//   DitTraining training({.folder = "runs/dit", .vae = "runs/vae/vae", .tokenizer = "tok"},
//   logger); training.run(/*resume=*/false, progress);       // writes runs/dit/model
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/train/trainer.h"
#include "dit/vdit_config.h"
#include "text/t5_config.h"
#include "vae/autoencoder.h"

namespace kinema::training {

class DitTask;

enum class Objective {
  kRflow,  ///< rectified flow, logit-normal times (arXiv 2403.03206)
  kDdpm,   ///< noise prediction on a linear schedule of 1000 times (arXiv 2006.11239)
};
inline constexpr std::array<std::string_view, 2> kObjectiveNames = {"rflow", "ddpm"};

/// Clips of one size, aspect and length. A batch holds clips of one bucket.
struct BucketSize {
  std::int64_t width = 64;   ///< pixels
  std::int64_t height = 64;  ///< pixels
  std::int64_t frames = 17;
  double weight = 1;  ///< how often it is drawn

  /// "WxHxF" or "WxHxF:WEIGHT". Throws kInvalidArgument [train.value].
  static BucketSize parse(const std::string& text);
  [[nodiscard]] std::string name() const;  ///< "64x64x17"
  bool operator==(const BucketSize&) const = default;
};

struct DitTrainConfig {
  std::string folder{};        ///< of the run; the result is folder/model
  std::string vae;             ///< folder of the autoencoder
  std::string tokenizer;       ///< folder or file
  std::string text_encoder{};  ///< folder of one that stays as it is; empty: a small one is trained
  std::string cache;           ///< folder of latents; empty: folder/latents
  std::uint64_t seed = 0;
  std::vector<BucketSize> buckets = {BucketSize{}};  ///< the first is validated and sampled
  std::int64_t clips = 8192;                         ///< cached, of every bucket
  std::int64_t batch = 32;
  Objective objective = Objective::kRflow;
  std::string network{};     ///< path of a transformer config.json; empty: from the numbers below
  std::int64_t width = 128;  ///< of the transformer
  std::int64_t layers = 5;
  std::int64_t heads = 4;
  std::int64_t text_width = 128;
  std::int64_t text_layers = 2;
  std::int64_t max_length = 48;  ///< prompt tokens
  double text_dropout = 0.1;
  double mask_probability = 0.0;       ///< of samples that are given some frames
  double attribute_weight = 0.1;       ///< of the heads that read the scene from the text
  std::int64_t pretrain_steps = 300;   ///< of the text encoder alone, on attributes
  std::int64_t validation_clips = 64;  ///< for the loss with and without captions
  std::int64_t judged_clips = 16;      ///< samples that are judged; 0: none
  std::int64_t sample_steps = 20;
  double guidance = 3.0;
  bool recompute = false;  ///< of blocks: less memory, a third more time
  train::OptimizerConfig optimizer{};
  train::RunConfig run{};

  /// Throws kInvalidArgument [train.value].
  void validate() const;
  [[nodiscard]] OrderedJson to_json() const;
};

struct DitTrainReport {
  std::string folder{};  ///< of the model
  std::int64_t steps = 0;
  std::int64_t num_parameters = 0;  ///< transformer and text encoder
  Metrics validation;
};

class DitTraining {
 public:
  DitTraining(DitTrainConfig config, Logger& logger);
  ~DitTraining();

  /// As VaeTraining::run().
  DitTrainReport run(bool resume, ProgressObserver& progress);

 private:
  void export_model(DitTask& task);

  DitTrainConfig config_;
  Logger& logger_;
};

}  // namespace kinema::training
