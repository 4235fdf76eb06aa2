// SPDX-License-Identifier: Apache-2.0
#include "tests/golden_runner/golden_vae_layers.h"

#include <string>

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/pad.h>

#include "core/nn/conv.h"
#include "core/nn/group_norm.h"
#include "vae/causal_conv3d.h"
#include "vae/cogvideox_vae.h"
#include "vae/image_blocks.h"
#include "vae/inflation.h"
#include "vae/mid_attention.h"
#include "vae/norm_kernels.h"
#include "vae/open_sora_vae.h"
#include "vae/posterior.h"
#include "vae/tiling.h"
#include "vae/time_resample.h"
#include "vae/wan_vae.h"

namespace kinema::golden {
namespace {

using namespace kinema::vae;

/// Inputs and comparison of one layer case.
struct Layer {
  Layer(const Case& golden, Report& report_to)
      : io(golden.io()), allowed(Allowed::from(golden)), report(report_to) {}

  [[nodiscard]] const Tensor& in(const std::string& name) const { return io.at("in." + name); }
  void compare(const std::string& name, const Tensor& ours) {
    report.compare(io, "out." + name, ours, allowed);
  }
  void finish() { report.check_complete(io); }

  TensorMap io;
  Allowed allowed;
  Report& report;
};

void set(Tensor& parameter, const Tensor& value) {
  parameter.set_data(value.clone());
}

nn::Conv3d conv3d(const Tensor& weight,
                  const Tensor& bias,
                  std::array<std::int64_t, 3> stride,
                  std::array<std::int64_t, 3> padding) {
  nn::Conv3d conv(nn::Conv3dOptions{.in_channels = weight.size(1),
                                    .out_channels = weight.size(0),
                                    .kernel = {weight.size(2), weight.size(3), weight.size(4)},
                                    .stride = stride,
                                    .padding = padding});
  set(conv->weight, weight);
  set(conv->bias, bias);
  return conv;
}

nn::Conv2d conv2d(const Tensor& weight,
                  const Tensor& bias,
                  std::int64_t stride,
                  std::int64_t padding) {
  nn::Conv2d conv(nn::Conv2dOptions{.in_channels = weight.size(1),
                                    .out_channels = weight.size(0),
                                    .kernel = {weight.size(2), weight.size(3)},
                                    .stride = {stride, stride},
                                    .padding = {padding, padding}});
  set(conv->weight, weight);
  set(conv->bias, bias);
  return conv;
}

nn::GroupNorm group_norm(const Layer& layer,
                         std::int64_t groups,
                         double eps,
                         const std::string& prefix) {
  const Tensor& weight = layer.in(prefix + "weight");
  nn::GroupNorm norm(groups, weight.size(0), eps);
  set(norm->weight, weight);
  set(norm->bias, layer.in(prefix + "bias"));
  return norm;
}

std::int64_t setting(const Case& golden, const char* name) {
  return golden.json.at("settings").at(name).get<std::int64_t>();
}

void run_blended_merge(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const std::int64_t size = setting(golden, "segment");
  const std::int64_t overlap = setting(golden, "overlap");
  const Tensor& segments = layer.in("segments");
  const std::int64_t count = segments.size(0);
  const std::int64_t total = size + (count - 1) * (size - overlap);
  std::vector<Tensor> pieces;
  std::vector<Tensor> weights;
  for (std::int64_t k = 0; k < count; ++k) {
    pieces.push_back(segments[k]);
    weights.push_back(ramp_weights(size, overlap, k == 0, k + 1 == count));
  }
  const auto spans = overlapping_spans(total, size, overlap);
  layer.compare("weights", at::stack(weights));
  layer.compare("merged", merge_spans(pieces, spans, total, overlap, 1));
  Tensor blended = layer.in("tile_b").clone();
  blend_pair_(layer.in("tile_a"), blended, setting(golden, "extent"), 1);
  layer.compare("pair_blended_b", blended);
  layer.finish();
}

void run_causal_conv(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& x = layer.in("x");
  const Tensor& weight = layer.in("weight");
  const Tensor& bias = layer.in("bias");
  const Tensor one = x.narrow(2, 0, 1);
  const auto plain = conv3d(weight, bias, {1, 1, 1}, {0, 1, 1});
  const auto half_time = conv3d(weight, bias, {2, 1, 1}, {0, 1, 1});
  const auto half_all = conv3d(weight, bias, {2, 2, 2}, {0, 0, 0});
  const auto bare = conv3d(weight, bias, {1, 1, 1}, {0, 0, 0});
  const auto first = TimePadding::kFirst;
  const auto zeros = TimePadding::kZeros;
  layer.compare("first_s1", causal_conv3d(x, *plain, first, nullptr));
  layer.compare("first_s1_one_frame", causal_conv3d(one, *plain, first, nullptr));
  layer.compare("first_s2_time", causal_conv3d(x, *half_time, first, nullptr));
  layer.compare("first_s2_time_one_frame", causal_conv3d(one, *half_time, first, nullptr));
  layer.compare("first_s2_all_padrb",
                causal_conv3d(pad_right_bottom(x), *half_all, first, nullptr));
  layer.compare("zeros_s1", causal_conv3d(x, *plain, zeros, nullptr));
  layer.compare("zeros_s2_time", causal_conv3d(x, *half_time, zeros, nullptr));
  const Tensor edges = at::pad(x, {1, 1, 1, 1, 0, 0}, "replicate");
  layer.compare("replicate_everywhere_s1", causal_conv3d(edges, *bare, first, nullptr));
  layer.finish();
}

void run_inflation(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& x = layer.in("x");
  const Tensor& weight = layer.in("weight2d");
  const Tensor& bias = layer.in("bias");
  const std::pair<const char*, Inflation> rules[] = {
      {"tail", Inflation::kTail}, {"centre", Inflation::kCentre}, {"average", Inflation::kAverage}};
  for (const auto& [name, rule] : rules) {
    const Tensor inflated = inflate_kernel(weight, setting(golden, "kt"), rule);
    const auto conv = conv3d(inflated, bias, {1, 1, 1}, {0, 1, 1});
    layer.compare(std::string("weight3d_") + name, inflated);
    layer.compare(std::string("y_") + name, causal_conv3d(x, *conv, TimePadding::kFirst, nullptr));
    layer.compare(std::string("y_one_frame_") + name,
                  causal_conv3d(x.narrow(2, 0, 1), *conv, TimePadding::kFirst, nullptr));
  }
  layer.compare("y_2d_per_frame", conv2d(weight, bias, 1, 1)->forward_frames(x));
  layer.finish();
}

void run_mid_attention(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& x = layer.in("x");
  const auto norm = group_norm(layer, setting(golden, "groups"), 1e-6, "norm_");
  const auto projection = [&](const std::string& name) -> Projection {
    return {layer.in(name + "_weight"), layer.in(name + "_bias")};
  };
  const AttentionWeights weights = {
      projection("q"), projection("k"), projection("v"), projection("o")};
  const auto per_frame = [&](nn::NormScope scope) {
    const Tensor frames = nn::fold_frames(norm->forward(x, scope));
    return x + nn::unfold_frames(image_attention(frames, weights), x.size(0));
  };
  layer.compare("frame_attention_clip_norm", per_frame(nn::NormScope::kClip));
  layer.compare("frame_attention_frame_norm", per_frame(nn::NormScope::kFrame));
  layer.compare("legacy_reshape_clip_norm",
                x + mixed_attention(norm->forward(x, nn::NormScope::kClip), weights));
  layer.finish();
}

void run_norm_scopes(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& x = layer.in("x");
  const Tensor small = 0.01 * x;
  const std::int64_t groups = setting(golden, "groups");
  const auto fine = group_norm(layer, groups, 1e-6, "");
  const auto coarse = group_norm(layer, groups, 1e-5, "");
  const at::NoGradGuard no_grad;
  layer.compare("clip_eps1e-6", fine->forward(x, nn::NormScope::kClip));
  layer.compare("clip_eps1e-5", coarse->forward(x, nn::NormScope::kClip));
  layer.compare("frame_eps1e-6", fine->forward(x, nn::NormScope::kFrame));
  layer.compare("small_clip_eps1e-6", fine->forward(small, nn::NormScope::kClip));
  layer.compare("small_clip_eps1e-5", coarse->forward(small, nn::NormScope::kClip));
  Tensor rms = x.clone();
  rms_norm_activate_out(rms, x, layer.in("weight"), std::nullopt);
  layer.compare("rms_channel", rms);
  layer.finish();
}

void run_posterior(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Posterior posterior = Posterior::from_moments(layer.in("moments"));
  layer.compare("mean", posterior.mode());
  layer.compare("logvar", posterior.logvar_BCTHW);
  layer.compare("std", posterior.std());
  layer.compare("var", posterior.variance());
  layer.compare("sample", posterior.sample(layer.in("noise")));
  // One number has no spread to measure against.
  const double kl = layer.io.at("out.kl").abs().item<double>();
  report.compare(layer.io, "out.kl", posterior.kl(), {1e-5 * kl, Allowed::Unit::kAbsolute});
  layer.compare("kl_elementwise", posterior.kl_elements());
  layer.finish();
}

void run_spatial_norm(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& f = layer.in("f");
  const Tensor& z = layer.in("z");
  CogVideoXSpatialNorm norm(f.size(1), z.size(1), setting(golden, "groups"));
  set(norm->norm_layer->weight, layer.in("norm_weight"));
  set(norm->norm_layer->bias, layer.in("norm_bias"));
  set(norm->conv_y->conv->weight, layer.in("conv_y_weight"));
  set(norm->conv_y->conv->bias, layer.in("conv_y_bias"));
  set(norm->conv_b->conv->weight, layer.in("conv_b_weight"));
  set(norm->conv_b->conv->bias, layer.in("conv_b_bias"));
  const at::NoGradGuard no_grad;
  const auto run = [&](const char* name, std::int64_t begin, std::int64_t end, std::int64_t z_end) {
    const Tensor part = nn::channels_last(f.slice(2, begin, end));
    Tensor out = at::empty_like(part);
    norm->forward_out(out, part, z.slice(2, begin, z_end), std::nullopt);
    layer.compare(name, out);
  };
  run("odd", 0, f.size(2), z.size(2));
  run("even", 1, f.size(2), z.size(2));
  run("one_frame", 0, 1, 1);
  layer.finish();
}

void run_spatial_resample(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const Tensor& x = layer.in("x");
  const auto half = conv2d(layer.in("weight"), layer.in("bias"), 2, 0);
  const auto same = conv2d(layer.in("weight"), layer.in("bias"), 1, 1);
  layer.compare("down_pad_right_bottom", half->forward(pad_right_bottom(x)));
  layer.compare("up_nearest", same->forward(repeat_pixels(x)));
  layer.finish();
}

void run_time_down(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const at::NoGradGuard no_grad;
  const Tensor& x = layer.in("x");
  const Tensor& weight = layer.in("conv_weight");
  const Tensor& bias = layer.in("conv_bias");
  const Tensor one = x.narrow(2, 0, 1);
  layer.compare("pool", pool_time(x, TimePadding::kFirst, nullptr));
  layer.compare("pool_one_frame", pool_time(one, TimePadding::kFirst, nullptr));
  MixedTimeDown mixed(x.size(1), TimePadding::kFirst);
  set(mixed->mix_factor, layer.in("mix_factor"));
  set(mixed->conv->weight, weight);
  set(mixed->conv->bias, bias);
  layer.compare("mix", mixed->forward(x, nullptr));
  const auto joint = conv3d(weight, bias, {2, 2, 2}, {0, 0, 0});
  layer.compare("joint", causal_conv3d(pad_right_bottom(x), *joint, TimePadding::kFirst, nullptr));
  const auto halved = conv3d(weight, bias, {2, 1, 1}, {0, 1, 1});
  layer.compare(
      "os12_conv",
      causal_conv3d(x.narrow(2, 0, x.size(2) / 2 * 2), *halved, TimePadding::kZeros, nullptr));
  const auto image = conv2d(weight.select(2, 0), bias, 2, 0);
  const auto cogvideox = [&](const Tensor& clip) {
    return image->forward_frames(pad_right_bottom(cogvideox_pool_time(clip)));
  };
  layer.compare("cogvideox_odd", cogvideox(x));
  layer.compare("cogvideox_even", cogvideox(x.narrow(2, 1, x.size(2) - 1)));
  layer.compare("cogvideox_one_frame", cogvideox(one));
  const auto wan_image = conv2d(weight.select(2, 1), bias, 2, 0);
  const auto wan_time =
      conv3d(layer.in("time_weight"), layer.in("time_bias"), {2, 1, 1}, {0, 0, 0});
  TimeState state;
  std::vector<Tensor> parts;
  for (const Span span : {Span{0, 1}, Span{1, 5}, Span{5, 9}}) {
    const Tensor small =
        wan_image->forward_frames(pad_right_bottom(x.slice(2, span.begin, span.end)));
    parts.push_back(wan_time_down(small, *wan_time, &state));
  }
  layer.compare("wan_chunks_1_4_4", at::cat(parts, 2));
  layer.finish();
}

void run_time_up(const Case& golden, Report& report) {
  Layer layer(golden, report);
  const at::NoGradGuard no_grad;
  const Tensor& x = layer.in("x");
  const Tensor& weight = layer.in("conv_weight");
  const Tensor& bias = layer.in("conv_bias");
  layer.compare("repeat", repeat_time(x, nullptr));
  layer.compare("linear", interpolate_time(x));
  layer.compare("linear_two_frames", interpolate_time(x.narrow(2, 0, 2)));
  layer.compare("linear_one_frame", interpolate_time(x.narrow(2, 0, 1)));
  MixedTimeUp mixed(x.size(1), TimePadding::kFirst);
  set(mixed->mix_factor, layer.in("mix_factor"));
  set(mixed->conv->conv->weight, weight);
  set(mixed->conv->conv->bias, bias);
  layer.compare("mix", mixed->forward(x));
  const Tensor joint = interpolate_joint(x);
  const auto same = conv3d(weight, bias, {1, 1, 1}, {0, 1, 1});
  layer.compare("joint_interpolated", joint);
  layer.compare("joint", causal_conv3d(joint, *same, TimePadding::kFirst, nullptr));
  const auto image = conv2d(weight.select(2, 0), bias, 1, 1);
  const auto cogvideox = [&](std::int64_t frames) {
    return upsample_conv2x(cogvideox_repeat_time(x.narrow(2, 0, frames)), *image);
  };
  layer.compare("cogvideox_odd", cogvideox(3));
  layer.compare("cogvideox_even", cogvideox(2));
  layer.compare("cogvideox_one_frame", cogvideox(1));
  const auto d2t = conv3d(layer.in("d2t_weight"), layer.in("d2t_bias"), {1, 1, 1}, {0, 1, 1});
  layer.compare("os12_depth_to_time",
                depth_to_time(causal_conv3d(x, *d2t, TimePadding::kZeros, nullptr)));
  const auto wan_time =
      conv3d(layer.in("wan_time_weight"), layer.in("wan_time_bias"), {1, 1, 1}, {0, 0, 0});
  const auto wan_image = conv2d(layer.in("wan_weight2d"), layer.in("wan_bias2d"), 1, 1);
  TimeState state;
  std::vector<Tensor> parts;
  for (std::int64_t t = 0; t < x.size(2); ++t) {
    const Tensor doubled = wan_time_up(x.narrow(2, t, 1), *wan_time, &state);
    const Tensor frames = repeat_pixels(nn::fold_frames(doubled));
    parts.push_back(nn::unfold_frames(wan_image->forward(frames), x.size(0)));
  }
  layer.compare("wan_one_latent_per_chunk", at::cat(parts, 2));
  layer.finish();
}

}  // namespace

std::vector<Kind> vae_layer_kinds() {
  return {{"vae.layer_blended_merge", run_blended_merge},
          {"vae.layer_causal_conv3d", run_causal_conv},
          {"vae.layer_inflation", run_inflation},
          {"vae.layer_mid_attention", run_mid_attention},
          {"vae.layer_norm_scopes", run_norm_scopes},
          {"vae.layer_posterior", run_posterior},
          {"vae.layer_spatial_condition_norm", run_spatial_norm},
          {"vae.layer_spatial_resample", run_spatial_resample},
          {"vae.layer_time_down", run_time_down},
          {"vae.layer_time_up", run_time_up}};
}

}  // namespace kinema::golden
