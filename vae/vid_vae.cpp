// SPDX-License-Identifier: Apache-2.0
#include "vae/vid_vae.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <torch/nn/modules/container/modulelist.h>

#include "core/nn/conv.h"
#include "vae/image_blocks.h"
#include "vae/linear_shortcut.h"
#include "vae/mid_attention.h"
#include "vae/time_resample.h"

namespace kinema::vae {
namespace {

using nn::NormScope;
using nn::ParameterOptions;

/// Kernel edge 3 or 1, same size in space.
CausalConv3d causal(std::int64_t in,
                    std::int64_t out,
                    std::int64_t kernel,
                    const VidVaeConfig& c,
                    const ParameterOptions& p) {
  const std::int64_t pad = kernel / 2;
  return CausalConv3d(nn::Conv3dOptions{.in_channels = in,
                                        .out_channels = out,
                                        .kernel = {kernel, kernel, kernel},
                                        .padding = {0, pad, pad}},
                      c.pad_time,
                      p);
}

class ResBlock3dImpl final : public torch::nn::Module {
 public:
  ResBlock3dImpl(std::int64_t in,
                 std::int64_t out,
                 const VidVaeConfig& c,
                 const ParameterOptions& p)
      : scope_(c.norm_scope),
        norm1_(register_module("norm1", nn::GroupNorm(c.groups, in, c.norm_eps, p))),
        conv1_(register_module("conv1", causal(in, out, 3, c, p))),
        norm2_(register_module("norm2", nn::GroupNorm(c.groups, out, c.norm_eps, p))),
        conv2_(register_module("conv2", causal(out, out, 3, c, p))) {
    if (in != out) {
      shortcut_ = register_module("nin_shortcut", causal(in, out, 1, c, p));
    }
  }

  /// x is used up when no gradient is wanted.
  [[nodiscard]] Tensor forward(Tensor x, StreamState* stream) const {
    // Where x is not the shortcut itself, the norm may work in place.
    const bool widens = !shortcut_.is_empty();
    Tensor shortcut = widens ? shortcut_->forward(x, nullptr) : x;
    Tensor h = widens ? norm1_->forward_silu_consume(std::move(x), scope_)
                      : norm1_->forward_silu(x, scope_);
    x.reset();
    h = conv1_->forward(h, stream);
    return conv2_->forward_consume(std::move(h), *norm2_, scope_, std::move(shortcut), stream);
  }

 private:
  NormScope scope_;
  nn::GroupNorm norm1_;
  CausalConv3d conv1_;
  nn::GroupNorm norm2_;
  CausalConv3d conv2_;
  CausalConv3d shortcut_{nullptr};
};
TORCH_MODULE(ResBlock3d);

class AttentionImpl final : public torch::nn::Module {
 public:
  AttentionImpl(std::int64_t channels, const VidVaeConfig& c, const ParameterOptions& p)
      : scope_(c.norm_scope),
        kind_(c.mid_attn),
        norm_(register_module("norm", nn::GroupNorm(c.groups, channels, c.norm_eps, p))),
        query_(register_module("q", causal(channels, channels, 1, c, p))),
        key_(register_module("k", causal(channels, channels, 1, c, p))),
        value_(register_module("v", causal(channels, channels, 1, c, p))),
        output_(register_module("proj_out", causal(channels, channels, 1, c, p))) {}

  [[nodiscard]] Tensor forward(const Tensor& x) const {
    const auto matrix = [](const CausalConv3d& layer) -> Projection {
      const Tensor& weight = layer->conv->weight;
      return {weight.view({weight.size(0), weight.size(1)}), layer->conv->bias};
    };
    const AttentionWeights weights = {
        matrix(query_), matrix(key_), matrix(value_), matrix(output_)};
    const Tensor normed = norm_->forward(x, scope_);
    if (kind_ == MidAttention::kOspLegacy) {
      return nn::add_consume(mixed_attention(normed, weights), x);
    }
    const Tensor frames = image_attention(nn::fold_frames(normed), weights);
    return nn::add_consume(nn::unfold_frames(frames, x.size(0)), x);
  }

 private:
  NormScope scope_;
  MidAttention kind_;
  nn::GroupNorm norm_;
  CausalConv3d query_;
  CausalConv3d key_;
  CausalConv3d value_;
  CausalConv3d output_;
};
TORCH_MODULE(Attention);

class MidBlockImpl final : public torch::nn::Module {
 public:
  MidBlockImpl(std::int64_t channels, const VidVaeConfig& c, const ParameterOptions& p)
      : block_1_(register_module("block_1", ResBlock3d(channels, channels, c, p))),
        attention_(register_module("attn_1", Attention(channels, c, p))),
        block_2_(register_module("block_2", ResBlock3d(channels, channels, c, p))) {}

  [[nodiscard]] Tensor forward(Tensor x, StreamState* stream) const {
    x = block_1_->forward(std::move(x), stream);
    x = attention_->forward(x);
    return block_2_->forward(std::move(x), stream);
  }

 private:
  ResBlock3d block_1_;
  Attention attention_;
  ResBlock3d block_2_;
};
TORCH_MODULE(MidBlock);

/// "conv.conv.*": halves rows and columns, with kJoint time as well.
class SpaceDown3dImpl final : public torch::nn::Module {
 public:
  SpaceDown3dImpl(std::int64_t channels, bool joint, TimePadding padding, const ParameterOptions& p)
      : conv_(register_module("conv",
                              CausalConv3d(nn::Conv3dOptions{.in_channels = channels,
                                                             .out_channels = channels,
                                                             .kernel = {joint ? 3 : 1, 3, 3},
                                                             .stride = {joint ? 2 : 1, 2, 2}},
                                           padding,
                                           p))) {}

  [[nodiscard]] Tensor forward(const Tensor& x, StreamState* stream) const {
    return conv_->forward(pad_right_bottom(x), stream);
  }

 private:
  CausalConv3d conv_;
};
TORCH_MODULE(SpaceDown3d);

/// "conv.conv.*": doubles rows and columns, with kJoint time as well.
class SpaceUp3dImpl final : public torch::nn::Module {
 public:
  SpaceUp3dImpl(std::int64_t channels, bool joint, TimePadding padding, const ParameterOptions& p)
      : joint_(joint),
        conv_(register_module("conv",
                              CausalConv3d(nn::Conv3dOptions{.in_channels = channels,
                                                             .out_channels = channels,
                                                             .kernel = {joint ? 3 : 1, 3, 3},
                                                             .padding = {0, 1, 1}},
                                           padding,
                                           p))) {}

  [[nodiscard]] Tensor forward(const Tensor& x, StreamState* stream) const {
    if (joint_) {
      return conv_->forward(interpolate_joint(x), stream);
    }
    return conv_->conv->forward_doubled(x);
  }

 private:
  bool joint_;
  CausalConv3d conv_;
};
TORCH_MODULE(SpaceUp3d);

/// "block.*", "downsample", "time_downsample".
class DownLevelImpl final : public torch::nn::Module {
 public:
  DownLevelImpl(std::int64_t level, const VidVaeConfig& c, const ParameterOptions& p)
      : padding_(c.pad_time),
        is_3d_(c.conv3d_levels_enc[static_cast<std::size_t>(level)]),
        time_(c.time_down[static_cast<std::size_t>(level)]),
        blocks_(register_module("block", torch::nn::ModuleList())) {
    const std::int64_t out = c.width(level);
    for (std::int64_t j = 0; j < c.res_blocks; ++j) {
      add_block(j == 0 ? c.width(std::max<std::int64_t>(level - 1, 0)) : out, out, c, p);
    }
    if (time_ == TimeDown::kJoint) {
      down_3d_ = register_module("downsample", SpaceDown3d(out, true, c.pad_time, p));
    } else if (level + 1 < c.num_levels()) {
      if (c.space_down[static_cast<std::size_t>(level)] == SpaceDown::kFrame) {
        down_2d_ = register_module("downsample", Downsample2d(out, p));
      } else {
        down_3d_ = register_module("downsample", SpaceDown3d(out, false, c.pad_time, p));
      }
    }
    if (time_ == TimeDown::kMix) {
      mixed_ = register_module("time_downsample", MixedTimeDown(out, c.pad_time, p));
    }
  }

  /// Everything before time is halved, which is causal with stride 1.
  [[nodiscard]] Tensor forward_blocks(Tensor x, StreamState* stream) const {
    for (std::size_t j = 0; j < blocks_->size(); ++j) {
      if (is_3d_) {
        x = blocks_->ptr<ResBlock3dImpl>(j)->forward(std::move(x), stream);
      } else {
        x = nn::unfold_frames(blocks_->ptr<ResBlock2dImpl>(j)->forward(nn::fold_frames(x)),
                              x.size(0));
      }
    }
    if (time_ == TimeDown::kJoint) {
      return x;
    }
    if (!down_2d_.is_empty()) {
      return nn::unfold_frames(down_2d_->forward(nn::fold_frames(x)), x.size(0));
    }
    return down_3d_.is_empty() ? x : down_3d_->forward(x, nullptr);
  }

  [[nodiscard]] Tensor forward_time(const Tensor& x, StreamState* stream) const {
    switch (time_) {
      case TimeDown::kNone:
        return x;
      case TimeDown::kPool:
        return pool_time(x, padding_, next_state(stream));
      case TimeDown::kMix:
        return mixed_->forward(x, stream);
      case TimeDown::kJoint:
        return down_3d_->forward(x, stream);
    }
    return x;
  }

  [[nodiscard]] bool halves_time() const noexcept { return time_ != TimeDown::kNone; }

 private:
  void add_block(std::int64_t in,
                 std::int64_t out,
                 const VidVaeConfig& c,
                 const ParameterOptions& p) {
    if (is_3d_) {
      blocks_->push_back(ResBlock3d(in, out, c, p));
    } else {
      blocks_->push_back(ResBlock2d(
          ResBlockOptions{in, out, c.groups, c.norm_eps, /*shortcut_name=*/"nin_shortcut"}, p));
    }
  }

  TimePadding padding_;
  bool is_3d_;
  TimeDown time_;
  torch::nn::ModuleList blocks_;
  Downsample2d down_2d_{nullptr};
  SpaceDown3d down_3d_{nullptr};
  MixedTimeDown mixed_{nullptr};
};
TORCH_MODULE(DownLevel);

/// "block.*", "upsample", "time_upsample".
class UpLevelImpl final : public torch::nn::Module {
 public:
  UpLevelImpl(std::int64_t level, const VidVaeConfig& c, const ParameterOptions& p)
      : time_(c.time_up[static_cast<std::size_t>(level)]),
        blocks_(register_module("block", torch::nn::ModuleList())) {
    const std::int64_t out = c.width(level);
    const std::int64_t above = c.width(std::min(level + 1, c.num_levels() - 1));
    for (std::int64_t j = 0; j <= c.res_blocks; ++j) {
      blocks_->push_back(ResBlock3d(j == 0 ? above : out, out, c, p));
    }
    if (level > 0) {
      up_ = register_module("upsample", SpaceUp3d(out, time_ == TimeUp::kJoint, c.pad_time, p));
    }
    if (time_ == TimeUp::kMix) {
      mixed_ = register_module("time_upsample", MixedTimeUp(out, c.pad_time, p));
    }
  }

  [[nodiscard]] Tensor forward(Tensor x, StreamState* stream) const {
    x = forward_blocks(std::move(x), stream);
    x = forward_space(x, stream);
    return forward_time(x, stream);
  }

  [[nodiscard]] Tensor forward_blocks(Tensor x, StreamState* stream) const {
    for (std::size_t j = 0; j < blocks_->size(); ++j) {
      x = blocks_->ptr<ResBlock3dImpl>(j)->forward(std::move(x), stream);
    }
    return x;
  }

  [[nodiscard]] Tensor forward_space(const Tensor& x, StreamState* stream) const {
    return up_.is_empty() ? x : up_->forward(x, stream);
  }

  [[nodiscard]] Tensor forward_time(const Tensor& x, StreamState* stream) const {
    switch (time_) {
      case TimeUp::kRepeat:
        return repeat_time(x, next_state(stream));
      case TimeUp::kLinear:
        return interpolate_time(x);
      case TimeUp::kMix:
        return mixed_->forward(x);
      case TimeUp::kNone:
      case TimeUp::kJoint:
        break;
    }
    return x;
  }

  [[nodiscard]] bool doubles_time() const noexcept { return time_ != TimeUp::kNone; }

 private:
  TimeUp time_;
  torch::nn::ModuleList blocks_;
  SpaceUp3d up_{nullptr};
  MixedTimeUp mixed_{nullptr};
};
TORCH_MODULE(UpLevel);

/// Frames go one by one only with a stream, and only where chunks are exact.
bool runs_by_frame(const StreamState* stream, bool is_exact) {
  return stream != nullptr && is_exact && !c10::GradMode::is_enabled();
}

/// Runs layers that are causal with stride 1 on one frame after the other, which needs the memory
/// of one frame instead of the whole chunk.
template <typename Layers>
Tensor frame_by_frame(const Tensor& x, StreamState* stream, bool allowed, const Layers& layers) {
  if (!runs_by_frame(stream, allowed) || x.size(2) == 1) {
    return layers(x);
  }
  const std::size_t start = stream->position();
  std::vector<Tensor> outputs;
  for (std::int64_t t = 0; t < x.size(2); ++t) {
    stream->rewind(start);
    outputs.push_back(layers(x.narrow(2, t, 1)));
  }
  return at::cat(outputs, 2);
}

class EncoderImpl final : public torch::nn::Module {
 public:
  EncoderImpl(const VidVaeConfig& c, const ParameterOptions& p)
      : scope_(c.norm_scope),
        streams_(c.streams_exactly()),
        down_(register_module("down", torch::nn::ModuleList())) {
    const std::int64_t top = c.width(c.num_levels() - 1);
    const std::int64_t pixels = c.in_channels * c.patch * c.patch;
    if (c.conv_in_3d) {
      conv_in_3d_ = register_module("conv_in", causal(pixels, c.width(0), 3, c, p));
    } else {
      conv_in_2d_ = register_module("conv_in",
                                    nn::Conv2d(nn::Conv2dOptions{.in_channels = pixels,
                                                                 .out_channels = c.width(0),
                                                                 .padding = {1, 1}},
                                               p));
    }
    for (std::int64_t l = 0; l < c.num_levels(); ++l) {
      down_->push_back(DownLevel(l, c, p));
    }
    mid_ = register_module("mid", MidBlock(top, c, p));
    norm_out_ = register_module("norm_out", nn::GroupNorm(c.groups, top, c.norm_eps, p));
    conv_out_ = register_module("conv_out", causal(top, 2 * c.latent_channels, 3, c, p));
  }

  [[nodiscard]] Tensor forward(const Tensor& video, StreamState* stream) const {
    // All levels up to the first that halves time see single frames.
    std::size_t next = 0;
    const auto head = [&](Tensor x) {
      x = conv_in_3d_.is_empty() ? conv_in_2d_->forward_frames(x) : conv_in_3d_->forward(x, stream);
      for (next = 0; next < down_->size(); ++next) {
        const auto& level = *down_->ptr<DownLevelImpl>(next);
        x = level.forward_blocks(std::move(x), stream);
        if (level.halves_time()) {
          break;
        }
      }
      return x;
    };
    Tensor x = frame_by_frame(video, stream, streams_, head);
    if (next < down_->size()) {
      x = down_->ptr<DownLevelImpl>(next)->forward_time(x, stream);
    }
    for (std::size_t l = next + 1; l < down_->size(); ++l) {
      const auto& level = *down_->ptr<DownLevelImpl>(l);
      x = level.forward_time(level.forward_blocks(std::move(x), stream), stream);
    }
    x = mid_->forward(std::move(x), stream);
    return conv_out_->forward_consume(std::move(x), *norm_out_, scope_, {}, stream);
  }

 private:
  NormScope scope_;
  bool streams_;
  CausalConv3d conv_in_3d_{nullptr};
  nn::Conv2d conv_in_2d_{nullptr};
  torch::nn::ModuleList down_;
  MidBlock mid_{nullptr};
  nn::GroupNorm norm_out_{nullptr};
  CausalConv3d conv_out_{nullptr};
};
TORCH_MODULE(Encoder);

class DecoderImpl final : public torch::nn::Module {
 public:
  DecoderImpl(const VidVaeConfig& c, const ParameterOptions& p)
      : scope_(c.norm_scope),
        streams_(c.streams_exactly()),
        conv_in_(register_module("conv_in",
                                 causal(c.latent_channels, c.width(c.num_levels() - 1), 3, c, p))),
        mid_(register_module("mid", MidBlock(c.width(c.num_levels() - 1), c, p))),
        up_(register_module("up", torch::nn::ModuleList())) {
    for (std::int64_t l = 0; l < c.num_levels(); ++l) {
      up_->push_back(UpLevel(l, c, p));
    }
    norm_out_ = register_module("norm_out", nn::GroupNorm(c.groups, c.width(0), c.norm_eps, p));
    conv_out_ =
        register_module("conv_out", causal(c.width(0), c.in_channels * c.patch * c.patch, 3, c, p));
  }

  [[nodiscard]] Tensor forward(const Tensor& latents, StreamState* stream) const {
    Tensor x = conv_in_->forward(latents, stream);
    x = mid_->forward(std::move(x), stream);
    const std::size_t tail_levels = num_tail_levels();
    std::size_t level = up_->size();
    while (level > tail_levels + 1) {
      x = up_->ptr<UpLevelImpl>(--level)->forward(std::move(x), stream);
    }
    // From the last doubling on time keeps its rate: single frames suffice.
    const auto tail = [&](Tensor frame) {
      for (std::size_t l = tail_levels; l > 0; --l) {
        frame = up_->ptr<UpLevelImpl>(l - 1)->forward(std::move(frame), stream);
      }
      return conv_out_->forward_consume(std::move(frame), *norm_out_, scope_, {}, stream);
    };
    if (level == tail_levels) {
      return frame_by_frame(std::move(x), stream, streams_, tail);
    }
    const auto& doubling = *up_->ptr<UpLevelImpl>(level - 1);
    x = doubling.forward_blocks(std::move(x), stream);
    if (!runs_by_frame(stream, streams_)) {
      return tail(doubling.forward_time(doubling.forward_space(x, stream), stream));
    }
    return repeat_through(x, doubling, *stream, tail);
  }

 private:
  /// Each frame in its larger size, then its copies through the rest one after the other: the
  /// larger frames never exist all at once.
  template <typename Tail>
  static Tensor repeat_through(const Tensor& x,
                               const UpLevelImpl& doubling,
                               StreamState& stream,
                               const Tail& tail) {
    TimeState& repeat = stream.next();
    const std::size_t start = stream.position();
    std::vector<Tensor> outputs;
    for (std::int64_t t = 0; t < x.size(2); ++t) {
      Tensor frame = doubling.forward_space(x.narrow(2, t, 1), nullptr);
      if (t > 0 || repeat.started()) {
        stream.rewind(start);
        outputs.push_back(tail(frame.clone()));
      }
      stream.rewind(start);
      outputs.push_back(tail(std::move(frame)));
    }
    repeat.chunks += 1;
    return outputs.size() == 1 ? outputs.front() : at::cat(outputs, 2);
  }

  /// Levels below the last one that doubles time.
  [[nodiscard]] std::size_t num_tail_levels() const {
    std::size_t level = 0;
    while (level < up_->size() && !up_->ptr<UpLevelImpl>(level)->doubles_time()) {
      ++level;
    }
    return level;
  }

  NormScope scope_;
  bool streams_;
  CausalConv3d conv_in_;
  MidBlock mid_;
  torch::nn::ModuleList up_;
  nn::GroupNorm norm_out_{nullptr};
  CausalConv3d conv_out_{nullptr};
};
TORCH_MODULE(Decoder);

}  // namespace

struct VidVaeImpl::Parts {
  Encoder encoder{nullptr};
  Decoder decoder{nullptr};
  CausalConv3d quant_conv{nullptr};
  CausalConv3d post_quant_conv{nullptr};
  LinearShortcut shortcut{nullptr};
};

VidVaeImpl::VidVaeImpl(const VidVaeConfig& config, const ParameterOptions& p)
    : config_(config), parts_(std::make_unique<Parts>()) {
  const std::int64_t latents = config.latent_channels;
  parts_->encoder = register_module("encoder", Encoder(config, p));
  parts_->decoder = register_module("decoder", Decoder(config, p));
  parts_->quant_conv =
      register_module("quant_conv", causal(2 * latents, 2 * latents, 1, config, p));
  parts_->post_quant_conv =
      register_module("post_quant_conv", causal(latents, latents, 1, config, p));
  if (config.linear_shortcut) {
    parts_->shortcut = register_module(
        "linear_shortcut",
        LinearShortcut(config.in_channels,
                       latents,
                       BlockSize{.time = config.temporal_ratio(), .space = config.spatial_ratio()},
                       p));
  }
}

VidVaeImpl::~VidVaeImpl() = default;

Tensor VidVaeImpl::encode(const Tensor& x_BCFHW, StreamState* stream) const {
  // The shortcut comes first: layers take their states in call order.
  const Tensor shortcut =
      parts_->shortcut.is_empty() ? Tensor() : parts_->shortcut->encode(x_BCFHW, stream);
  const Tensor x = config_.patch == 1 ? x_BCFHW : space_to_channels(x_BCFHW, config_.patch);
  const Tensor moments = parts_->quant_conv->forward(parts_->encoder->forward(x, stream), nullptr);
  if (!shortcut.defined()) {
    return moments;
  }
  const std::int64_t latents = config_.latent_channels;
  return at::cat({moments.narrow(1, 0, latents) + shortcut, moments.narrow(1, latents, latents)},
                 1);
}

Tensor VidVaeImpl::decode(const Tensor& z_BCTHW, StreamState* stream) const {
  const Tensor shortcut =
      parts_->shortcut.is_empty() ? Tensor() : parts_->shortcut->decode(z_BCTHW, stream);
  Tensor y = parts_->decoder->forward(parts_->post_quant_conv->forward(z_BCTHW, nullptr), stream);
  if (config_.patch > 1) {
    y = channels_to_space(y, config_.patch);
  }
  return shortcut.defined() ? nn::add_consume(std::move(y), shortcut) : y;
}

}  // namespace kinema::vae
