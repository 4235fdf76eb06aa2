// SPDX-License-Identifier: Apache-2.0
// Kinds of vae/: whole image autoencoders, VidVAE and Open-Sora-Plan, frame plans, tensor names.
#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>

#include "core/base/json.h"
#include "tests/golden_runner/golden_case.h"
#include "tests/golden_runner/golden_vae_layers.h"
#include "vae/autoencoder.h"
#include "vae/codec.h"
#include "vae/cogvideox_vae.h"
#include "vae/open_sora_vae.h"
#include "vae/sd_vae.h"
#include "vae/vid_vae.h"
#include "vae/wan_vae.h"

namespace kinema::golden {
namespace {

using namespace kinema::vae;

std::unique_ptr<Autoencoder> load(const Case& golden) {
  return Autoencoder::load(
      ModelFiles{.config = golden.file("config.json"), .weights = golden.weights()}, {});
}

/// Images are videos of one frame.
Tensor as_video(const Tensor& x) {
  return x.dim() == 4 ? x.unsqueeze(2) : x;
}

/// The tiling of the case: the library's, with sizes from "settings" where they are given.
TilingOptions tiling_of(const Case& golden) {
  TilingOptions tiling{.reference_blend = true};
  const Json settings = golden.json.value("settings", Json::object());
  const auto found = settings.find("tiling");
  if (found != settings.end()) {
    tiling.tile_rows = found->value("tile_sample_min_size", 0);
    tiling.tile_columns = tiling.tile_rows;
    tiling.overlap = found->value("tile_overlap_factor", -1.0);
    tiling.window_frames = found->value("tile_sample_min_size_t", 0);
    tiling.window_latents = found->value("tile_latent_min_size_t", 0);
  }
  return tiling;
}

class ModelRun {
 public:
  ModelRun(const Case& golden, const Autoencoder& vae, Report& report)
      : golden_(golden),
        vae_(vae),
        report_(report),
        io_(golden.io()),
        allowed_(Allowed::from(golden)) {}

  void run() {
    for (const auto& [name, x] : io_) {
      if (name.starts_with("in.")) {
        run_input(name.substr(3, name.find('_') - 3), name.substr(name.find('_') + 1), x);
      }
    }
    report_.check_complete(io_);
  }

 private:
  void run_input(const std::string& what, const std::string& tag, const Tensor& x) {
    if (what == "x" || what == "xt") {
      const bool tiled = what == "xt";
      EncodeOptions options;
      if (tiled) {
        options.tiling = tiling_of(golden_);
      }
      const Posterior posterior = vae_.encode(as_video(x), options);
      compare((tiled ? "tiled_mean_" : "mean_") + tag, posterior.mean_BCTHW);
      compare((tiled ? "tiled_logvar_" : "logvar_") + tag, posterior.logvar_BCTHW);
    } else if (what == "z" || what == "zt") {
      const bool tiled = what == "zt";
      DecodeOptions options;
      if (tiled) {
        options.tiling = tiling_of(golden_);
      }
      compare((tiled ? "tiled_dec_" : "dec_") + tag, vae_.decode(as_video(x), options));
    } else if (what == "xm") {
      compare("model_latent_" + tag, vae_.to_model_space(vae_.encode(as_video(x)).mode()));
    } else if (what == "m") {
      compare("dec_from_model_" + tag, vae_.decode(vae_.from_model_space(as_video(x))));
    } else {
      report_.fail("input not understood: " + what + "_" + tag);
    }
  }

  void compare(const std::string& name, const Tensor& ours) {
    const std::string full = "out." + name;
    const auto found = io_.find(full);
    if (found == io_.end()) {
      report_.fail("no tensor " + full);
      return;
    }
    report_.compare(io_, full, found->second.dim() == 4 ? ours.squeeze(2) : ours, allowed_);
  }

  const Case& golden_;
  const Autoencoder& vae_;
  Report& report_;
  TensorMap io_;
  Allowed allowed_;
};

void run_model(const Case& golden, Report& report) {
  const auto vae = load(golden);
  ModelRun(golden, *vae, report).run();
}

void run_inflation(const Case& golden, Report& report) {
  const std::string path = golden.file("config.json");
  const CodecSource source = {
      golden.weights(), read_json_file(path, {.place = "golden", .subject = path}), {}};
  const Autoencoder vae(load_inflated_vid_vae(source, {}, Inflation::kTail, null_logger()));
  ModelRun(golden, vae, report).run();
}

// ---- frame plans

using Spans = std::vector<Span>;

Spans spans_of(const Json& list) {
  Spans spans;
  for (const Json& pair : list) {
    spans.push_back({pair.at(0).get<std::int64_t>(), pair.at(1).get<std::int64_t>()});
  }
  return spans;
}

/// Steps of one plan, or of the rollback windows named in it.
Spans our_plan(const std::string& plan, std::int64_t length) {
  const auto window_at = plan.rfind("window_");
  if (plan.starts_with("osp_rollback") && window_at != std::string::npos) {
    return overlapping_spans(length, std::stoll(plan.substr(window_at + 7)), 1);
  }
  if (plan == "cogvideox_encode_chunks") {
    return plan_steps(cogvideox_encode_rule(), length);
  }
  if (plan == "cogvideox_decode_chunks") {
    return plan_steps(cogvideox_decode_rule(), length);
  }
  if (plan == "wan21_encode_chunks") {
    const StepRule rule = {.first = 1, .later = 4, .any_multiple = true};
    return plan_steps(rule, wan_reference_frames(length), 1);
  }
  throw std::runtime_error("plan not known: " + plan);
}

std::int64_t open_sora_count(const std::string& plan, std::int64_t frames) {
  const OpenSoraVaeConfig config;
  if (plan == "opensora_v1_2_left_padding_of_one_clip") {
    return config.temporal.latent_frames(frames) * config.temporal.temporal_ratio() - frames;
  }
  if (plan != "opensora_v1_2_latent_frames") {
    throw std::runtime_error("plan not known: " + plan);
  }
  const std::int64_t clip = config.micro_frame_size.value();
  std::int64_t latents = 0;
  for (const Span& span : plan_steps({.first = clip, .later = clip}, frames)) {
    latents += config.temporal.latent_frames(span.size());
  }
  return latents;
}

void run_plans(const Case& golden, Report& report) {
  const Json plans =
      read_json_file(golden.file("plans.json"), {.place = "golden", .subject = "plans.json"});
  for (const auto& [plan, lengths] : plans.items()) {
    for (const auto& [length, expected] : lengths.items()) {
      const std::int64_t total = std::stoll(length);
      const bool fits = expected.is_array()
                            ? our_plan(plan, total) == spans_of(expected)
                            : open_sora_count(plan, total) == expected.get<std::int64_t>();
      if (!fits) {
        report.fail(plan + " differs for " + length);
      }
      report.count(1);
    }
  }
}

// ---- key lists

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

Shapes shapes_of(const torch::nn::Module& module) {
  Shapes shapes;
  for (const auto& item : module.named_parameters()) {
    shapes[item.key()] = item.value().sizes().vec();
  }
  for (const auto& item : module.named_buffers()) {
    shapes[item.key()] = item.value().sizes().vec();
  }
  return shapes;
}

VidVaeConfig osp_config(int minor) {
  VidVaeConfig c;
  c.norm_scope = nn::NormScope::kClip;
  c.mid_attn = minor == 0 ? MidAttention::kOspLegacy : MidAttention::kFrame;
  const TimeUp up = minor == 0 ? TimeUp::kLinear : minor == 1 ? TimeUp::kMix : TimeUp::kJoint;
  c.time_up = {TimeUp::kNone, TimeUp::kNone, up, up};
  if (minor > 0) {
    const TimeDown down = minor == 1 ? TimeDown::kMix : TimeDown::kJoint;
    c.conv_in_3d = false;
    c.conv3d_levels_enc = {false, false, true, true};
    c.space_down = {SpaceDown::kFrame, SpaceDown::kFrame, SpaceDown::kFrame};
    c.time_down = {TimeDown::kNone, down, down, TimeDown::kNone};
  }
  return c;
}

Shapes full_size(const std::string& model) {
  const nn::ParameterOptions deferred = {.deferred = true};
  if (model == "sd_vae") {
    SdVaeConfig config;
    config.block_out_channels = {128, 256, 512, 512};
    config.layers_per_block = 2;
    return shapes_of(*SdVae(config, deferred));
  }
  if (model == "cogvideox_vae") {
    return shapes_of(*CogVideoXVae(CogVideoXVaeConfig{}, deferred));
  }
  if (model == "wan21_vae") {
    return shapes_of(*WanVae(WanVaeConfig{}, deferred));
  }
  if (model == "opensora_vae_v1_2") {
    return shapes_of(*OpenSoraVae(OpenSoraVaeConfig{}, deferred));
  }
  for (const int minor : {0, 1, 2}) {
    if (model == "osp_causalvae_v1_" + std::to_string(minor)) {
      return shapes_of(*VidVae(osp_config(minor), deferred));
    }
  }
  throw std::runtime_error("model not known: " + model);
}

void compare_keys(const std::string& model, const Json& list, Report& report) {
  const Shapes ours = full_size(model);
  for (const auto& [name, shape] : list.at("shapes").items()) {
    const auto mine = ours.find(name);
    if (mine == ours.end()) {
      report.fail(model + ": we lack " + name);
    } else if (Json(mine->second) != shape) {
      report.fail(model + ": shape of " + name + " is " + Json(mine->second).dump());
    }
    report.count(1);
  }
  for (const auto& [name, shape] : ours) {
    if (!list.at("shapes").contains(name)) {
      report.fail(model + ": we have " + name + " in addition");
    }
  }
}

void run_key_lists(const Case& golden, Report& report) {
  for (const char* model : {"sd_vae",
                            "osp_causalvae_v1_0",
                            "osp_causalvae_v1_1",
                            "osp_causalvae_v1_2",
                            "cogvideox_vae",
                            "wan21_vae",
                            "opensora_vae_v1_2"}) {
    const std::string file = std::string(model) + ".json";
    compare_keys(
        model, read_json_file(golden.file(file), {.place = "golden", .subject = file}), report);
  }
}

}  // namespace

std::vector<Kind> vae_kinds() {
  std::vector<Kind> kinds = {{"vae.autoencoder_kl", run_model},
                             {"vae.osp_causal_v1_0", run_model},
                             {"vae.osp_causal_v1_1", run_model},
                             {"vae.osp_causal_v1_2", run_model},
                             {"vae.vidvae_oracle", run_model},
                             {"vae.vidvae_inflation_image", run_inflation},
                             {"vae.vidvae_inflation_video", run_inflation},
                             {"vae.frame_plans", run_plans},
                             {"vae.key_lists", run_key_lists}};
  for (const Kind& kind : vae_layer_kinds()) {
    kinds.push_back(kind);
  }
  return kinds;
}

}  // namespace kinema::golden
