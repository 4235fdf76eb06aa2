// SPDX-License-Identifier: Apache-2.0
// One transformer and one text encoder in training: the loss of a step, the loss on held-out clips
// with and without their captions, and samples that the world's judge looks at.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "training/clip_source.h"
#include "training/dit_training.h"
#include "training/frozen_text.h"
#include "training/latent_cache.h"
#include "training/text_tower.h"
#include <torch/nn/module.h>

#include "core/diffusion/denoiser.h"
#include "core/train/trainer.h"
#include "dit/vdit.h"
#include "vae/autoencoder.h"
#include "world/judge.h"

namespace kinema::training {

class DitTask final : public train::Task {
 public:
  /// @param text  is trained; empty where `frozen` takes its place.
  DitTask(const DitTrainConfig& config,
          std::unique_ptr<dit::VideoDit> transformer,
          TextTower text,
          std::unique_ptr<FrozenText> frozen,
          const vae::Autoencoder& vae);

  /// Trains the text encoder alone to name the attributes of scenes from their captions.
  void pretrain_text(ProgressObserver& progress, Logger& logger);
  /// Encodes the clips that are missing in the cache.
  void open_cache(const std::string& vae_identity, ProgressObserver& progress);

  [[nodiscard]] Tensor loss(std::int64_t step, std::int64_t micro, Metrics& parts) override;
  [[nodiscard]] Metrics validate(std::int64_t finished_steps) override;

  /// Latents [B, C, T, H, W] in model space for prompts, by the configured steps and guidance.
  [[nodiscard]] Tensor sample(const std::vector<std::string>& prompts, std::uint64_t seed) const;

  /// "transformer.*" and "text.*".
  [[nodiscard]] torch::nn::Module& module() { return *both_; }
  [[nodiscard]] dit::VideoDit& transformer() { return *transformer_; }
  /// Null with a frozen encoder.
  [[nodiscard]] TextTowerImpl* text() { return text_.is_empty() ? nullptr : text_.get(); }

  /// Muon for hidden matrices; embeddings, tables, first and last layers by AdamW.
  [[nodiscard]] static train::ParameterRules rules();

 private:
  struct Prompts {
    std::vector<std::string> texts;
    std::vector<SceneLabels> labels;
  };
  /// Clips of one size with their latents.
  struct Bucket {
    BucketSize size{};
    std::unique_ptr<WorldClips> clips;  ///< without the held-out pairs
    LatentCache cache;
    std::int64_t epoch = -1;
    Tensor order_N;  ///< of the clips in this epoch
  };
  [[nodiscard]] TextFeatures encode(const std::vector<std::string>& texts) const;
  [[nodiscard]] Bucket& bucket_of(std::int64_t number);
  [[nodiscard]] diffusion::Conditioning conditioning(const TextFeatures& text,
                                                     const BucketSize& size) const;
  [[nodiscard]] Tensor indices_of(Bucket& bucket, std::int64_t number) const;
  [[nodiscard]] Prompts prompts_of(const Bucket& bucket,
                                   const Tensor& indices_B,
                                   std::int64_t number) const;
  [[nodiscard]] Tensor diffusion_loss(const Tensor& x0_BCTHW,
                                      const TextFeatures& text,
                                      const BucketSize& size,
                                      const std::string& stream,
                                      std::int64_t first_time,
                                      const Tensor& frame_mask_BT) const;
  [[nodiscard]] Metrics judge(std::int64_t finished_steps) const;

  const DitTrainConfig& config_;
  const vae::Autoencoder& vae_;
  std::unique_ptr<dit::VideoDit> transformer_;
  TextTower text_;
  std::unique_ptr<FrozenText> frozen_;
  std::shared_ptr<torch::nn::Module> both_;
  std::vector<Bucket> buckets_;  ///< the first is validated
  Tensor validation_NCTHW_;
  std::vector<std::string> validation_captions_;
  std::vector<double> alphas_cumprod_;
};

}  // namespace kinema::training
