// SPDX-License-Identifier: Apache-2.0
#include "vae/sd_vae.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "core/nn/linear.h"
#include "core/tensor/load_weights.h"
#include "vae/image_blocks.h"
#include "vae/mid_attention.h"

namespace kinema::vae {
namespace {

constexpr double kNormEps = 1e-6;

nn::Conv2d conv2d(std::int64_t in,
                  std::int64_t out,
                  std::int64_t kernel,
                  const nn::ParameterOptions& parameters) {
  return nn::Conv2d(nn::Conv2dOptions{.in_channels = in,
                                      .out_channels = out,
                                      .kernel = {kernel, kernel},
                                      .padding = {kernel / 2, kernel / 2}},
                    parameters);
}

/// "group_norm", "to_q", "to_k", "to_v", "to_out.0"; residual inside.
class AttentionImpl final : public torch::nn::Module {
 public:
  AttentionImpl(std::int64_t channels, std::int64_t groups, const nn::ParameterOptions& p)
      : norm_(register_module("group_norm", nn::GroupNorm(groups, channels, kNormEps, p))),
        query_(register_module("to_q", nn::Linear(channels, channels, true, p))),
        key_(register_module("to_k", nn::Linear(channels, channels, true, p))),
        value_(register_module("to_v", nn::Linear(channels, channels, true, p))),
        output_(register_module("to_out", torch::nn::ModuleList())) {
    output_->push_back(nn::Linear(channels, channels, true, p));
  }

  [[nodiscard]] Tensor forward(const Tensor& x_NCHW) const {
    const auto& output = *output_->ptr<nn::LinearImpl>(0);
    const AttentionWeights weights = {{query_->weight, query_->bias},
                                      {key_->weight, key_->bias},
                                      {value_->weight, value_->bias},
                                      {output.weight, output.bias}};
    return nn::add_consume(image_attention(norm_->forward(x_NCHW), weights), x_NCHW);
  }

 private:
  nn::GroupNorm norm_;
  nn::Linear query_;
  nn::Linear key_;
  nn::Linear value_;
  torch::nn::ModuleList output_;
};
TORCH_MODULE(Attention);

/// "resnets.0", "attentions.0", "resnets.1".
class MidBlockImpl final : public torch::nn::Module {
 public:
  MidBlockImpl(std::int64_t channels, const SdVaeConfig& config, const nn::ParameterOptions& p)
      : resnets_(register_module("resnets", torch::nn::ModuleList())) {
    for (int i = 0; i < 2; ++i) {
      resnets_->push_back(
          ResBlock2d(ResBlockOptions{channels, channels, config.norm_num_groups}, p));
    }
    if (config.mid_block_add_attention) {
      attentions_ = register_module("attentions", torch::nn::ModuleList());
      attentions_->push_back(Attention(channels, config.norm_num_groups, p));
    }
  }

  [[nodiscard]] Tensor forward(Tensor x) const {
    x = resnets_->ptr<ResBlock2dImpl>(0)->forward(std::move(x));
    if (!attentions_.is_empty()) {
      x = attentions_->ptr<AttentionImpl>(0)->forward(x);
    }
    return resnets_->ptr<ResBlock2dImpl>(1)->forward(std::move(x));
  }

 private:
  torch::nn::ModuleList resnets_;
  torch::nn::ModuleList attentions_{nullptr};
};
TORCH_MODULE(MidBlock);

/// One level: "resnets.*", then "downsamplers.0" or "upsamplers.0" where the size changes.
template <typename Resample>
class LevelImpl final : public torch::nn::Module {
 public:
  LevelImpl(std::int64_t in,
            std::int64_t out,
            std::int64_t num_blocks,
            const char* resample_name,
            bool resamples,
            const SdVaeConfig& config,
            const nn::ParameterOptions& p)
      : resnets_(register_module("resnets", torch::nn::ModuleList())) {
    for (std::int64_t j = 0; j < num_blocks; ++j) {
      resnets_->push_back(
          ResBlock2d(ResBlockOptions{j == 0 ? in : out, out, config.norm_num_groups}, p));
    }
    if (resamples) {
      resample_ = register_module(resample_name, torch::nn::ModuleList());
      resample_->push_back(torch::nn::ModuleHolder<Resample>(out, p));
    }
  }

  [[nodiscard]] Tensor forward(Tensor x) const {
    for (std::size_t j = 0; j < resnets_->size(); ++j) {
      x = resnets_->ptr<ResBlock2dImpl>(j)->forward(std::move(x));
    }
    return resample_.is_empty() ? x : resample_->ptr<Resample>(0)->forward(x);
  }

 private:
  torch::nn::ModuleList resnets_;
  torch::nn::ModuleList resample_{nullptr};
};

using DownLevelImpl = LevelImpl<Downsample2dImpl>;
TORCH_MODULE(DownLevel);
using UpLevelImpl = LevelImpl<Upsample2dImpl>;
TORCH_MODULE(UpLevel);

class EncoderImpl final : public torch::nn::Module {
 public:
  EncoderImpl(const SdVaeConfig& c, const nn::ParameterOptions& p)
      : conv_in_(
            register_module("conv_in", conv2d(c.in_channels, c.block_out_channels.front(), 3, p))),
        down_(register_module("down_blocks", torch::nn::ModuleList())),
        mid_(register_module("mid_block", MidBlock(c.block_out_channels.back(), c, p))),
        norm_out_(register_module(
            "conv_norm_out",
            nn::GroupNorm(c.norm_num_groups, c.block_out_channels.back(), kNormEps, p))),
        conv_out_(register_module(
            "conv_out", conv2d(c.block_out_channels.back(), 2 * c.latent_channels, 3, p))) {
    const auto& widths = c.block_out_channels;
    for (std::size_t l = 0; l < widths.size(); ++l) {
      down_->push_back(DownLevel(widths[l == 0 ? 0 : l - 1],
                                 widths[l],
                                 c.layers_per_block,
                                 "downsamplers",
                                 l + 1 < widths.size(),
                                 c,
                                 p));
    }
  }

  [[nodiscard]] Tensor forward(Tensor x) const {
    x = conv_in_->forward(x);
    for (std::size_t l = 0; l < down_->size(); ++l) {
      x = down_->ptr<DownLevelImpl>(l)->forward(std::move(x));
    }
    x = mid_->forward(std::move(x));
    x = norm_out_->forward_silu_consume(std::move(x), nn::NormScope::kFrame);
    return conv_out_->forward(x);
  }

 private:
  nn::Conv2d conv_in_;
  torch::nn::ModuleList down_;
  MidBlock mid_;
  nn::GroupNorm norm_out_;
  nn::Conv2d conv_out_;
};
TORCH_MODULE(Encoder);

class DecoderImpl final : public torch::nn::Module {
 public:
  DecoderImpl(const SdVaeConfig& c, const nn::ParameterOptions& p)
      : conv_in_(register_module("conv_in",
                                 conv2d(c.latent_channels, c.block_out_channels.back(), 3, p))),
        mid_(register_module("mid_block", MidBlock(c.block_out_channels.back(), c, p))),
        up_(register_module("up_blocks", torch::nn::ModuleList())),
        norm_out_(register_module(
            "conv_norm_out",
            nn::GroupNorm(c.norm_num_groups, c.block_out_channels.front(), kNormEps, p))),
        conv_out_(register_module("conv_out",
                                  conv2d(c.block_out_channels.front(), c.out_channels, 3, p))) {
    const std::vector<std::int64_t> widths(c.block_out_channels.rbegin(),
                                           c.block_out_channels.rend());
    for (std::size_t l = 0; l < widths.size(); ++l) {
      up_->push_back(UpLevel(widths[l == 0 ? 0 : l - 1],
                             widths[l],
                             c.layers_per_block + 1,
                             "upsamplers",
                             l + 1 < widths.size(),
                             c,
                             p));
    }
  }

  [[nodiscard]] Tensor forward(Tensor x) const {
    x = conv_in_->forward(x);
    x = mid_->forward(std::move(x));
    for (std::size_t l = 0; l < up_->size(); ++l) {
      x = up_->ptr<UpLevelImpl>(l)->forward(std::move(x));
    }
    x = norm_out_->forward_silu_consume(std::move(x), nn::NormScope::kFrame);
    return conv_out_->forward(x);
  }

 private:
  nn::Conv2d conv_in_;
  MidBlock mid_;
  torch::nn::ModuleList up_;
  nn::GroupNorm norm_out_;
  nn::Conv2d conv_out_;
};
TORCH_MODULE(Decoder);

}  // namespace

struct SdVaeImpl::Parts {
  Encoder encoder{nullptr};
  Decoder decoder{nullptr};
  nn::Conv2d quant_conv{nullptr};
  nn::Conv2d post_quant_conv{nullptr};
};

SdVaeImpl::SdVaeImpl(const SdVaeConfig& config, const nn::ParameterOptions& p)
    : config_(config), parts_(std::make_unique<Parts>()) {
  const std::int64_t latents = config.latent_channels;
  parts_->encoder = register_module("encoder", Encoder(config, p));
  parts_->decoder = register_module("decoder", Decoder(config, p));
  if (config.use_quant_conv) {
    parts_->quant_conv = register_module("quant_conv", conv2d(2 * latents, 2 * latents, 1, p));
  }
  if (config.use_post_quant_conv) {
    parts_->post_quant_conv = register_module("post_quant_conv", conv2d(latents, latents, 1, p));
  }
}

SdVaeImpl::~SdVaeImpl() = default;

Tensor SdVaeImpl::encode(const Tensor& x_NCHW) const {
  const Tensor moments = parts_->encoder->forward(x_NCHW);
  return config_.use_quant_conv ? parts_->quant_conv->forward(moments) : moments;
}

Tensor SdVaeImpl::decode(const Tensor& z_NCHW) const {
  return parts_->decoder->forward(
      config_.use_post_quant_conv ? parts_->post_quant_conv->forward(z_NCHW) : z_NCHW);
}

}  // namespace kinema::vae
