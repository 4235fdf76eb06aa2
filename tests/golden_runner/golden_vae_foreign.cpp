// SPDX-License-Identifier: Apache-2.0
// Kinds of the autoencoders of CogVideoX, Wan 2.1 and Open-Sora 1.2.
#include "tests/golden_runner/golden_vae_foreign.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>

#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"
#include "vae/autoencoder.h"
#include "vae/causal_conv3d.h"
#include "vae/cogvideox_vae.h"
#include "vae/open_sora_vae.h"
#include "vae/step_runner.h"
#include "vae/wan_vae.h"

namespace kinema::golden {
namespace {

using vae::Autoencoder;
using vae::Codec;
using vae::Direction;
using vae::Posterior;
using vae::TilingOptions;

const tensor::Place kPlace = {c10::Device(c10::kCPU), c10::kFloat};

Json read_config(const Case& golden) {
  return read_json_file(golden.file("config.json"), {.place = "golden", .subject = golden.name});
}

vae::CodecSource source_of(const Case& golden) {
  return {.folder = golden.weights(), .config = read_config(golden), .place = kPlace};
}

/// Calls `visit(tag, tensor)` for every "in.<prefix>_<tag>".
void for_inputs(const TensorMap& io,
                const std::string& prefix,
                const std::function<void(const std::string&, const Tensor&)>& visit) {
  const std::string start = "in." + prefix + "_";
  for (const auto& [name, tensor] : io) {
    if (name.starts_with(start)) {
      visit(name.substr(start.size()), tensor);
    }
  }
}

/// The whole clip in the reference's steps, without the facade's rules about legal sizes.
Tensor run_steps(const Codec& codec,
                 Direction direction,
                 const Tensor& x,
                 const std::optional<TilingOptions>& tiling) {
  const at::NoGradGuard no_grad;
  const vae::TimePlan plan = vae::plan_time(codec, direction, x.size(2), tiling, {}, 1);
  vae::StepRunner runner(codec, direction, tiling);
  std::vector<Tensor> parts;
  for (const vae::Span& span : plan.spans) {
    const vae::StepContext step = {.index = static_cast<std::int64_t>(parts.size()), .span = span};
    parts.push_back(runner.run(x.narrow(2, span.begin, span.size()), step, plan.fresh));
  }
  return at::cat(parts, 2);
}

bool is_legal(const Autoencoder& autoencoder, const Tensor& x) {
  try {
    autoencoder.check_size(x.size(2), x.size(3), x.size(4));
    return true;
  } catch (const Error&) {
    return false;
  }
}

Posterior encode(const Autoencoder& autoencoder,
                 const Tensor& x,
                 const std::optional<TilingOptions>& tiling = {}) {
  if (is_legal(autoencoder, x)) {
    return autoencoder.encode(x, {.tiling = tiling});
  }
  return Posterior::from_moments(run_steps(autoencoder.codec(), Direction::kEncode, x, tiling));
}

/// The inputs that all families share.
void compare_plain(const Autoencoder& autoencoder,
                   const TensorMap& io,
                   const Allowed& allowed,
                   const std::function<Tensor(const Tensor&)>& frames_of,
                   Report& report) {
  for_inputs(io, "x", [&](const std::string& tag, const Tensor& x) {
    const Posterior posterior = encode(autoencoder, frames_of(x));
    report.compare(io, "out.mean_" + tag, posterior.mean_BCTHW, allowed);
    report.compare(io, "out.logvar_" + tag, posterior.logvar_BCTHW, allowed);
  });
  for_inputs(io, "z", [&](const std::string& tag, const Tensor& z) {
    report.compare(io, "out.dec_" + tag, autoencoder.decode(z), allowed);
  });
  for_inputs(io, "xm", [&](const std::string& tag, const Tensor& x) {
    const Tensor latents = encode(autoencoder, frames_of(x)).mode();
    report.compare(io, "out.model_latent_" + tag, autoencoder.to_model_space(latents), allowed);
  });
  for_inputs(io, "m", [&](const std::string& tag, const Tensor& m) {
    const Tensor video = autoencoder.decode(autoencoder.from_model_space(m));
    report.compare(io, "out.dec_from_model_" + tag, video, allowed);
  });
}

void run_cogvideox(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const Autoencoder autoencoder(vae::load_cogvideox_vae(source_of(golden), null_logger()));
  compare_plain(autoencoder, io, allowed, [](const Tensor& x) { return x; }, report);
  const TilingOptions tiling = {.reference_blend = true};
  for_inputs(io, "xt", [&](const std::string& tag, const Tensor& x) {
    const Posterior posterior = encode(autoencoder, x, tiling);
    report.compare(io, "out.tiled_mean_" + tag, posterior.mean_BCTHW, allowed);
    report.compare(io, "out.tiled_logvar_" + tag, posterior.logvar_BCTHW, allowed);
  });
  for_inputs(io, "zt", [&](const std::string& tag, const Tensor& z) {
    report.compare(io, "out.tiled_dec_" + tag, autoencoder.decode(z, {.tiling = tiling}), allowed);
  });
  report.check_complete(io);
}

/// Tiles in pixels, with a stride of their own in rows and columns.
struct WanTiling {
  std::int64_t rows = 256, columns = 256, row_stride = 192, column_stride = 192;

  static WanTiling from(const Case& golden) {
    WanTiling tiling;
    const auto settings = golden.json.find("settings");
    if (settings != golden.json.end() && settings->contains("tiling")) {
      const Json& json = settings->at("tiling");
      tiling.rows = json.value("tile_sample_min_height", tiling.rows);
      tiling.columns = json.value("tile_sample_min_width", tiling.columns);
      tiling.row_stride = json.value("tile_sample_stride_height", tiling.row_stride);
      tiling.column_stride = json.value("tile_sample_stride_width", tiling.column_stride);
    }
    return tiling;
  }
};

Tensor run_wan_tiles(const Codec& codec,
                     Direction direction,
                     const Tensor& x,
                     const WanTiling& tiling) {
  const std::int64_t ratio = codec.info().spatial_ratio;
  const bool encoding = direction == Direction::kEncode;
  const auto rows = vae::wan_tile_axis(tiling.rows, tiling.row_stride, ratio, encoding);
  const auto columns = vae::wan_tile_axis(tiling.columns, tiling.column_stride, ratio, encoding);
  const auto run = [&](const Tensor& tile, std::int64_t /*number*/) {
    if (encoding) {
      return run_steps(codec, direction, tile, {});
    }
    // Without the clamp, which comes after the blend.
    const at::NoGradGuard no_grad;
    vae::StreamState state;
    state.begin_chunk();
    return codec.decode_step(nn::channels_last(tile), state, {.span = {0, tile.size(2)}});
  };
  if (x.size(3) <= rows.tile && x.size(4) <= columns.tile) {
    return run_steps(codec, direction, x, {});
  }
  const auto size = [&](std::int64_t edge) { return encoding ? edge / ratio : edge * ratio; };
  const Tensor joined = vae::run_tiles(
      x, rows, columns, size(x.size(3)), size(x.size(4)), vae::TileBlend::kPairwise, run);
  return encoding ? joined : codec.finish_pixels(joined);
}

void run_wan(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const Autoencoder autoencoder(vae::load_wan_vae(source_of(golden), null_logger()));
  const auto frames_of = [](const Tensor& x) {
    return x.narrow(2, 0, vae::wan_reference_frames(x.size(2)));
  };
  compare_plain(autoencoder, io, allowed, frames_of, report);
  const WanTiling tiling = WanTiling::from(golden);
  for_inputs(io, "xt", [&](const std::string& tag, const Tensor& x) {
    const Posterior posterior = Posterior::from_moments(
        run_wan_tiles(autoencoder.codec(), Direction::kEncode, frames_of(x), tiling));
    report.compare(io, "out.tiled_mean_" + tag, posterior.mean_BCTHW, allowed);
    report.compare(io, "out.tiled_logvar_" + tag, posterior.logvar_BCTHW, allowed);
  });
  for_inputs(io, "zt", [&](const std::string& tag, const Tensor& z) {
    const Tensor video = run_wan_tiles(autoencoder.codec(), Direction::kDecode, z, tiling);
    report.compare(io, "out.tiled_dec_" + tag, video, allowed);
  });
  report.check_complete(io);
}

std::int64_t num_frames_of(const Case& golden, const std::string& tag) {
  return golden.json.at("settings").at("num_frames").at(tag).get<std::int64_t>();
}

/// encode() with both posteriors sampled from given noise.
Tensor sample_open_sora(const vae::OpenSoraVae& network,
                        const Codec& codec,
                        const Tensor& x,
                        const Tensor& noise_frames,
                        const Tensor& noise_time) {
  const at::NoGradGuard no_grad;
  const Tensor latents = network->encode_frames(x, noise_frames);
  std::vector<Tensor> samples;
  std::int64_t position = 0;
  for (const vae::Span& span : vae::plan_steps(codec.encode_rule(), x.size(2))) {
    const Posterior posterior = Posterior::from_moments(
        network->temporal()->encode(latents.narrow(2, span.begin, span.size())));
    const std::int64_t count = posterior.mode().size(2);
    samples.push_back(posterior.sample(noise_time.narrow(2, position, count)));
    position += count;
  }
  return at::cat(samples, 2);
}

void run_open_sora(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const auto config = vae::OpenSoraVaeConfig::from_json(read_config(golden), golden.name);
  const vae::OpenSoraVae network = vae::load_open_sora_network(golden.weights(), config, kPlace);
  const Autoencoder autoencoder(vae::make_open_sora_codec(network, kPlace));
  for_inputs(io, "x", [&](const std::string& tag, const Tensor& x) {
    const Tensor latents = encode(autoencoder, x).mode();
    report.compare(io, "out.z_" + tag, autoencoder.to_model_space(latents), allowed);
  });
  for_inputs(io, "xs", [&](const std::string& tag, const Tensor& x) {
    const Tensor latents = sample_open_sora(
        network, autoencoder.codec(), x, io.at("in.noise2d_" + tag), io.at("in.noiset_" + tag));
    report.compare(io, "out.z_sampled_" + tag, autoencoder.to_model_space(latents), allowed);
  });
  for_inputs(io, "z", [&](const std::string& tag, const Tensor& z) {
    const Tensor video = autoencoder.decode(autoencoder.from_model_space(z),
                                            {.num_frames = num_frames_of(golden, tag)});
    report.compare(io, "out.dec_" + tag, video, allowed);
  });
  report.check_complete(io);
}

void run_open_sora_temporal(const Case& golden, Report& report) {
  const at::NoGradGuard no_grad;
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const auto config = vae::TemporalVaeConfig::from_json(read_config(golden), golden.name);
  vae::TemporalVae network(config, nn::ParameterOptions{.deferred = true});
  tensor::load_weights(
      *network, io::Checkpoint::open(golden.weights()), {}, {.dtype = c10::kFloat});
  for_inputs(io, "x", [&](const std::string& tag, const Tensor& x) {
    const Posterior posterior = Posterior::from_moments(network->encode(x));
    report.compare(io, "out.mean_" + tag, posterior.mean_BCTHW, allowed);
    report.compare(io, "out.logvar_" + tag, posterior.logvar_BCTHW, allowed);
  });
  for_inputs(io, "z", [&](const std::string& tag, const Tensor& z) {
    report.compare(io, "out.dec_" + tag, network->decode(z, num_frames_of(golden, tag)), allowed);
  });
  report.check_complete(io);
}

void run_spatial_norm(const Case& golden, Report& report) {
  const at::NoGradGuard no_grad;
  const TensorMap io = golden.io();
  const Tensor f = io.at("in.f");
  const Tensor z = io.at("in.z");
  const auto groups = golden.json.at("settings").at("groups").get<std::int64_t>();
  const vae::CogVideoXSpatialNorm norm(f.size(1), z.size(1), groups);
  norm->norm_layer->weight.copy_(io.at("in.norm_weight"));
  norm->norm_layer->bias.copy_(io.at("in.norm_bias"));
  norm->conv_y->conv->weight.copy_(io.at("in.conv_y_weight"));
  norm->conv_y->conv->bias.copy_(io.at("in.conv_y_bias"));
  norm->conv_b->conv->weight.copy_(io.at("in.conv_b_weight"));
  norm->conv_b->conv->bias.copy_(io.at("in.conv_b_bias"));
  const auto compare = [&](const std::string& name, const Tensor& f_part, const Tensor& z_part) {
    const Tensor x = nn::channels_last(f_part);
    Tensor out = at::empty_like(x);
    norm->forward_out(out, x, z_part, std::nullopt);
    report.compare(io, name, out, Allowed::from(golden));
  };
  compare("out.odd", f, z);
  compare("out.even", f.narrow(2, 1, f.size(2) - 1), z.narrow(2, 1, z.size(2) - 1));
  compare("out.one_frame", f.narrow(2, 0, 1), z.narrow(2, 0, 1));
  report.check_complete(io);
}

nn::Conv2d conv2d_of(const Tensor& weight, const Tensor& bias, bool down) {
  nn::Conv2dOptions options = {.in_channels = weight.size(1), .out_channels = weight.size(0)};
  if (down) {
    options.stride = {2, 2};
  } else {
    options.padding = {1, 1};
  }
  nn::Conv2d conv(options);
  conv->weight.copy_(weight);
  conv->bias.copy_(bias);
  return conv;
}

nn::Conv3d conv3d_of(const Tensor& weight, const Tensor& bias, std::int64_t time_stride) {
  nn::Conv3dOptions options = {.in_channels = weight.size(1), .out_channels = weight.size(0)};
  options.kernel = {weight.size(2), weight.size(3), weight.size(4)};
  options.stride = {time_stride, 1, 1};
  options.padding = {0, weight.size(3) / 2, weight.size(4) / 2};
  nn::Conv3d conv(options);
  conv->weight.copy_(weight);
  conv->bias.copy_(bias);
  return conv;
}

}  // namespace

void compare_foreign_time_down(const TensorMap& io, const Allowed& allowed, Report& report) {
  const at::NoGradGuard no_grad;
  const Tensor x = nn::channels_last(io.at("in.x"));
  const Tensor weight = io.at("in.conv_weight");
  const Tensor bias = io.at("in.conv_bias");
  const std::int64_t frames = x.size(2);
  const nn::Conv2d cog = conv2d_of(weight.select(2, 0), bias, true);
  const auto cog_down = [&](const Tensor& part) {
    return cog->forward_frames(vae::pad_right_bottom(vae::cogvideox_pool_time(part)));
  };
  report.compare(io, "out.cogvideox_odd", cog_down(x), allowed);
  report.compare(io, "out.cogvideox_even", cog_down(x.narrow(2, 1, frames - 1)), allowed);
  report.compare(io, "out.cogvideox_one_frame", cog_down(x.narrow(2, 0, 1)), allowed);

  const nn::Conv3d os = conv3d_of(weight, bias, 2);
  const Tensor even = x.narrow(2, 0, frames - frames % 2);
  report.compare(io,
                 "out.os12_conv",
                 vae::causal_conv3d(even, *os, vae::TimePadding::kZeros, nullptr),
                 allowed);

  const nn::Conv2d space = conv2d_of(weight.select(2, 1), bias, true);
  const nn::Conv3d time = conv3d_of(io.at("in.time_weight"), io.at("in.time_bias"), 2);
  vae::TimeState state;
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0; begin < frames;) {
    const std::int64_t size = begin == 0 ? 1 : 4;
    const Tensor chunk = nn::channels_last(x.narrow(2, begin, size));
    parts.push_back(
        vae::wan_time_down(space->forward_frames(vae::pad_right_bottom(chunk)), *time, &state));
    begin += size;
  }
  report.compare(io, "out.wan_chunks_1_4_4", at::cat(parts, 2), allowed);
}

void compare_foreign_time_up(const TensorMap& io, const Allowed& allowed, Report& report) {
  const at::NoGradGuard no_grad;
  const Tensor x = nn::channels_last(io.at("in.x"));
  const nn::Conv2d cog =
      conv2d_of(io.at("in.conv_weight").select(2, 0), io.at("in.conv_bias"), false);
  const auto cog_up = [&](std::int64_t frames) {
    return vae::cogvideox_repeat_time(vae::upsample_conv2x(x.narrow(2, 0, frames), *cog));
  };
  report.compare(io, "out.cogvideox_odd", cog_up(3), allowed);
  report.compare(io, "out.cogvideox_even", cog_up(2), allowed);
  report.compare(io, "out.cogvideox_one_frame", cog_up(1), allowed);

  const nn::Conv3d os = conv3d_of(io.at("in.d2t_weight"), io.at("in.d2t_bias"), 1);
  report.compare(io,
                 "out.os12_depth_to_time",
                 vae::depth_to_time(vae::causal_conv3d(x, *os, vae::TimePadding::kZeros, nullptr)),
                 allowed);

  const nn::Conv2d space = conv2d_of(io.at("in.wan_weight2d"), io.at("in.wan_bias2d"), false);
  const nn::Conv3d time = conv3d_of(io.at("in.wan_time_weight"), io.at("in.wan_time_bias"), 1);
  vae::TimeState state;
  std::vector<Tensor> parts;
  for (std::int64_t t = 0; t < x.size(2); ++t) {
    const Tensor latent = nn::channels_last(x.narrow(2, t, 1));
    parts.push_back(vae::upsample_conv2x(vae::wan_time_up(latent, *time, &state), *space));
  }
  report.compare(io, "out.wan_one_latent_per_chunk", at::cat(parts, 2), allowed);
}

std::shared_ptr<torch::nn::Module> foreign_network(const std::string& file_name) {
  const nn::ParameterOptions deferred = {.deferred = true};
  if (file_name == "cogvideox_vae.json") {
    return vae::CogVideoXVae(vae::CogVideoXVaeConfig{}, deferred).ptr();
  }
  if (file_name == "wan21_vae.json") {
    return vae::WanVae(vae::WanVaeConfig{}, deferred).ptr();
  }
  if (file_name == "opensora_vae_v1_2.json") {
    return vae::OpenSoraVae(vae::OpenSoraVaeConfig{}, deferred).ptr();
  }
  return nullptr;
}

std::optional<std::vector<vae::Span>> foreign_frame_plan(const std::string& name,
                                                         std::int64_t length) {
  if (name == "cogvideox_encode_chunks") {
    return vae::plan_steps(vae::cogvideox_encode_rule(), length);
  }
  if (name == "cogvideox_decode_chunks") {
    return vae::plan_steps(vae::cogvideox_decode_rule(), length);
  }
  if (name == "wan21_encode_chunks") {
    const auto codec = vae::make_wan_codec(
        {}, vae::WanVae(vae::WanVaeConfig{}, nn::ParameterOptions{.deferred = true}), kPlace);
    return vae::plan_steps(codec->encode_rule(), vae::wan_reference_frames(length), 1);
  }
  return std::nullopt;
}

std::int64_t open_sora_latent_frames(std::int64_t frames) {
  return vae::OpenSoraVaeConfig{}.latent_frames(frames);
}

std::vector<Kind> vae_foreign_kinds() {
  return {{"vae.autoencoder_kl_cogvideox", run_cogvideox},
          {"vae.autoencoder_kl_wan", run_wan},
          {"vae.opensora_v1_2", run_open_sora},
          {"vae.opensora_v1_2_temporal", run_open_sora_temporal},
          {"vae.layer_spatial_condition_norm", run_spatial_norm}};
}

}  // namespace kinema::golden
