// SPDX-License-Identifier: Apache-2.0
// A small T5-shaped text encoder (text/modules/t5.h) that is trained, with heads that read the
// attributes of a scene from its pooled output. The heads are a teacher of words and are not part
// of the result.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "core/nn/linear.h"
#include "core/tensor/tensor.h"
#include "text/modules/t5.h"
#include "text/tokenizer/tokenizer.h"
#include "world/scene.h"

namespace kinema::training {

struct TextFeatures {
  Tensor context_BMD;  ///< zero where the mask is
  Tensor mask_BM;      ///< int64
  Tensor pooled_BD;    ///< mean of the rows that count
};

/// Classes of an object and its background as the heads see them.
inline constexpr std::int64_t kNumAttributes = 6;
struct SceneLabels {
  std::vector<std::int64_t> classes;  ///< of kNumAttributes
  bool names_size = true;             ///< captions may leave the size out
};
[[nodiscard]] SceneLabels labels_of(const world::Scene& scene, const std::string& caption);

/// Submodules "encoder" (the T5 model) and "head.0" .. "head.5".
class TextTowerImpl final : public torch::nn::Module {
 public:
  TextTowerImpl(const text::T5Config& config, std::shared_ptr<const text::Tokenizer> tokenizer);

  /// Embeddings N(0, 1), matrices as T5 starts them (N(0, 1 / fan in); queries also / K), norms 1.
  void initialise(std::uint64_t seed);

  /// Differentiable. @param max_length  longest prompt in tokens, the end token included.
  [[nodiscard]] TextFeatures encode(const std::vector<std::string>& texts,
                                    std::int64_t max_length) const;

  /// Mean cross-entropy of all attributes, a scalar. Samples with an empty list of classes are left
  /// out. @param correct  if not null, gets the part of attributes that are right.
  [[nodiscard]] Tensor attribute_loss(const Tensor& pooled_BD,
                                      const std::vector<SceneLabels>& labels,
                                      double* correct = nullptr) const;

  /// Writes config.json and model.safetensors as Hugging Face's T5EncoderModel has them.
  void save_to(const std::string& folder) const;

  [[nodiscard]] const text::T5Config& config() const noexcept { return config_; }
  [[nodiscard]] const text::Tokenizer& tokenizer() const noexcept { return *tokenizer_; }

 private:
  text::T5Config config_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  text::T5EncoderModel encoder_{nullptr};
  std::vector<nn::Linear> heads_;
};
TORCH_MODULE(TextTower);

}  // namespace kinema::training
