// SPDX-License-Identifier: Apache-2.0
// Kinds of the autoencoders of CogVideoX, Wan 2.1 and Open-Sora 1.2.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"
#include "tests/golden_runner/golden_case.h"
#include "vae/autoencoder.h"
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

std::unique_ptr<Autoencoder> load(const Case& golden) {
  return Autoencoder::load(
      vae::ModelFiles{.config = golden.file("config.json"), .weights = golden.weights()}, kPlace);
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
  const std::unique_ptr<Autoencoder> loaded = load(golden);
  const Autoencoder& autoencoder = *loaded;
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
  const std::unique_ptr<Autoencoder> loaded = load(golden);
  const Autoencoder& autoencoder = *loaded;
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

}  // namespace

std::vector<Kind> vae_foreign_kinds() {
  return {{"vae.autoencoder_kl_cogvideox", run_cogvideox},
          {"vae.autoencoder_kl_wan", run_wan},
          {"vae.opensora_v1_2", run_open_sora},
          {"vae.opensora_v1_2_temporal", run_open_sora_temporal}};
}

}  // namespace kinema::golden
