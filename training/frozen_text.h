// SPDX-License-Identifier: Apache-2.0
// A text encoder that is not trained: any that text/ loads, its features kept per caption.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "training/text_tower.h"

#include "core/base/log.h"
#include "core/tensor/tensor.h"
#include "text/text_encoder.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::training {

class FrozenText {
 public:
  /// @param folder  of the encoder.  @param kept_bytes  of features that are remembered.
  FrozenText(const std::string& folder,
             std::shared_ptr<const text::Tokenizer> tokenizer,
             Logger& logger,
             std::size_t kept_bytes = std::size_t{1} << 30);

  /// As TextTowerImpl::encode(), without gradients; equal captions are encoded once.
  [[nodiscard]] TextFeatures encode(const std::vector<std::string>& texts, std::int64_t max_length);

  [[nodiscard]] std::int64_t width() const { return encoder_->info().width; }
  [[nodiscard]] std::size_t num_kept() const { return kept_.size(); }

 private:
  [[nodiscard]] Tensor features_MD(const std::string& caption, std::int64_t max_length);

  std::unique_ptr<text::TextEncoder> encoder_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::size_t kept_bytes_;
  std::size_t num_bytes_ = 0;
  std::map<std::string, Tensor> kept_;  ///< fp32 [M, D] of the tokens that count
};

}  // namespace kinema::training
