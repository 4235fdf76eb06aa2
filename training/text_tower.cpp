// SPDX-License-Identifier: Apache-2.0
#include "training/text_tower.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/file.h"
#include "core/tensor/from_view.h"
#include "core/tensor/noise.h"
#include "text/text_encoder.h"

namespace kinema::training {
namespace {

constexpr std::array<std::int64_t, kNumAttributes> kNumClasses = {
    std::ssize(world::kShapeNames),
    std::ssize(world::kColourNames),
    std::ssize(world::kSizeNames),
    std::ssize(world::kMotionNames),
    std::ssize(world::kColourNames),
    std::ssize(world::kBackgroundNames),
};
constexpr std::size_t kSizeAttribute = 2;
constexpr std::int64_t kIgnored = -100;

}  // namespace

SceneLabels labels_of(const world::Scene& scene, const std::string& caption) {
  const world::Object& object = scene.objects.front();
  SceneLabels labels;
  labels.classes = {static_cast<std::int64_t>(object.shape),
                    object.colour,
                    static_cast<std::int64_t>(object.size),
                    static_cast<std::int64_t>(object.motion),
                    scene.background_colour,
                    static_cast<std::int64_t>(scene.background)};
  labels.names_size = false;
  for (const char* word : {"small", "tiny", "little", "medium", "big ", "large", "huge"}) {
    labels.names_size = labels.names_size || caption.find(word) != std::string::npos;
  }
  return labels;
}

TextTowerImpl::TextTowerImpl(const text::T5Config& config,
                             std::shared_ptr<const text::Tokenizer> tokenizer)
    : config_(config), tokenizer_(std::move(tokenizer)) {
  encoder_ = register_module("encoder", text::T5EncoderModel(config));
  for (std::size_t i = 0; i < kNumClasses.size(); ++i) {
    heads_.push_back(register_module("head_" + std::to_string(i),
                                     nn::Linear(config.d_model, kNumClasses[i], true)));
  }
}

void TextTowerImpl::initialise(std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    const std::string& name = item.key();
    Tensor& parameter = item.value();
    if (parameter.dim() == 1) {
      parameter.fill_(name.ends_with("bias") ? 0.0 : 1.0);
      continue;
    }
    double deviation = 1.0 / std::sqrt(static_cast<double>(parameter.size(1)));
    if (name.ends_with("shared.weight")) {
      deviation = 1.0;
    } else if (name.ends_with(".q.weight")) {
      deviation /= std::sqrt(static_cast<double>(config_.d_kv));
    }
    parameter.copy_(
        tensor::normal_noise_flat({.seed = seed, .name = "init/" + name}, parameter.sizes()) *
        deviation);
  }
}

TextFeatures TextTowerImpl::encode(const std::vector<std::string>& texts,
                                   std::int64_t max_length) const {
  const text::TokenBatch batch = tokenizer_->encode_batch(
      texts, {.max_length = max_length, .padding = text::Padding::kLongest});
  const Tensor ids_BM = at::tensor(batch.input_ids, at::kLong).view({batch.batch, batch.length});
  TextFeatures features;
  features.mask_BM = at::tensor(batch.attention_mask, at::kLong).view(ids_BM.sizes());
  const auto rows = text::PackedRows::from_mask(features.mask_BM);
  features.context_BMD = rows.unpack(encoder_->forward(rows.pack(ids_BM), rows, at::kFloat));
  features.pooled_BD = text::mean_of_tokens(features.context_BMD, features.mask_BM);
  return features;
}

Tensor TextTowerImpl::attribute_loss(const Tensor& pooled_BD,
                                     const std::vector<SceneLabels>& labels,
                                     double* correct) const {
  Tensor loss = at::zeros({}, pooled_BD.options());
  std::int64_t num_right = 0;
  std::int64_t num_asked = 0;
  for (std::size_t a = 0; a < heads_.size(); ++a) {
    std::vector<std::int64_t> classes;
    for (const SceneLabels& scene : labels) {
      const bool asked = !scene.classes.empty() && (a != kSizeAttribute || scene.names_size);
      classes.push_back(asked ? scene.classes[a] : kIgnored);
    }
    const Tensor target_B = at::tensor(classes, at::kLong);
    const Tensor asked_B = target_B != kIgnored;
    const std::int64_t num = asked_B.sum().item<std::int64_t>();
    if (num == 0) {
      continue;
    }
    const Tensor logits = heads_[a]->forward(pooled_BD);
    loss = loss + at::cross_entropy_loss(logits, target_B, {}, at::Reduction::Mean, kIgnored);
    num_right += (logits.argmax(1) == target_B).sum().item<std::int64_t>();
    num_asked += num;
  }
  if (correct != nullptr) {
    *correct = num_asked == 0 ? 0 : static_cast<double>(num_right) / static_cast<double>(num_asked);
  }
  return loss / static_cast<double>(kNumAttributes);
}

void TextTowerImpl::save_to(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  TensorMap weights;
  for (const auto& item : encoder_->named_parameters()) {
    weights[item.key()] = item.value().detach();
  }
  tensor::save_tensors(folder + "/model.safetensors", weights);
  Json json = config_.to_json();
  json["architectures"] = {"T5EncoderModel"};
  write_file(folder + "/config.json", json.dump(2) + "\n");
}

}  // namespace kinema::training
