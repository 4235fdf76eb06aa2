// SPDX-License-Identifier: Apache-2.0
#include "dit/modules/vdit_model.h"

#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "core/nn/recompute.h"
#include "core/tensor/shape_check.h"

namespace kinema::dit {
namespace {

using tensor::kAny;

constexpr const char* kPlace = "dit.vdit";

/// Holds "rope.freqs".
class RopeBuffer final : public torch::nn::Module {
 public:
  explicit RopeBuffer(const Tensor& frequencies) { register_buffer("freqs", frequencies); }
};

[[noreturn]] void bad_condition(const char* name, std::string expected, std::string got) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "dit.condition",
               .place = kPlace,
               .subject = name,
               .expected = std::move(expected),
               .got = std::move(got)});
}

/// A condition as float32 [B]; one value serves the whole batch.
Tensor condition_B(const Tensor& values, const char* name, std::int64_t batch, const Tensor& like) {
  if (!values.defined()) {
    bad_condition(name, "a value, this model depends on it", "nothing");
  }
  if (values.dim() != 1 || (values.size(0) != batch && values.size(0) != 1)) {
    bad_condition(name, "[" + std::to_string(batch) + "] or [1]", tensor::shape_text(values));
  }
  return values.to(like.device(), at::kFloat).expand({batch});
}

double first_value(const Tensor& values_B) {
  return values_B.select(0, 0).item<double>();
}

/// Vectors for samples or frames are brought to the larger of the two.
Tensor add_rows(const Tensor& time_RD, const Tensor& condition_BD) {
  const std::int64_t repeats = time_RD.size(0) / condition_BD.size(0);
  return time_RD + condition_BD.repeat_interleave(repeats, 0);
}

/// Time of every sample [B] or, with given frames, of every frame [B, T].
Tensor masked_times(const Tensor& timesteps,
                    const Tensor& frame_mask_BT,
                    const Tensor& latents_BCTHW) {
  const std::int64_t batch = latents_BCTHW.size(0);
  const std::int64_t frames = latents_BCTHW.size(2);
  Tensor times = timesteps.to(latents_BCTHW.device(), at::kFloat);
  if (times.dim() == 2) {
    tensor::check_shape(times, {batch, frames}, kPlace, "timesteps");
  } else {
    tensor::check_shape(times, {batch}, kPlace, "timesteps");
  }
  if (!frame_mask_BT.defined()) {
    return times;
  }
  tensor::check_shape(frame_mask_BT, {batch, frames}, kPlace, "frame_mask_BT");
  const Tensor mask = frame_mask_BT.to(times.device(), at::kBool);
  const Tensor times_BT = times.dim() == 2 ? times : times.unsqueeze(1).expand({batch, frames});
  return at::where(mask, times_BT, at::zeros({}, times.options()));
}

void check_mask(const Tensor& mask_BM, const Tensor& context_BMD) {
  if (mask_BM.defined()) {
    tensor::check_shape(
        mask_BM, {context_BMD.size(0), context_BMD.size(1)}, kPlace, "context_mask_BM");
  }
}

}  // namespace

std::int64_t PromptCache::num_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const PromptStores& stores : blocks_) {
    for (const attention::KvStore& store : stores) {
      bytes += store.num_bytes();
    }
  }
  return bytes;
}

FinalLayerImpl::FinalLayerImpl(std::int64_t width,
                               std::int64_t out,
                               double eps,
                               const nn::ParameterOptions& options)
    : linear(register_module("linear", nn::Linear(width, out, true, options))),
      scale_shift_table(
          register_parameter("scale_shift_table", nn::make_parameter({2, width}, options))),
      eps_(eps) {}

Tensor FinalLayerImpl::forward(const Tensor& x_BTSD, const Tensor& condition_RD) const {
  const Tensor table = scale_shift_table.to(condition_RD.scalar_type());
  return linear->forward(modulate(x_BTSD, condition_RD + table[0], condition_RD + table[1], eps_));
}

Tensor FinalLayerImpl::run(const Tensor& x_FSD, const Tensor& condition_RD) const {
  const Tensor table = scale_shift_table.to(condition_RD.scalar_type());
  const Part all = {.num_frames = x_FSD.size(0), .num_positions = x_FSD.size(1)};
  return linear->forward(
      modulate_part(x_FSD, all, condition_RD + table[0], condition_RD + table[1], eps_));
}

VDiTImpl::VDiTImpl(const VDitConfig& config, const nn::ParameterOptions& options)
    : config_(config), dtype_(options.dtype) {
  const std::int64_t width = config.width;
  const auto scalar = [&](const char* name, std::int64_t size) {
    return register_module(name, ScalarEmbedder(size, options));
  };
  x_embedder = register_module("x_embedder",
                               PatchEmbed(config.latent_channels, config.patch, width, options));
  t_embedder = scalar("t_embedder", width);
  t_block = register_module("t_block", ModulationProjection(width, 6, options));
  if (config.layout == Layout::kStdit2) {
    t_block_temp = register_module("t_block_temp", ModulationProjection(width, 3, options));
  }
  y_embedder = register_module(
      "y_embedder",
      CaptionEmbedder(config.caption_channels, width, config.caption_tokens, options));
  if (config.size_conditions) {
    csize_embedder = scalar("csize_embedder", width / 3);
    ar_embedder = scalar("ar_embedder", width / 3);
  }
  if (config.frames_condition) {
    fl_embedder = scalar("fl_embedder", width);
  }
  if (config.fps_condition) {
    fps_embedder = scalar("fps_embedder", width);
  }
  if (config.pooled_channels > 0) {
    pooled_embedder =
        register_module("pooled_embedder", Mlp(config.pooled_channels, width, width, options));
  }
  if (config.layout == Layout::kStdit2 || config.layout == Layout::kStdit3) {
    rope_freqs_ = attention::rotary_frequencies(config.head_width()).to(options.device);
    register_module("rope", std::make_shared<RopeBuffer>(rope_freqs_));
  }
  make_blocks(options);
  final_layer = register_module(
      "final_layer",
      FinalLayer(width, config.patch_volume() * config.out_channels(), config.norm_eps, options));
}

void VDiTImpl::make_blocks(const nn::ParameterOptions& options) {
  const BlockOptions base = {.attention = {.width = config_.width,
                                           .num_heads = config_.num_heads,
                                           .qk_norm = config_.qk_norm,
                                           .rotate_before_norm = config_.rotate_before_norm,
                                           .eps = config_.norm_eps},
                             .mlp_width = config_.mlp_width};
  const auto num_layers = static_cast<std::size_t>(config_.num_layers);
  const auto make = [&](const char* name, Axis axis, bool cross) {
    BlockOptions block = base;
    block.attention.axis = axis;
    block.second_attention = config_.layout == Layout::kStdit2;
    block.cross_attention = cross;
    torch::nn::ModuleList list;
    std::vector<Block> blocks;
    for (std::size_t i = 0; i < num_layers; ++i) {
      blocks.emplace_back(block, options);
      list->push_back(blocks.back());
    }
    register_module(name, list);
    return blocks;
  };
  switch (config_.layout) {
    case Layout::kStdit2:
    case Layout::kPixart:
      order_ = make("blocks", Axis::kSpatial, true);
      return;
    case Layout::kFull:
      order_ = make("blocks", Axis::kFull, true);
      return;
    case Layout::kStdit3:
    case Layout::kLatte:
      break;
  }
  const std::vector<Block> spatial = make("spatial_blocks", Axis::kSpatial, true);
  const std::vector<Block> temporal =
      make("temporal_blocks", Axis::kTemporal, config_.layout == Layout::kStdit3);
  for (std::size_t i = 0; i < num_layers; ++i) {
    order_.push_back(spatial[i]);
    order_.push_back(temporal[i]);
  }
}

void VDiTImpl::embed_conditions(const Tensor& times,
                                const diffusion::Conditioning& conditioning,
                                Prepared& prepared) const {
  const std::int64_t batch = prepared.grid.batch;
  const auto embed = [&](const ScalarEmbedder& embedder, const Tensor& values, const char* name) {
    return embedder->forward(condition_B(values, name, batch, times), dtype_);
  };
  const Tensor time_RD = t_embedder->forward(times.flatten(), dtype_);
  Tensor condition_RD = time_RD;
  if (!pooled_embedder.is_empty()) {
    tensor::check_shape(
        conditioning.pooled_BD, {batch, config_.pooled_channels}, kPlace, "pooled_BD");
    condition_RD = add_rows(
        condition_RD, pooled_embedder->forward(conditioning.pooled_BD.to(times.device(), dtype_)));
  }
  Tensor size_BD;
  if (config_.size_conditions) {
    const Tensor ratio_B = conditioning.aspect_ratio_B.defined() || !conditioning.height_B.defined()
                               ? conditioning.aspect_ratio_B
                               : conditioning.height_B / conditioning.width_B;
    size_BD = at::cat({embed(csize_embedder, conditioning.height_B, "height_B"),
                       embed(csize_embedder, conditioning.width_B, "width_B"),
                       embed(ar_embedder, ratio_B, "aspect_ratio_B")},
                      1);
  }
  Tensor duration_BD;
  const auto add_duration = [&](const Tensor& more) {
    duration_BD = duration_BD.defined() ? duration_BD + more : more;
  };
  if (config_.frames_condition) {
    add_duration(embed(fl_embedder, conditioning.num_frames_B, "num_frames_B"));
  }
  if (config_.fps_condition) {
    add_duration(embed(fps_embedder, conditioning.fps_B, "fps_B"));
  }
  if (config_.layout == Layout::kStdit2) {
    // The final layer sees the time alone, spatial parts also the size, temporal ones the duration.
    prepared.final_condition_RD = condition_RD;
    prepared.modulation_R6D = t_block->forward(add_rows(condition_RD, size_BD));
    prepared.temporal_modulation_R3D = t_block_temp->forward(add_rows(condition_RD, duration_BD));
    return;
  }
  for (const Tensor& more : {size_BD, duration_BD}) {
    condition_RD = more.defined() ? add_rows(condition_RD, more) : condition_RD;
  }
  prepared.final_condition_RD = condition_RD;
  prepared.modulation_R6D = t_block->forward(condition_RD);
}

Tensor VDiTImpl::position_table(const Grid& grid,
                                const diffusion::Conditioning& conditioning) const {
  double base = static_cast<double>(config_.position_base);
  double scale = config_.position_scale;
  if (config_.position_base == 0) {
    // Open-Sora takes the size of the first sample for the whole batch.
    for (const auto& [values, name] : {std::pair(&conditioning.height_B, "height_B"),
                                       std::pair(&conditioning.width_B, "width_B")}) {
      if (!values->defined() || values->dim() != 1 || values->size(0) < 1) {
        bad_condition(name, "a value, positions depend on it", "nothing");
      }
    }
    const double pixels = first_value(conditioning.height_B) * first_value(conditioning.width_B);
    if (!(pixels > 0.0) || !std::isfinite(pixels)) {
      bad_condition("height_B x width_B", "a positive number", std::to_string(pixels));
    }
    base = std::nearbyint(std::sqrt(static_cast<double>(grid.positions())));
    scale = std::sqrt(pixels) / static_cast<double>(config_.input_sq_size);
  }
  return position_table_2d(grid.rows, grid.columns, config_.width, base, scale);
}

VDiTImpl::Prepared VDiTImpl::prepare(const Tensor& latents_BCTHW,
                                     const Tensor& timesteps,
                                     const diffusion::Conditioning& conditioning) const {
  tensor::check_shape(
      latents_BCTHW, {kAny, config_.latent_channels, kAny, kAny, kAny}, kPlace, "latents_BCTHW");
  const Tensor times = masked_times(timesteps, conditioning.frame_mask_BT, latents_BCTHW);
  if (times.dim() == 2 && config_.patch[0] != 1) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "dit.frames",
                 .place = kPlace,
                 .subject = "times of single frames",
                 .expected = "a model whose patches have one frame",
                 .got = std::to_string(config_.patch[0]) + " frames in a patch"});
  }
  Prepared prepared;
  prepared.grid = x_embedder->grid_of(latents_BCTHW);
  const Grid& grid = prepared.grid;
  embed_conditions(times, conditioning, prepared);
  const auto to_device = [&](const Tensor& table) { return table.to(latents_BCTHW.device()); };
  prepared.x_BTSD = x_embedder->forward(latents_BCTHW.to(dtype_)) +
                    to_device(position_table(grid, conditioning)).to(dtype_);
  if (rope_freqs_.defined() && (config_.layout == Layout::kStdit3 || config_.temporal_rotary)) {
    prepared.rotary = attention::rotary_table(
        at::arange(grid.frames, rope_freqs_.options().dtype(at::kFloat)), rope_freqs_);
  } else if (config_.layout == Layout::kFull) {
    prepared.rotary =
        attention::rotary_table_3d(grid.frames, grid.rows, grid.columns, config_.head_width());
    prepared.rotary->cos_LJ = to_device(prepared.rotary->cos_LJ);
    prepared.rotary->sin_LJ = to_device(prepared.rotary->sin_LJ);
  }
  if (config_.layout == Layout::kLatte && grid.frames > 1) {
    if (grid.frames != config_.video_length) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "dit.frames",
                   .place = kPlace,
                   .subject = "latent frames",
                   .expected = "1 or " + std::to_string(config_.video_length),
                   .got = std::to_string(grid.frames)});
    }
    prepared.frame_positions_TD =
        to_device(position_table_1d(grid.frames, config_.width)).to(dtype_);
  }
  return prepared;
}

BlockContext VDiTImpl::block_context(const Prepared& prepared) const {
  return {.grid = prepared.grid,
          .modulation_R6D = prepared.modulation_R6D,
          .temporal_modulation_R3D = prepared.temporal_modulation_R3D,
          .rotary = prepared.rotary.has_value() ? &*prepared.rotary : nullptr};
}

bool VDiTImpl::is_temporal(std::size_t index) const {
  const bool alternates = config_.layout == Layout::kStdit3 || config_.layout == Layout::kLatte;
  return alternates && index % 2 == 1;
}

bool VDiTImpl::adds_frame_positions(std::size_t index) const {
  return config_.layout == Layout::kLatte && index == 1;
}

Tensor VDiTImpl::recomputed_block(std::size_t index,
                                  const Tensor& x_BTSD,
                                  const Prepared& prepared,
                                  const PromptContext& prompt) const {
  // By value: the gradients are computed after forward() has returned.
  const auto body = [block = order_[index],
                     grid = prepared.grid,
                     rotary = prepared.rotary,
                     log_weight_BM = prompt.log_weight_BM](const std::vector<Tensor>& inputs) {
    const BlockContext context = {.grid = grid,
                                  .modulation_R6D = inputs[1],
                                  .temporal_modulation_R3D = inputs[2],
                                  .rotary = rotary.has_value() ? &*rotary : nullptr};
    const PromptContext text = {.context_BMD = inputs[3], .log_weight_BM = log_weight_BM};
    return block->forward(inputs[0], context, &text);
  };
  return nn::recompute(
      body,
      {x_BTSD, prepared.modulation_R6D, prepared.temporal_modulation_R3D, prompt.context_BMD});
}

Tensor VDiTImpl::forward(const Tensor& latents_BCTHW,
                         const Tensor& timesteps,
                         const diffusion::Conditioning& conditioning) const {
  const Prepared prepared = prepare(latents_BCTHW, timesteps, conditioning);
  const Grid& grid = prepared.grid;
  tensor::check_shape(conditioning.context_BMD,
                      {grid.batch, kAny, config_.caption_channels},
                      kPlace,
                      "context_BMD");
  PromptContext prompt;
  prompt.context_BMD =
      y_embedder->forward(conditioning.context_BMD.to(latents_BCTHW.device(), dtype_));
  check_mask(conditioning.context_mask_BM, prompt.context_BMD);
  if (conditioning.context_mask_BM.defined() && config_.layout != Layout::kLatte) {
    prompt.log_weight_BM = attention::log_weight_of_mask(
        conditioning.context_mask_BM.to(latents_BCTHW.device()), at::kFloat);
  }
  const BlockContext context = block_context(prepared);
  Tensor x = prepared.x_BTSD;
  for (std::size_t i = 0; i < order_.size(); ++i) {
    if (is_temporal(i) && !temporal_blocks_) {
      continue;
    }
    if (adds_frame_positions(i) && prepared.frame_positions_TD.defined()) {
      x = x + prepared.frame_positions_TD.unsqueeze(1);
    }
    x = recompute_ ? recomputed_block(i, x, prepared, prompt)
                   : order_[i]->forward(x, context, &prompt);
  }
  const Tensor patches = final_layer->forward(x, prepared.final_condition_RD);
  return unpatchify(patches, grid, config_.patch, latents_BCTHW.sizes()).to(at::kFloat);
}

Tensor VDiTImpl::run(const Tensor& latents_BCTHW,
                     const Tensor& timesteps,
                     const diffusion::Conditioning& conditioning,
                     const PromptCache& prompt,
                     const ExecutionGroups& groups,
                     const TemporalWindows* windows) const {
  Prepared prepared = prepare(latents_BCTHW, timesteps, conditioning);
  const Grid grid = prepared.grid;
  if (prompt.batch() != grid.batch) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "dit.prompt_batch",
                 .place = kPlace,
                 .subject = "prompts",
                 .expected = std::to_string(grid.batch),
                 .got = std::to_string(prompt.batch())});
  }
  BlockContext context = block_context(prepared);
  context.groups = groups;
  context.windows = windows;
  Tensor x_FSD = std::move(prepared.x_BTSD)
                     .contiguous()
                     .view({grid.batch * grid.frames, grid.positions(), config_.width});
  for (std::size_t i = 0; i < order_.size(); ++i) {
    if (is_temporal(i) && !temporal_blocks_) {
      continue;
    }
    if (adds_frame_positions(i) && prepared.frame_positions_TD.defined()) {
      x_FSD.add_(prepared.frame_positions_TD.repeat({grid.batch, 1}).unsqueeze(1));
    }
    order_[i]->run(x_FSD, context, &prompt.block(i));
  }
  const Tensor patches = final_layer->run(x_FSD, prepared.final_condition_RD);
  return unpatchify(patches, grid, config_.patch, latents_BCTHW.sizes()).to(at::kFloat);
}

PromptCache VDiTImpl::make_prompt_cache(const Tensor& context_BMD, const Tensor& mask_BM) const {
  tensor::check_shape(context_BMD, {kAny, kAny, config_.caption_channels}, kPlace, "context_BMD");
  const std::int64_t batch = context_BMD.size(0);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), context_BMD.size(1));
  Tensor context_PC = context_BMD.flatten(0, 1);
  check_mask(mask_BM, context_BMD);
  if (mask_BM.defined() && config_.layout != Layout::kLatte) {
    const Tensor mask = mask_BM.to(context_BMD.device(), at::kBool);
    const Tensor counts = mask.sum(1).to(at::kCPU, at::kLong);
    for (std::int64_t b = 0; b < batch; ++b) {
      lengths[static_cast<std::size_t>(b)] = counts[b].item<std::int64_t>();
    }
    context_PC = context_PC.index_select(0, mask.flatten().nonzero().flatten());
  }
  const Tensor& weight = t_block->linear->weight;
  const Tensor context_PD = y_embedder->forward(context_PC.to(weight.device(), dtype_));
  std::vector<PromptStores> blocks;
  for (const Block& block : order_) {
    blocks.push_back(block->cross_attn.is_empty()
                         ? PromptStores()
                         : block->cross_attn->project(context_PD, lengths));
  }
  return {std::move(blocks), batch};
}

Tensor VDiTImpl::null_context(std::int64_t batch, std::int64_t num_tokens) const {
  const Tensor& null_MC = y_embedder->y_embedding;
  const std::int64_t rows = null_MC.defined() ? null_MC.size(0) : 0;
  if (num_tokens < 0 || num_tokens > rows) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "dit.null_caption",
                 .place = kPlace,
                 .subject = "tokens of the null caption",
                 .expected = "at most " + std::to_string(rows),
                 .got = std::to_string(num_tokens)});
  }
  return null_MC.narrow(0, 0, num_tokens).unsqueeze(0).expand({batch, -1, -1}).to(dtype_);
}

}  // namespace kinema::dit

// Parameters without the null caption: STDiT2-XL/2 767 452 064, STDiT3-XL/2 1 207 643 936.
// Compared with Open-Sora v1.2.0 opensora/models/stdit/{stdit2,stdit3}.py and diffusers 0.42.1
// PixArtTransformer2DModel and LatteTransformer3DModel.
