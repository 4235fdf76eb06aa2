// SPDX-License-Identifier: Apache-2.0
#include "training/frozen_text.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

namespace kinema::training {

FrozenText::FrozenText(const std::string& folder,
                       std::shared_ptr<const text::Tokenizer> tokenizer,
                       Logger& logger,
                       std::size_t kept_bytes)
    : encoder_(text::TextEncoder::load(folder, {}, logger)),
      tokenizer_(std::move(tokenizer)),
      kept_bytes_(kept_bytes) {}

TextFeatures FrozenText::encode(const std::vector<std::string>& texts, std::int64_t max_length) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> rows;
  std::int64_t longest = 1;
  for (const std::string& caption : texts) {
    rows.push_back(features_MD(caption, max_length));
    longest = std::max(longest, rows.back().size(0));
  }
  const auto count = std::ssize(texts);
  TextFeatures features;
  features.context_BMD = at::zeros({count, longest, width()});
  features.mask_BM = at::zeros({count, longest}, at::kLong);
  for (std::int64_t b = 0; b < count; ++b) {
    const Tensor& row_MD = rows[static_cast<std::size_t>(b)];
    features.context_BMD[b].narrow(0, 0, row_MD.size(0)).copy_(row_MD);
    features.mask_BM[b].narrow(0, 0, row_MD.size(0)).fill_(1);
  }
  features.pooled_BD = text::mean_of_tokens(features.context_BMD, features.mask_BM);
  return features;
}

Tensor FrozenText::features_MD(const std::string& caption, std::int64_t max_length) {
  const auto found = kept_.find(caption);
  if (found != kept_.end()) {
    return found->second;
  }
  const std::vector<text::TokenId> ids = tokenizer_->encode_truncated(caption, max_length);
  const Tensor ids_BM = at::tensor(ids, at::kLong).unsqueeze(0);
  const Tensor context_MD = encoder_->encode(ids_BM).context_BMD[0].to(at::kFloat).clone();
  const auto bytes = static_cast<std::size_t>(context_MD.nbytes());
  if (num_bytes_ + bytes <= kept_bytes_) {
    num_bytes_ += bytes;
    kept_.emplace(caption, context_MD);
  }
  return context_MD;
}

}  // namespace kinema::training
