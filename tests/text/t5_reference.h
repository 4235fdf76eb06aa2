// SPDX-License-Identifier: Apache-2.0
// T5 as the formulas say it, straight from a table of weights: padded batches, full [B, N, M, M]
// masks, buckets pair by pair. Slow; the oracle of text/modules/t5.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <ATen/ops/gelu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "core/tensor/tensor.h"
#include "text/t5_config.h"

namespace kinema::test {

class T5Reference {
 public:
  T5Reference(text::T5Config config, TensorMap weights)
      : config_(std::move(config)), weights_(std::move(weights)) {}

  /// @param mask_BM  int64 0 and 1.  @return [B, M, D] fp64; rows at padding are garbage.
  [[nodiscard]] Tensor forward(const Tensor& ids_BM, const Tensor& mask_BM) const {
    const std::int64_t length = ids_BM.size(1);
    Tensor hidden_BMD = weight("shared.weight").index({ids_BM});
    const Tensor hidden_keys = mask_BM.eq(0).to(at::kDouble) * -1e30;
    Tensor bias;
    for (std::int64_t i = 0; i < config_.num_layers; ++i) {
      const std::string block = "encoder.block." + std::to_string(i) + ".layer.";
      const std::string attention = block + "0.SelfAttention.";
      if (i == 0 || config_.per_block_bias) {
        bias = position_bias(weight(attention + "relative_attention_bias.weight"), length);
      }
      const Tensor x = norm(hidden_BMD, block + "0.layer_norm.weight");
      const Tensor q = heads(x, attention + "q.weight");
      const Tensor k = heads(x, attention + "k.weight");
      const Tensor v = heads(x, attention + "v.weight");
      const Tensor logits =
          at::matmul(q, k.transpose(2, 3)) + bias + hidden_keys.unsqueeze(1).unsqueeze(1);
      const Tensor mixed = at::matmul(at::softmax(logits, -1), v).transpose(1, 2).flatten(2);
      hidden_BMD = hidden_BMD + at::matmul(mixed, weight(attention + "o.weight").t());
      const Tensor y = norm(hidden_BMD, block + "1.layer_norm.weight");
      hidden_BMD = hidden_BMD + dense(y, block + "1.DenseReluDense.");
    }
    return norm(hidden_BMD, "encoder.final_layer_norm.weight");
  }

 private:
  [[nodiscard]] Tensor weight(const std::string& name) const {
    return weights_.at(name).to(at::kDouble);
  }

  [[nodiscard]] Tensor norm(const Tensor& x, const std::string& name) const {
    return x / (x.square().mean(-1, true) + config_.layer_norm_epsilon).sqrt() * weight(name);
  }

  [[nodiscard]] Tensor heads(const Tensor& x, const std::string& name) const {
    return at::matmul(x, weight(name).t())
        .view({x.size(0), x.size(1), config_.num_heads, config_.d_kv})
        .transpose(1, 2);
  }

  [[nodiscard]] Tensor dense(const Tensor& x, const std::string& prefix) const {
    const auto act = [this](const Tensor& t) {
      return config_.activation == nn::Activation::kRelu ? at::relu(t) : at::gelu(t, "tanh");
    };
    const Tensor inner = config_.is_gated ? act(at::matmul(x, weight(prefix + "wi_0.weight").t())) *
                                                at::matmul(x, weight(prefix + "wi_1.weight").t())
                                          : act(at::matmul(x, weight(prefix + "wi.weight").t()));
    return at::matmul(inner, weight(prefix + "wo.weight").t());
  }

  [[nodiscard]] std::int64_t bucket(std::int64_t distance) const {
    const std::int64_t half = config_.relative_attention_num_buckets / 2;
    const std::int64_t exact = half / 2;
    const std::int64_t offset = distance > 0 ? half : 0;
    const std::int64_t size = std::abs(distance);
    if (size < exact) {
      return offset + size;
    }
    const float ratio =
        std::log(static_cast<float>(size) / static_cast<float>(exact)) /
        static_cast<float>(std::log(static_cast<double>(config_.relative_attention_max_distance) /
                                    static_cast<double>(exact)));
    const auto far = exact + static_cast<std::int64_t>(ratio * static_cast<float>(half - exact));
    return offset + std::min(far, half - 1);
  }

  [[nodiscard]] Tensor position_bias(const Tensor& table, std::int64_t length) const {
    Tensor bias = at::zeros({config_.num_heads, length, length}, at::kDouble);
    for (std::int64_t query = 0; query < length; ++query) {
      for (std::int64_t key = 0; key < length; ++key) {
        bias.select(1, query).select(1, key).copy_(table[bucket(key - query)]);
      }
    }
    return bias;
  }

  text::T5Config config_;
  TensorMap weights_;
};

}  // namespace kinema::test
