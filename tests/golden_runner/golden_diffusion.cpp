// SPDX-License-Identifier: Apache-2.0
// Kinds of core/diffusion: samplers against closed-form denoisers, guidance, windows, losses.
#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>

#include <ATen/ATen.h>

#include "core/diffusion/ddim.h"
#include "core/diffusion/ddpm.h"
#include "core/diffusion/dpmpp.h"
#include "core/diffusion/euler.h"
#include "core/diffusion/flow_euler.h"
#include "core/diffusion/freenoise.h"
#include "core/diffusion/guidance.h"
#include "core/diffusion/iddpm.h"
#include "core/diffusion/losses.h"
#include "core/diffusion/masked_sampling.h"
#include "core/diffusion/noise_schedule.h"
#include "core/diffusion/rflow.h"
#include "core/diffusion/sampler.h"
#include "core/diffusion/unipc.h"
#include "core/diffusion/windows.h"
#include "tests/golden_runner/golden_case.h"

namespace kinema::golden {
namespace {

using namespace kinema::diffusion;

/// The denoiser that case.json writes out: exact for Gaussian data N(mu, 0.36), plus a small sine.
Tensor analytic_denoiser(const std::string& kind, const Tensor& x, double t, const Tensor& mu) {
  constexpr double kVariance = 0.36;
  if (kind == "flow_prediction") {
    const double s = t / 1000.0;
    const double variance = (1.0 - s) * (1.0 - s) * kVariance + s * s;
    const Tensor r = x - (1.0 - s) * mu;
    return s * r / variance - (mu + (1.0 - s) * kVariance * r / variance) + 0.1 * (2.0 * x).sin();
  }
  const double u = (t + 1.0) / 1000.0;
  const double a2 = std::exp(-(0.1 * u + 9.95 * u * u));
  const double a = std::sqrt(a2);
  const double b = std::sqrt(1.0 - a2);
  const double variance = a2 * kVariance + b * b;
  const Tensor eps = b * (x - a * mu) / variance + 0.1 * b * (2.0 * x).sin();
  if (kind == "epsilon") {
    return eps;
  }
  if (kind == "v_prediction") {
    return a * eps - b * (x - b * eps) / a;
  }
  if (kind == "sample") {
    return mu + a * kVariance * (x - a * mu) / variance + 0.05 * (2.0 * x).sin();
  }
  if (kind == "learned_range") {
    return at::cat({eps, (x + t / 1000.0).tanh()}, 1);
  }
  throw std::runtime_error("denoiser not known: " + kind);
}

ScheduleRequest request_of(const Json& call) {
  ScheduleRequest request;
  JsonReader reader(call, {.place = "golden", .subject = "set_timesteps_and_step"});
  reader.optional("num_inference_steps", request.num_steps);
  reader.optional("timesteps", request.timesteps);
  reader.optional("sigmas", request.sigmas);
  reader.optional("mu", request.mu);
  reader.optional("eta", request.eta);
  reader.optional("use_clipped_model_output", request.use_clipped_model_output);
  reader.optional("s_churn", request.churn);
  reader.optional("s_tmin", request.churn_min_sigma);
  reader.optional("s_tmax", request.churn_max_sigma);
  reader.optional("s_noise", request.churn_noise);
  reader.ignore({"denoiser"});
  reader.finish();
  return request;
}

Tensor as_tensor(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

std::vector<double> sigmas_of(const Sampler& sampler) {
  if (const auto* dpmpp = dynamic_cast<const DpmppSampler*>(&sampler)) {
    return dpmpp->sigmas();
  }
  if (const auto* unipc = dynamic_cast<const UnipcSampler*>(&sampler)) {
    return unipc->sigmas();
  }
  if (const auto* euler = dynamic_cast<const EulerSampler*>(&sampler)) {
    return euler->sigmas();
  }
  if (const auto* flow = dynamic_cast<const FlowEulerSampler*>(&sampler)) {
    return flow->sigmas();
  }
  throw std::runtime_error("a sampler without sigmas");
}

/// Compares "out.NAME" (float32 tables in the reference) and "out.NAME_f64" where they are there.
class SchedulerOutputs {
 public:
  SchedulerOutputs(const Case& golden, const TensorMap& io, Report& report)
      : io_(io), report_(report), double_(Allowed::from(golden)) {
    float_ = {golden.tolerance("traj_fp32_tables").value_or(2e-5), Allowed::Unit::kAbsolute};
  }
  [[nodiscard]] bool has(const std::string& name) const {
    return io_.contains("out." + name) || io_.contains("out." + name + "_f64");
  }
  /// `relative`: float32 values of any size, compared relative to the largest of them.
  void compare(const std::string& name, const Tensor& ours, bool relative = false) {
    if (io_.contains("out." + name + "_f64")) {
      report_.compare(io_, "out." + name + "_f64", ours, double_);
    }
    const auto plain = io_.find("out." + name);
    if (plain == io_.end()) {
      return;
    }
    Allowed allowed = float_;
    if (relative) {
      allowed.limit *= std::max(1.0, plain->second.abs().max().to(at::kDouble).item<double>());
    }
    report_.compare(io_, "out." + name, ours, allowed);
  }

 private:
  const TensorMap& io_;
  Report& report_;
  Allowed double_;
  Allowed float_;
};

const std::vector<double>& alphas_of(const Sampler& sampler) {
  if (const auto* ddim = dynamic_cast<const DdimSampler*>(&sampler)) {
    return ddim->alphas_cumprod();
  }
  return dynamic_cast<const DdpmSampler&>(sampler).alphas_cumprod();
}

void run_scheduler(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json& call = golden.json.at("call").at("set_timesteps_and_step");
  const auto denoiser = call.at("denoiser").get<std::string>();
  const Json config = read_scheduler_config(golden.file("config.json"));
  const auto sampler = make_sampler(config);
  sampler->set_timesteps(request_of(call));
  const Tensor mu = io.at("in.mu").to(at::kDouble);
  const Tensor noise = io.at("in.noise").to(at::kDouble);
  Tensor x = io.at("in.x_T").to(at::kDouble) * sampler->init_noise_sigma();
  std::vector<Tensor> trajectory = {x};
  std::vector<Tensor> outputs;
  std::vector<Tensor> clean;
  for (std::int64_t i = 0; i < sampler->num_steps(); ++i) {
    const double t = sampler->timesteps()[static_cast<std::size_t>(i)];
    outputs.push_back(analytic_denoiser(denoiser, sampler->scale_model_input(x, i), t, mu));
    const StepResult result = sampler->step(outputs.back(), i, x, noise[i]);
    x = result.sample;
    trajectory.push_back(x);
    clean.push_back(result.x0);
  }
  SchedulerOutputs compared(golden, io, report);
  compared.compare("timesteps", as_tensor(sampler->timesteps()), true);
  compared.compare("traj", at::stack(trajectory), sampler->kind() == SamplerKind::kEuler);
  compared.compare("model_output", at::stack(outputs), sampler->kind() == SamplerKind::kEuler);
  if (compared.has("pred_x0")) {
    compared.compare("pred_x0", at::stack(clean), true);
  }
  if (compared.has("sigmas")) {
    compared.compare("sigmas", as_tensor(sigmas_of(*sampler)), true);
  }
  if (compared.has("alphas_cumprod")) {
    BetaConfig betas;
    JsonReader reader(config, {.place = "golden", .subject = golden.name});
    betas.read(reader);
    std::vector<double> alphas = make_alphas_cumprod(betas);
    // Euler keeps the last one above 0, so that its sigma is finite.
    if (sampler->kind() == SamplerKind::kEuler && betas.rescale_betas_zero_snr) {
      alphas.back() = std::ldexp(1.0, -24);
    }
    compared.compare("alphas_cumprod", as_tensor(alphas));
  }
  if (compared.has("add_noise")) {
    const auto num_train = static_cast<std::int64_t>(alphas_of(*sampler).size());
    const Tensor times = at::tensor({std::int64_t{0}, num_train / 2, num_train - 1}, at::kLong);
    const auto three = [](const Tensor& one) { return at::cat({one, one, one}, 0); };
    const Tensor ours =
        add_noise_at(alphas_of(*sampler), three(mu), three(io.at("in.x_T").to(at::kDouble)), times);
    compared.compare("add_noise", ours);
  }
  report.check_complete(io);
}

Tensor over_pixels(const Tensor& frames_BT) {
  return frames_BT.unsqueeze(1).unsqueeze(-1).unsqueeze(-1);
}

/// Open-Sora models: per frame time t where generated, else 0; means mu * y. Double inside, float
/// out.
Tensor open_sora_velocity(const Tensor& x, double t, const Tensor& generated_BT, const Tensor& m) {
  const Tensor s = over_pixels(generated_BT.to(at::kDouble)) * (t / 1000.0);
  const Tensor z = x.to(at::kDouble);
  const Tensor variance = (1.0 - s).square() * 0.36 + s.square();
  const Tensor r = z - (1.0 - s) * m;
  const Tensor v =
      -(s * r / variance - (m + (1.0 - s) * 0.36 * r / variance) + 0.1 * (2.0 * z).sin());
  return at::cat({v, z.cos()}, 1).to(at::kFloat);
}

Tensor open_sora_noise(const Tensor& x, double t, const Tensor& generated_BT, const Tensor& m) {
  const Tensor u = (over_pixels(generated_BT.to(at::kDouble)) * t + 1.0) / 1000.0;
  const Tensor z = x.to(at::kDouble);
  const Tensor a2 = (-(0.1 * u + 9.95 * u.square())).exp();
  const Tensor a = a2.sqrt();
  const Tensor b = (1.0 - a2).sqrt();
  const Tensor eps = b * (z - a * m) / (a2 * 0.36 + b.square()) + 0.1 * b * (2.0 * z).sin();
  return at::cat({eps, (z + u).tanh()}, 1).to(at::kFloat);
}

using OpenSoraModel = Tensor (*)(const Tensor&, double, const Tensor&, const Tensor&);

/// What one prompt of an Open-Sora run leaves behind, step by step.
struct OpenSoraRun {
  std::vector<Tensor> inputs;
  std::vector<Tensor> generated;
  Tensor final;
};

OpenSoraRun run_open_sora(const TensorMap& io,
                          std::int64_t row,
                          Sampler& sampler,
                          Guidance guidance,
                          OpenSoraModel model) {
  const auto pick = [&](const Tensor& all) { return all.narrow(all.dim() == 6 ? 1 : 0, row, 1); };
  Tensor x = pick(io.at("in.z"));
  const Tensor mu = pick(io.at("in.mu")).to(at::kDouble);
  const bool masked = io.contains("in.mask");
  const Tensor mask_BT = masked ? pick(io.at("in.mask")) : at::ones({1, x.size(2)});
  MaskedSampling frames(mask_BT, sampler);
  const auto noise_of = [&](const char* name, std::int64_t i) {
    return io.contains(name) ? pick(io.at(name))[i] : Tensor();
  };
  // The flow runs draw one noise per step, for masks; the ancestral ones two.
  const bool is_flow = sampler.kind() == SamplerKind::kRflow;
  OpenSoraRun run;
  for (std::int64_t i = 0; i < sampler.num_steps(); ++i) {
    x = frames.before_step(sampler, i, x, noise_of(is_flow ? "in.noise" : "in.noise_ref", i));
    run.inputs.push_back(x);
    run.generated.push_back(frames.generated_BT());
    const double t = sampler.timesteps()[static_cast<std::size_t>(i)];
    const Tensor out = guidance.combine(model(x, t, frames.generated_BT(), mu * 1.0),
                                        model(x, t, frames.generated_BT(), mu * 0.3),
                                        i,
                                        sampler.num_steps(),
                                        x.size(1));
    x = frames.after_step(sampler.step(out, i, x, noise_of("in.noise", i)).sample);
  }
  run.final = x;
  return run;
}

/// Rows may have sizes of their own, so each is a run.
void run_open_sora_case(const Case& golden, Report& report, OpenSoraModel model) {
  const TensorMap io = golden.io();
  const Json& call = golden.json.at("call");
  GuidanceConfig guidance;
  guidance.scale = call.at("cfg_scale").get<double>();
  if (const auto channels = call.find("cfg_channel");
      channels != call.end() && channels->is_number()) {
    guidance.guided_channels = channels->get<std::int64_t>();
  }
  std::vector<Tensor> inputs;
  std::vector<Tensor> generated;
  std::vector<Tensor> finals;
  std::vector<Tensor> times;
  const bool is_flow = model == &open_sora_velocity;
  for (std::int64_t row = 0; row < io.at("in.z").size(0); ++row) {
    Json config = {{"_class_name", is_flow ? "RFLOW" : "IDDPM"}};
    ScheduleRequest request{.num_steps = call.at("num_sampling_steps").get<std::int64_t>()};
    if (is_flow) {
      config["use_timestep_transform"] = call.value("use_timestep_transform", false);
      config["use_discrete_timesteps"] = call.value("use_discrete_timesteps", false);
      config["transform_scale"] = call.value("transform_scale", 1.0);
      const auto size = [&](const char* name) {
        return static_cast<std::int64_t>(io.at(name)[row].item<float>());
      };
      request.height = size("in.height");
      request.width = size("in.width");
      request.num_frames = size("in.num_frames");
    }
    const auto sampler = make_sampler(config);
    sampler->set_timesteps(request);
    OpenSoraRun run = run_open_sora(io, row, *sampler, Guidance(guidance), model);
    inputs.push_back(at::stack(run.inputs));
    generated.push_back(at::stack(run.generated));
    finals.push_back(run.final);
    times.push_back(as_tensor(sampler->timesteps()));
  }
  const Allowed allowed = Allowed::from(golden);
  report.compare(io, "out.final", at::cat(finals, 0), allowed);
  report.compare(io, "out.model_input_z", at::cat(inputs, 1), allowed);
  const std::string time_name = is_flow ? "out.timesteps" : "out.model_t";
  if (io.contains(time_name)) {
    report.compare(io, time_name, at::stack(times, 1), {1e-3, Allowed::Unit::kAbsolute});
  }
  if (io.contains("out.x_mask")) {
    report.compare(
        io, "out.x_mask", at::cat(generated, 1).to(at::kInt), {0.0, Allowed::Unit::kExact});
  }
  report.check_complete(io);
}

void run_rflow_sample(const Case& golden, Report& report) {
  run_open_sora_case(golden, report, &open_sora_velocity);
}
void run_iddpm_sample(const Case& golden, Report& report) {
  run_open_sora_case(golden, report, &open_sora_noise);
}

/// Rows of 2 .. 16 frames are 0 or NaN in the reference; there ours must be usable instead.
void run_rflow_transform(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Tensor& expected = io.at("out.t");
  const Tensor ours = at::empty_like(expected);
  const auto value = [&](const char* name, std::int64_t row) {
    return io.at(name).reshape({-1})[row].item<double>();
  };
  for (std::int64_t row = 0; row < expected.size(0); ++row) {
    const double t = value("in.t", row);
    const double time =
        rflow_shift_timestep(t,
                             {.height = static_cast<std::int64_t>(value("in.height", row)),
                              .width = static_cast<std::int64_t>(value("in.width", row)),
                              .num_frames = static_cast<std::int64_t>(value("in.num_frames", row))},
                             value("in.scale", row));
    const double frames = value("in.num_frames", row);
    const bool undefined = frames >= 2.0 && frames <= 16.0;
    const bool usable =
        undefined && (time > 0.0) == (t > 0.0) && time <= 1000.0 && (t < 1000.0 || time == 1000.0);
    if (undefined && !usable) {
      report.fail("row " + std::to_string(row) + ": time " + std::to_string(time));
    }
    ours[row] = undefined ? expected[row].item<double>() : time;
  }
  const Allowed allowed = {golden.tolerance("max_abs").value() * 1000.0, Allowed::Unit::kAbsolute};
  TensorMap finite = io;
  finite["out.t"] = at::nan_to_num(expected);
  report.compare(finite, "out.t", at::nan_to_num(ours), allowed);
  report.check_complete(io);
}

void run_iddpm_tables(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json& call = golden.json.at("call");
  const double limit = golden.tolerance("max_abs").value();
  const auto compare_relative = [&](const std::string& name, const Tensor& ours) {
    const Tensor& expected = io.at(name);
    const Tensor scale = expected.to(at::kDouble).abs().clamp_min(1e-30);
    TensorMap scaled;
    scaled[name] = expected.to(at::kDouble) / scale;
    report.compare(scaled, name, ours.to(at::kDouble) / scale, {limit, Allowed::Unit::kAbsolute});
  };
  for (const Json& steps : call.at("steps")) {
    const std::int64_t count = steps.is_null() ? 1000 : steps.get<std::int64_t>();
    const IddpmTables tables = make_iddpm_tables({}, space_timesteps(1000, std::to_string(count)));
    const std::string suffix = "_" + std::to_string(count);
    report.compare(io, "out.map" + suffix, at::tensor(tables.timestep_map, at::kLong), {});
    compare_relative("out.betas" + suffix, tables.betas);
    compare_relative("out.coef1" + suffix, tables.posterior_mean_coef1);
    compare_relative("out.coef2" + suffix, tables.posterior_mean_coef2);
    compare_relative("out.log_var_min" + suffix, tables.posterior_log_variance);
  }
  for (const Json& space : call.at("space")) {
    auto name = space.get<std::string>();
    const auto kept = space_timesteps(1000, name);
    std::replace(name.begin(), name.end(), ',', '_');
    report.compare(io, "out.space_" + name, at::tensor(kept, at::kLong), {});
  }
  report.check_complete(io);
}

Tensor frame_mask_of(const TensorMap& io) {
  const auto found = io.find("in.mask");
  return found == io.end() ? Tensor() : found->second.to(at::kBool);
}

void run_rflow_loss(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const Tensor mask = frame_mask_of(io);
  const Tensor output = io.at("in.model_output").clone().requires_grad_(true);
  const Tensor loss = rflow_loss(output, io.at("in.x_start"), io.at("in.noise"), mask);
  loss.mean().backward();
  report.compare(io,
                 "out.x_t",
                 rflow_add_noise(io.at("in.x_start"), io.at("in.noise"), io.at("in.t"), mask),
                 allowed);
  report.compare(io, "out.loss", loss.detach(), allowed);
  report.compare(io, "out.grad_of_mean_loss", output.grad(), allowed);
  report.check_complete(io);
}

void run_iddpm_loss(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const Tensor mask = frame_mask_of(io);
  const IddpmTables tables = make_iddpm_tables({}, space_timesteps(1000, "1000"));
  const Tensor output = io.at("in.model_output").clone().requires_grad_(true);
  const Tensor x_t =
      iddpm_add_noise(tables, io.at("in.x_start"), io.at("in.noise"), io.at("in.t"), mask);
  const IddpmLoss loss =
      iddpm_loss(tables, output, io.at("in.x_start"), x_t, io.at("in.noise"), io.at("in.t"), mask);
  loss.loss_B.mean().backward();
  report.compare(io, "out.x_t", x_t, allowed);
  report.compare(io, "out.loss", loss.loss_B.detach(), allowed);
  report.compare(io, "out.mse", loss.mse_B.detach(), allowed);
  report.compare(io, "out.vb", loss.bound_B.detach(), allowed);
  report.compare(io, "out.grad_of_mean_loss", output.grad(), allowed);
  report.check_complete(io);
}

GuidanceConfig guidance_of(const Json& variant) {
  GuidanceConfig config;
  const auto name = variant.at("class").get<std::string>();
  if (name == "ClassifierFreeZeroStarGuidance") {
    config.kind = GuidanceKind::kCfgZero;
  } else if (name == "AdaptiveProjectedGuidance") {
    config.kind = GuidanceKind::kApg;
  } else if (name == "TangentialClassifierFreeGuidance") {
    config.kind = GuidanceKind::kTangential;
  } else if (name != "ClassifierFreeGuidance") {
    throw std::runtime_error("guider not known: " + name);
  }
  JsonReader reader(variant.at("args"), {.place = "golden", .subject = "guider"});
  reader.optional("guidance_scale", config.scale);
  reader.optional("guidance_rescale", config.rescale);
  reader.optional("use_original_formulation", config.from_conditional);
  reader.optional("start", config.start);
  reader.optional("stop", config.stop);
  reader.optional("zero_init_steps", config.zero_init_steps);
  reader.optional("adaptive_projected_guidance_momentum", config.momentum);
  reader.optional("adaptive_projected_guidance_rescale", config.norm_threshold);
  reader.optional("eta", config.eta);
  reader.finish();
  return config;
}

void run_guidance(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json config =
      read_json_file(golden.file("config.json"), {.place = "golden", .subject = golden.name});
  const Tensor& cond = io.at("in.cond");
  for (const auto& [name, variant] : config.items()) {
    Guidance guidance(guidance_of(variant));
    std::vector<Tensor> steps;
    for (std::int64_t i = 0; i < cond.size(0); ++i) {
      steps.push_back(
          guidance.combine(cond[i], io.at("in.uncond")[i], i, cond.size(0), cond.size(2)));
    }
    Allowed allowed = Allowed::from(golden);
    if (guidance.config().kind == GuidanceKind::kTangential) {
      // The reference decomposes in float32; on another CPU it is 6e-6 away from its own output.
      allowed.limit = std::max(allowed.limit, 2e-5);
    }
    report.compare(io, "out." + name, at::stack(steps), allowed);
  }
  report.check_complete(io);
}

std::vector<Window> windows_of(const Json& call) {
  std::vector<Window> windows;
  for (const Json& start : call.at("starts")) {
    windows.push_back({.first = start.get<std::int64_t>(),
                       .length = call.at("window").get<std::int64_t>(),
                       .index = static_cast<std::int64_t>(windows.size())});
  }
  return windows;
}

/// "out.<sampler>_<weights>".
void run_fused_window(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json& call = golden.json.at("call");
  const auto times = call.at("timesteps").get<std::vector<double>>();
  // The schedule of the case's formula, as betas.
  std::vector<double> betas;
  double before = 1.0;
  for (int t = 0; t < 1000; ++t) {
    const double u = (t + 1.0) / 1000.0;
    const double alpha = std::exp(-(0.1 * u + 9.95 * u * u));
    betas.push_back(1.0 - alpha / before);
    before = alpha;
  }
  std::vector<double> sigmas = times;
  std::ranges::for_each(sigmas, [](double& sigma) { sigma /= 1000.0; });
  const Json trained = {{"trained_betas", betas}, {"clip_sample", false}};
  for (const auto& [name, expected] : io) {
    if (!name.starts_with("out.")) {
      continue;
    }
    const auto split = name.rfind('_');
    const std::string method = name.substr(4, split - 4);
    const bool flat = name.substr(split + 1) == "flat";
    std::unique_ptr<Sampler> sampler;
    if (method == "ddim") {
      sampler = std::make_unique<DdimSampler>(DdimConfig::from_json(trained));
      sampler->set_timesteps({.timesteps = times});
    } else if (method == "dpmpp2m") {
      sampler = std::make_unique<DpmppSampler>(DpmppConfig::from_json({{"trained_betas", betas}}));
      sampler->set_timesteps({.timesteps = times});
    } else if (method == "euler_flow") {
      sampler = make_sampler(SamplerKind::kFlowEuler);
      sampler->set_timesteps({.sigmas = sigmas});
    } else {
      throw std::runtime_error("sampler not known: " + method);
    }
    const FusedPredictor fused(windows_of(call),
                               flat ? WindowWeights::kFlat : WindowWeights::kTriangular);
    Tensor x = io.at("in.x_T");
    std::vector<Tensor> trajectory = {x};
    for (std::int64_t i = 0; i < sampler->num_steps(); ++i) {
      const double t = sampler->timesteps()[static_cast<std::size_t>(i)];
      const Tensor out = fused.predict(
          x, at::full({x.size(0)}, t), [&](const Tensor& crop, const Tensor&, const Window& w) {
            return analytic_denoiser(method == "euler_flow" ? "flow_prediction" : "epsilon",
                                     crop,
                                     t,
                                     io.at("in.mu")[w.index]);
          });
      x = sampler->step(out, i, x).sample;
      trajectory.push_back(x);
    }
    report.compare(io, name, at::stack(trajectory), Allowed::from(golden));
  }
  report.check_complete(io);
}

void run_freenoise(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Json& call = golden.json.at("call");
  const Allowed allowed = Allowed::from(golden);
  const FreeNoiseConfig config = {.window = call.at("window").get<std::int64_t>(),
                                  .stride = call.at("stride").get<std::int64_t>()};
  std::vector<std::vector<std::int64_t>> orders;
  for (std::int64_t k = 0; k < io.at("in.perm").size(0); ++k) {
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < config.stride; ++i) {
      order.push_back(io.at("in.perm")[k][i].item<std::int64_t>());
    }
    orders.push_back(order);
  }
  report.compare(
      io,
      "out.noise",
      extend_noise(io.at("in.noise"), call.at("frames").get<std::int64_t>(), config, orders),
      allowed);
  report.compare(io,
                 "out.attention",
                 windowed_attention(io.at("in.q"), io.at("in.k"), io.at("in.v"), windows_of(call)),
                 allowed);
  const Tensor table = at::zeros_like(io.at("out.triangular_weights"));
  for (std::int64_t f = 1; f <= table.size(0); ++f) {
    table[f - 1].narrow(0, 0, f).copy_(as_tensor(triangular_weights(f)));
  }
  report.compare(io, "out.triangular_weights", table, {});
  const auto length = call.at("seg").get<std::int64_t>();
  const auto overlap = call.at("overlap").get<std::int64_t>();
  const auto count = call.at("nseg").get<std::int64_t>();
  std::vector<Window> segments;
  std::vector<Tensor> parts;
  std::vector<Tensor> weights;
  for (std::int64_t j = 0; j < count; ++j) {
    segments.push_back({.first = j * (length - overlap), .length = length, .index = j});
    parts.push_back(io.at("in.segments")[j]);
    weights.push_back(as_tensor(ramp_weights(length, overlap, j == 0, j + 1 == count)));
  }
  report.compare(io, "out.merge_weights", at::stack(weights), allowed);
  report.compare(
      io, "out.merged", merge_windows(parts, segments, WindowWeights::kRamp, 0), allowed);
  report.check_complete(io);
}

}  // namespace

std::vector<Kind> diffusion_kinds() {
  return {{"diffusion.scheduler.ddpm", run_scheduler},
          {"diffusion.scheduler.ddim", run_scheduler},
          {"diffusion.scheduler.dpmpp", run_scheduler},
          {"diffusion.scheduler.unipc", run_scheduler},
          {"diffusion.scheduler.euler", run_scheduler},
          {"diffusion.scheduler.flowmatch", run_scheduler},
          {"diffusion.rflow_sample", run_rflow_sample},
          {"diffusion.rflow_transform", run_rflow_transform},
          {"diffusion.rflow_loss", run_rflow_loss},
          {"diffusion.iddpm_sample", run_iddpm_sample},
          {"diffusion.iddpm_tables", run_iddpm_tables},
          {"diffusion.iddpm_loss", run_iddpm_loss},
          {"diffusion.guidance", run_guidance},
          {"diffusion.fused_window", run_fused_window},
          {"diffusion.freenoise", run_freenoise}};
}

}  // namespace kinema::golden
