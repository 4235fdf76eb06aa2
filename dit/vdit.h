// SPDX-License-Identifier: Apache-2.0
// Video diffusion transformers behind the Denoiser interface.
//
//   const auto dit = VideoDit::load("model/transformer", parse_place("auto", "auto"));
//   const Tensor prediction = dit->predict(latents_BCTHW, timesteps_B, conditioning);
//
// Letters: B batch, C channels, T latent frames, H W latent rows and columns, M text tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/diffusion/denoiser.h"
#include "core/diffusion/windows.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "dit/vdit_config.h"

namespace kinema::dit {

class VDiTImpl;

/// The files of one transformer.
struct ModelFiles {
  std::string config;   ///< config.json
  std::string weights;  ///< safetensors file, index of shards, or a folder that holds either

  /// The usual folder: config.json beside the weights.
  static ModelFiles in(const std::string& folder);
};

/// Facts for reports.
struct VideoDitInfo {
  std::int64_t num_parameters = 0;
  std::int64_t num_weight_bytes = 0;  ///< as kept, mapped files included
  tensor::Place place{};
};

/// How a forward pass is carried out. None of it changes the result.
struct DitExecution {
  /// Frames, and positions of temporal attention, that pass through a layer at once; 0: chosen.
  /// Only the residual stream [B, T, S, D] must fit in memory.
  std::int64_t frame_group = 0;
  std::int64_t position_group = 0;
  /// Batches of prompts whose keys and values stay in memory, newest first; 0: none.
  std::int64_t cached_prompts = 2;
};

/// What a loaded model is for.
enum class Purpose {
  kPredict,  ///< weights stay as they are in the file, mapped from it, read only
  kTrain,    ///< weights in memory of their own, of place.dtype
};

class VideoDit final : public diffusion::Denoiser {
 public:
  /// Loads a folder with config.json and safetensors: kinema's own, hpcai-tech/OpenSora-STDiT-v2-*
  /// and -v3, PixArt-alpha, PixArt-Sigma and Latte in diffusers' format. With kPredict, 16-bit
  /// weights are widened as they are used when place.dtype is fp32. Config keys that kinema does
  /// not know are logged as one warning. Throws kBadCheckpoint [dit.*, config.*, weights.*], kIo
  /// [io.*].
  static std::unique_ptr<VideoDit> load(const std::string& folder,
                                        const tensor::Place& place,
                                        Logger& logger = null_logger(),
                                        Purpose purpose = Purpose::kPredict);
  static std::unique_ptr<VideoDit> load(const ModelFiles& files,
                                        const tensor::Place& place,
                                        Logger& logger = null_logger(),
                                        Purpose purpose = Purpose::kPredict);
  /// A new model with weights of init_weights(seed), ready to train.
  static std::unique_ptr<VideoDit> create(const VDitConfig& config,
                                          std::uint64_t seed,
                                          const tensor::Place& place = {});
  ~VideoDit() override;

  /// Writes config.json and model.safetensors, which load() reads.
  void save(const std::string& folder) const;

  /// See diffusion::Denoiser. float32; no gradients. Keys and values of the prompts are computed
  /// once and kept while the context stays equal and the weights are untouched.
  /// Conditioning::frame_offset changes nothing: positions count from the start of a window, as in
  /// the videos that the models were trained on. Rotary positions act by differences anyway.
  /// Throws kShapeMismatch [tensor.shape], kInvalidArgument [dit.condition, dit.frames].
  [[nodiscard]] Tensor predict(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               const diffusion::Conditioning& conditioning) override;

  /// The unconditional side of guidance: the null caption in place of the text; the mask of the
  /// text stays, so as many rows of the null caption count as the prompt has tokens (Open-Sora).
  /// Throws kInvalidArgument [dit.null_caption] when the model has no null caption or a shorter
  /// one.
  [[nodiscard]] diffusion::Conditioning unconditional(
      const diffusion::Conditioning& conditioning) const;

  /// FreeNoise (arXiv 2310.15169): temporal attention of predict() in windows over the frames,
  /// averaged with triangular weights, so that a longer video than the model was trained on needs
  /// one pass. One window, or none: attention over all frames. Throws kUnsupported
  /// [dit.temporal_windows] where config().has_temporal_windows() is false; predict() throws
  /// kInvalidArgument [dit.frames] for another number of frames than the windows cover.
  void set_temporal_windows(const std::vector<diffusion::Window>& windows);

  void set_execution(const DitExecution& execution);
  [[nodiscard]] const DitExecution& execution() const noexcept;
  /// Drops cached prompts. Needed after changes of the module that are not changes of parameters.
  void forget_prompts();
  [[nodiscard]] std::int64_t prompt_cache_bytes() const noexcept;

  [[nodiscard]] const VDitConfig& config() const noexcept;
  [[nodiscard]] const VideoDitInfo& info() const noexcept;
  /// The module (dit/modules/vdit_model.h), to train it or to attach adapters.
  [[nodiscard]] std::shared_ptr<VDiTImpl> module() const noexcept;

 private:
  struct Impl;
  explicit VideoDit(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinema::dit
