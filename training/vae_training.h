// SPDX-License-Identifier: Apache-2.0
// Trains a VidVAE (vae/vid_vae.h) on clips: reconstruction by L1, squared error and edges, a small
// KL term, fresh posterior noise, clips of mixed lengths, a part of them as two streamed chunks.
// The result is a folder that vae::Autoencoder loads, with latent shift and scale measured.
//
//   VaeTraining training({.folder = "runs/vae"}, logger);
//   training.run(/*resume=*/false, progress);       // writes runs/vae/vae
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "training/clip_source.h"

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/train/trainer.h"
#include "vae/vid_vae.h"

namespace kinema::training {

struct VaeLossWeights {
  double l1 = 1.0;
  double mse = 2.0;         ///< of values in -1 .. 1
  double gradient = 0.5;    ///< L1 of differences between neighbouring pixels
  double kl = 2e-4;         ///< mean over latent elements
  double perceptual = 0.1;  ///< of PerceptualLoss, where `vgg` is given
  double adversarial = 0;   ///< of the patch discriminator, times adaptive_weight(); 0: none
};

struct VaeTrainConfig {
  std::string folder{};   ///< of the run; the result is folder/vae
  std::string network{};  ///< preset or path of a config.json; see vae_preset()
  std::string data{};     ///< folder or manifest of videos; empty: the synthetic world
  std::string start{};    ///< folder of a VidVAE to go on from; empty: a new network
  std::uint64_t seed = 0;
  std::int64_t size = 64;  ///< pixels, both edges
  std::int64_t batch = 8;
  std::vector<std::int64_t> lengths = {1, 5, 9, 17};  ///< frames of a batch, 1 + k ratio
  std::vector<double> length_weights = {1, 2, 3, 4};  ///< how often each is drawn
  double stream_probability = 0.25;                   ///< of two streamed chunks
  bool freeze_encoder = false;                        ///< train the decoder only
  VaeLossWeights loss{};
  std::string vgg{};                      ///< torchvision's vgg16 as safetensors; empty: none
  std::int64_t adversarial_start = 2000;  ///< first step with the discriminator's pull
  std::int64_t discriminator_base = 32;   ///< channels of its first layer
  std::int64_t validation_clips = 32;
  std::int64_t measured_clips = 256;  ///< for latent shift and scale
  std::string export_dtype = "fp16";  ///< of the weights in the result
  train::OptimizerConfig optimizer{};
  train::RunConfig run{};

  /// Throws kInvalidArgument [train.value].
  void validate() const;
  /// What decides the result, for the checkpoint.
  [[nodiscard]] OrderedJson to_json() const;
};

/// "nano", "tiny", "world" (the small one for synthetic clips), or the path of a config.json.
/// Throws kInvalidArgument [train.network], kIo, kBadCheckpoint.
[[nodiscard]] vae::VidVaeConfig vae_network(const std::string& preset_or_path, Logger& logger);

struct VaeTrainReport {
  std::string folder{};  ///< of the trained autoencoder
  std::int64_t steps = 0;
  double psnr_db = 0;  ///< held-out clips, averaged weights, no posterior noise
  std::int64_t num_parameters = 0;
};

class VaeTraining {
 public:
  VaeTraining(VaeTrainConfig config, Logger& logger);
  ~VaeTraining();

  /// Throws kInvalidArgument [train.unfinished] when the folder holds a run and `resume` is false,
  /// what Trainer throws, kOutput.
  VaeTrainReport run(bool resume, ProgressObserver& progress);

 private:
  class VaeTask;
  void prepare_network();
  void export_model(train::Trainer& trainer, ProgressObserver& progress);

  VaeTrainConfig config_;
  Logger& logger_;
  std::unique_ptr<ClipSource> clips_;
  vae::VidVae network_{nullptr};
};

/// Peak signal to noise ratio of each clip in decibels, values in -1 .. 1: [B].
[[nodiscard]] Tensor psnr_B(const Tensor& video_BCFHW, const Tensor& original_BCFHW);

}  // namespace kinema::training
