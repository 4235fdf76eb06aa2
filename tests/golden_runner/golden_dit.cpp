// SPDX-License-Identifier: Apache-2.0
// Kinds of the diffusion transformers and of rotary position embedding.
#include <stdexcept>
#include <string>

#include <ATen/ATen.h>

#include "core/attention/rotary.h"
#include "core/base/json.h"
#include "core/diffusion/guidance.h"
#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"
#include "dit/foreign_weights.h"
#include "dit/modules/vdit_model.h"
#include "dit/vdit.h"
#include "tests/golden_runner/golden_case.h"

namespace kinema::golden {
namespace {

using diffusion::Conditioning;
using dit::VideoDit;

Tensor given(const TensorMap& io, const std::string& name) {
  const auto found = io.find(name);
  return found == io.end() ? Tensor() : found->second;
}

std::unique_ptr<VideoDit> load(const Case& golden) {
  return VideoDit::load({.config = golden.file("config.json"), .weights = golden.weights()},
                        {c10::kCPU, c10::kFloat});
}

/// Both ways through the network must give `name`: the differentiable one and the fused one.
void compare_both(const TensorMap& io,
                  const std::string& name,
                  VideoDit& model,
                  const Tensor& latents_BCTHW,
                  const Tensor& timesteps,
                  const Conditioning& conditioning,
                  const Allowed& allowed,
                  Report& report) {
  const bool is_image = io.at(name).dim() == 4;
  const Tensor fused = model.predict(latents_BCTHW, timesteps, conditioning);
  const Tensor plain = model.module()->forward(latents_BCTHW, timesteps, conditioning).detach();
  for (Tensor ours : {fused, plain}) {
    ours = is_image ? ours.squeeze(2) : ours;
    const Tensor mask_BT = conditioning.frame_mask_BT;
    if (mask_BT.defined()) {
      // The reference modulates given frames twice at the end: they are not compared.
      const TensorMap frames_first = {{name, io.at(name).transpose(1, 2).contiguous()}};
      report.excuse(name);
      report.compare(frames_first, name, ours.transpose(1, 2), allowed, mask_BT);
    } else {
      report.compare(io, name, ours, allowed);
    }
  }
}

/// "in.x", "in.timestep" [B] or [B, T], "in.y" [B, 1, L, C], "in.mask", "in.x_mask", sizes. With
/// "in.guidance_batch" a null caption is appended and "out.guided" has scale 7.
void run_stdit(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const auto model = load(golden);
  Conditioning conditioning;
  conditioning.context_BMD = io.at("in.y").squeeze(1);
  conditioning.context_mask_BM = given(io, "in.mask");
  conditioning.frame_mask_BT = given(io, "in.x_mask");
  conditioning.fps_B = given(io, "in.fps");
  conditioning.height_B = given(io, "in.height");
  conditioning.width_B = given(io, "in.width");
  conditioning.num_frames_B = given(io, "in.num_frames");
  conditioning.aspect_ratio_B = given(io, "in.ar");
  Tensor x = io.at("in.x");
  Tensor timesteps = io.at("in.timestep");
  if (!io.contains("in.guidance_batch")) {
    compare_both(io, "out.sample", *model, x, timesteps, conditioning, allowed, report);
    report.check_complete(io);
    return;
  }
  conditioning = diffusion::concat(conditioning, model->unconditional(conditioning));
  x = at::cat({x, x});
  timesteps = at::cat({timesteps, timesteps});
  compare_both(io, "out.sample", *model, x, timesteps, conditioning, allowed, report);
  const std::vector<Tensor> halves = model->predict(x, timesteps, conditioning).chunk(2);
  const std::int64_t channels = io.at("in.x").size(1);
  const Tensor text = halves[0].narrow(1, 0, channels);
  const Tensor null = halves[1].narrow(1, 0, channels);
  report.compare(io, "out.guided", null + 7.0 * (text - null), allowed);
  report.check_complete(io);
}

/// diffusers: "in.hidden_states" [B, C, (T,) H, W], "in.encoder_hidden_states", its mask,
/// "in.resolution" (height, width), "in.aspect_ratio".
void run_diffusers(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const auto model = load(golden);
  Tensor x = io.at("in.hidden_states");
  x = x.dim() == 4 ? x.unsqueeze(2) : x;
  Conditioning conditioning;
  conditioning.context_BMD = io.at("in.encoder_hidden_states");
  conditioning.context_mask_BM = given(io, "in.encoder_attention_mask");
  if (io.contains("in.resolution")) {
    conditioning.height_B = io.at("in.resolution").select(1, 0);
    conditioning.width_B = io.at("in.resolution").select(1, 1);
    conditioning.aspect_ratio_B = io.at("in.aspect_ratio").squeeze(1);
  }
  if (io.contains("in.no_temporal")) {
    model->module()->set_temporal_blocks(false);
  }
  compare_both(io,
               "out.sample",
               *model,
               x,
               io.at("in.timestep"),
               conditioning,
               Allowed::from(golden),
               report);
  report.check_complete(io);
}

/// One block: "in.timestep" is the output of t_block, "in.encoder_attention_bias" additive.
void run_block(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json config =
      read_json_file(golden.file("config.json"), {.place = "golden", .subject = golden.name});
  const Tensor x_BLD = io.at("in.hidden_states");
  const std::int64_t width = config.at("dim").get<std::int64_t>();
  const bool has_prompt = !config.at("cross_attention_dim").is_null();
  dit::Block block(dit::BlockOptions{
      .attention = {.width = width,
                    .num_heads = config.at("num_attention_heads").get<std::int64_t>(),
                    .axis = has_prompt ? dit::Axis::kSpatial : dit::Axis::kTemporal},
      .mlp_width = 4 * width,
      .cross_attention = has_prompt});
  const io::Checkpoint checkpoint = io::Checkpoint::open(golden.weights());
  tensor::load_weights(*block, dit::block_with_own_names(checkpoint.tensors), {}, {});
  dit::BlockContext context;
  const std::int64_t batch = x_BLD.size(0);
  const std::int64_t length = x_BLD.size(1);
  // A temporal block has its tokens along the frames of one position.
  context.grid = has_prompt ? dit::Grid{batch, 1, 1, length} : dit::Grid{batch, length, 1, 1};
  context.modulation_R6D = io.at("in.timestep").view({batch, 6, width});
  const Tensor x_BTSD = has_prompt ? x_BLD.unsqueeze(1) : x_BLD.unsqueeze(2);
  dit::PromptContext prompt;
  dit::PromptStores stores;
  if (has_prompt) {
    prompt.context_BMD = io.at("in.encoder_hidden_states");
    const Tensor mask_BM = io.at("in.encoder_attention_bias").squeeze(1).gt(-1.0);
    prompt.log_weight_BM = attention::log_weight_of_mask(mask_BM, at::kFloat);
    std::vector<std::int64_t> lengths;
    for (std::int64_t b = 0; b < batch; ++b) {
      lengths.push_back(mask_BM[b].sum().item<std::int64_t>());
    }
    stores = block->cross_attn->project(prompt.context_BMD.index({mask_BM}), lengths);
  }
  at::NoGradGuard no_grad;
  const Allowed allowed = Allowed::from(golden);
  report.compare(
      io, "out.sample", block->forward(x_BTSD, context, &prompt).view(x_BLD.sizes()), allowed);
  Tensor x_FSD = x_BTSD.flatten(0, 1).clone();
  block->run(x_FSD, context, &stores);
  report.compare(io, "out.sample", x_FSD.view(x_BLD.sizes()), allowed);
  report.check_complete(io);
}

void run_rotary(const Case& golden, Report& report) {
  using attention::RotaryPairs;
  const TensorMap io = golden.io();
  const Allowed allowed = {golden.tolerance("max_abs").value(), Allowed::Unit::kAbsolute};
  const Tensor x_BNLK = io.at("in.x");
  const std::int64_t length = x_BNLK.size(2);
  const std::int64_t width = x_BNLK.size(3);
  const Tensor positions = at::arange(length, at::kFloat);
  const Tensor frequencies = attention::rotary_frequencies(width);
  const auto compare = [&](const std::string& name,
                           const Tensor& at_positions,
                           const Tensor& with_frequencies,
                           RotaryPairs pairs = RotaryPairs::kInterleaved) {
    const Tensor turned = attention::apply_rotary(
        x_BNLK.transpose(1, 2), attention::rotary_table(at_positions, with_frequencies), pairs);
    report.compare(io, name, turned.transpose(1, 2), allowed);
  };
  report.compare(io, "out.freqs", frequencies, allowed);
  compare("out.interleaved", positions, frequencies);
  compare("out.interleaved_offset", positions + io.at("in.offset"), frequencies);
  compare("out.interleaved_partial",
          positions,
          attention::rotary_frequencies(io.at("in.partial_dim").item<std::int64_t>()));
  compare("out.interleaved_theta",
          positions,
          attention::rotary_frequencies(width, io.at("in.theta").item<double>()));
  compare("out.interleaved_interpolated", positions / io.at("in.interpolate"), frequencies);
  compare("out.interleaved_positions", io.at("in.positions"), frequencies);
  compare("out.half_split", io.at("in.positions"), frequencies, RotaryPairs::kHalves);
  const Tensor narrow =
      attention::apply_rotary(x_BNLK.transpose(1, 2).to(at::kBFloat16).to(at::kFloat),
                              attention::rotary_table(positions.to(at::kBFloat16), frequencies));
  report.compare(io, "out.interleaved_bf16_input", narrow.transpose(1, 2), allowed);
  report.check_complete(io);
}

}  // namespace

std::vector<Kind> dit_kinds() {
  return {{"dit.stdit2", run_stdit},
          {"dit.stdit3", run_stdit},
          {"dit.pixart", run_diffusers},
          {"dit.latte", run_diffusers},
          {"dit.pixart_block", run_block},
          {"dit.latte_block", run_block},
          {"dit.rotary", run_rotary}};
}

}  // namespace kinema::golden
