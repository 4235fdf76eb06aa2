// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/guidance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/diffusion/noise_schedule.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.guidance";
constexpr std::array<NamedValue<GuidanceKind>, 4> kKinds = {{
    {"cfg", GuidanceKind::kCfg},
    {"cfg-zero", GuidanceKind::kCfgZero},
    {"apg", GuidanceKind::kApg},
    {"tangential", GuidanceKind::kTangential},
}};

std::vector<std::int64_t> all_but_batch(const Tensor& tensor) {
  std::vector<std::int64_t> axes;
  for (std::int64_t axis = 1; axis < tensor.dim(); ++axis) {
    axes.push_back(axis);
  }
  return axes;
}

Tensor norm_of(const Tensor& tensor) {
  return tensor.square().sum(all_but_batch(tensor), true).sqrt();
}

Tensor dot_product(const Tensor& a, const Tensor& b) {
  return (a * b).sum(all_but_batch(a), true);
}

// In float32 whatever the input, as in the reference.
Tensor cfg_zero_factor(const Tensor& c, const Tensor& u) {
  const Tensor c32 = c.to(at::kFloat);
  const Tensor u32 = u.to(at::kFloat);
  return (dot_product(c32, u32) / (dot_product(u32, u32) + 1e-8)).to(c.scalar_type());
}

// The part of u along the first right singular vector of the rows (c, u), per batch element. That
// vector is a combination of c and u, found from their 2 x 2 Gram matrix in double: the same on
// every machine, which a float32 singular value decomposition is not.
Tensor project_on_main_direction(const Tensor& c, const Tensor& u) {
  const Tensor c64 = c.to(at::kDouble);
  const Tensor u64 = u.to(at::kDouble);
  const Tensor cc = dot_product(c64, c64);
  const Tensor uu = dot_product(u64, u64);
  const Tensor cu = dot_product(c64, u64);
  const Tensor half_gap = 0.5 * (cc - uu);
  const Tensor largest = 0.5 * (cc + uu) + (half_gap.square() + cu.square()).sqrt();
  // Both forms of the eigenvector are right; the difference with the larger diagonal entry is
  // exact.
  const Tensor by_c = half_gap.ge(0.0);
  const Tensor weight_c = at::where(by_c, largest - uu, cu);
  const Tensor weight_u = at::where(by_c, cu, largest - cc);
  const Tensor direction = weight_c * c64 + weight_u * u64;
  const Tensor squared = dot_product(direction, direction).clamp_min(1e-300);
  return (dot_product(u64, direction) / squared * direction).to(u.scalar_type());
}

bool is_close(double a, double b) {
  return std::fabs(a - b) <= 1e-9 * std::max(std::fabs(a), std::fabs(b));
}

}  // namespace

GuidanceConfig GuidanceConfig::from_json(const Json& json) {
  GuidanceConfig config;
  JsonReader reader(json, {.place = kPlace, .subject = "guidance", .kind = ErrorKind::kBadConfig});
  read_enum<GuidanceKind>(reader, "kind", kKinds, config.kind);
  reader.optional("scale", config.scale);
  reader.optional("rescale", config.rescale);
  reader.optional("from_conditional", config.from_conditional);
  reader.optional("start", config.start);
  reader.optional("stop", config.stop);
  reader.optional("guided_channels", config.guided_channels);
  reader.optional("oscillate_from", config.oscillate_from);
  reader.optional("zero_init_steps", config.zero_init_steps);
  reader.optional("momentum", config.momentum);
  reader.optional("norm_threshold", config.norm_threshold);
  reader.optional("eta", config.eta);
  reader.finish();
  config.validate();
  return config;
}

Json GuidanceConfig::to_json() const {
  Json json = {{"kind", std::string(name_of<GuidanceKind>(kKinds, kind))},
               {"scale", scale},
               {"rescale", rescale},
               {"from_conditional", from_conditional},
               {"start", start},
               {"stop", stop},
               {"zero_init_steps", zero_init_steps},
               {"norm_threshold", norm_threshold},
               {"eta", eta}};
  json["guided_channels"] = guided_channels ? Json(*guided_channels) : Json();
  json["oscillate_from"] = oscillate_from ? Json(*oscillate_from) : Json();
  json["momentum"] = momentum ? Json(*momentum) : Json();
  return json;
}

void GuidanceConfig::validate() const {
  std::string problems;
  const auto require = [&](bool holds, const char* rule) {
    if (!holds) {
      problems += (problems.empty() ? "" : ", ") + std::string(rule);
    }
  };
  require(std::isfinite(scale), "a finite scale");
  require(rescale >= 0.0 && rescale <= 1.0, "rescale in 0 .. 1");
  require(start >= 0.0 && start <= stop && stop <= 1.0, "0 <= start <= stop <= 1");
  require(guided_channels.value_or(1) >= 1, "guided_channels of 1 or more");
  require(oscillate_from.value_or(0) >= 0, "oscillate_from of 0 or more");
  require(zero_init_steps >= 0, "zero_init_steps of 0 or more");
  require(std::isfinite(momentum.value_or(0.0)), "a finite momentum");
  require(norm_threshold >= 0.0, "norm_threshold of 0 or more");
  require(std::isfinite(eta), "a finite eta");
  if (!problems.empty()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "guidance.range",
                 .place = kPlace,
                 .subject = "guidance",
                 .expected = problems,
                 .got = to_json().dump()});
  }
}

Guidance::Guidance(GuidanceConfig config) : config_(config) {
  config_.validate();
}

double Guidance::scale_at(std::int64_t step) const {
  const bool rests = config_.oscillate_from && step >= *config_.oscillate_from && step % 2 != 0;
  const double neutral = config_.from_conditional ? 0.0 : 1.0;
  return rests ? neutral : config_.scale;
}

bool Guidance::is_active(std::int64_t step, std::int64_t num_steps) const {
  const auto first = static_cast<std::int64_t>(config_.start * static_cast<double>(num_steps));
  const auto last = static_cast<std::int64_t>(config_.stop * static_cast<double>(num_steps));
  const double neutral = config_.from_conditional ? 0.0 : 1.0;
  return step >= first && step < last && !is_close(scale_at(step), neutral);
}

bool Guidance::needs_unconditional(std::int64_t step, std::int64_t num_steps) const {
  const bool zero = config_.kind == GuidanceKind::kCfgZero && step < config_.zero_init_steps;
  return !zero && is_active(step, num_steps);
}

Tensor Guidance::guide(const Tensor& c, const Tensor& u, double scale) {
  Tensor difference = c - u;
  Tensor base = config_.from_conditional ? c : u;
  if (config_.kind == GuidanceKind::kCfgZero || config_.kind == GuidanceKind::kTangential) {
    const Tensor adjusted = config_.kind == GuidanceKind::kCfgZero
                                ? cfg_zero_factor(c, u) * u
                                : project_on_main_direction(c, u);
    difference = c - adjusted;
    base = config_.from_conditional ? c : adjusted;
  } else if (config_.kind == GuidanceKind::kApg) {
    if (config_.momentum) {
      running_ = running_.defined() ? difference + *config_.momentum * running_ : difference;
      difference = running_;
    }
    if (config_.norm_threshold > 0.0) {
      difference = difference * (config_.norm_threshold / norm_of(difference)).clamp_max(1.0);
    }
    const Tensor axis = c / norm_of(c).clamp_min(1e-12);
    const Tensor parallel = dot_product(difference, axis) * axis;
    difference = (difference - parallel) + config_.eta * parallel;
  }
  return base + scale * difference;
}

Tensor Guidance::combine(const Tensor& conditional,
                         const Tensor& unconditional,
                         std::int64_t step,
                         std::int64_t num_steps,
                         std::int64_t num_channels) {
  if (step == 0) {
    reset();
  }
  const std::int64_t guided =
      std::min({config_.guided_channels.value_or(num_channels), num_channels, conditional.size(1)});
  const Tensor c = conditional.narrow(1, 0, guided);
  Tensor result = c;
  if (config_.kind == GuidanceKind::kCfgZero && step < config_.zero_init_steps) {
    result = at::zeros_like(c);
  } else if (is_active(step, num_steps)) {
    if (!unconditional.defined() || unconditional.sizes() != conditional.sizes()) {
      throw Error(ErrorKind::kShapeMismatch,
                  {.code = "guidance.shape",
                   .place = kPlace,
                   .subject = "unconditional prediction",
                   .expected = tensor::shape_text(conditional),
                   .got = unconditional.defined() ? tensor::shape_text(unconditional) : "nothing"});
    }
    result = guide(c, unconditional.narrow(1, 0, guided), scale_at(step));
  }
  if (config_.rescale > 0.0) {
    result = rescale_prediction(result, c, config_.rescale);
  }
  if (guided == conditional.size(1)) {
    return result;
  }
  return at::cat({result, conditional.narrow(1, guided, conditional.size(1) - guided)}, 1);
}

Tensor rescale_prediction(const Tensor& prediction, const Tensor& conditional, double rescale) {
  const auto axes = all_but_batch(prediction);
  const Tensor wanted = conditional.std(axes, /*unbiased=*/true, /*keepdim=*/true);
  const Tensor have = prediction.std(axes, /*unbiased=*/true, /*keepdim=*/true);
  const Tensor factor = at::where(have.gt(0.0), wanted / have, at::ones_like(have));
  return rescale * (prediction * factor) + (1.0 - rescale) * prediction;
}

Tensor combine_text_and_image(const Tensor& conditional,
                              const Tensor& without_text,
                              const Tensor& without_both,
                              double text_scale,
                              std::span<const double> image_scale_T) {
  const auto count = static_cast<std::int64_t>(image_scale_T.size());
  tensor::check_shape(
      conditional,
      {tensor::kAny, tensor::kAny, count == 1 ? tensor::kAny : count, tensor::kAny, tensor::kAny},
      kPlace,
      "conditional");
  const Tensor image_scale =
      at::tensor(std::vector<double>(image_scale_T.begin(), image_scale_T.end()), at::kDouble)
          .view({1, 1, count, 1, 1})
          .to(conditional.options());
  return without_both + image_scale * (without_text - without_both) +
         text_scale * (conditional - without_text);
}

GuidedDenoiser::GuidedDenoiser(Denoiser& denoiser,
                               GuidanceConfig config,
                               Conditioning prompt,
                               Conditioning negative)
    : denoiser_(&denoiser),
      guidance_(config),
      prompt_(std::move(prompt)),
      negative_(std::move(negative)) {}

Tensor GuidedDenoiser::predict(const Tensor& latents_BCTHW,
                               const Tensor& timesteps,
                               std::int64_t step,
                               std::int64_t num_steps,
                               const Tensor& frame_mask_BT) {
  Conditioning prompt = prompt_;
  if (frame_mask_BT.defined()) {
    prompt.frame_mask_BT = frame_mask_BT;
  }
  const std::int64_t num_channels = latents_BCTHW.size(1);
  if (!guidance_.needs_unconditional(step, num_steps)) {
    return guidance_.combine(
        denoiser_->predict(latents_BCTHW, timesteps, prompt), {}, step, num_steps, num_channels);
  }
  Conditioning negative = negative_;
  if (frame_mask_BT.defined()) {
    negative.frame_mask_BT = frame_mask_BT;
  }
  const Tensor both = denoiser_->predict(at::cat({latents_BCTHW, latents_BCTHW}, 0),
                                         at::cat({timesteps, timesteps}, 0),
                                         concat(prompt, negative));
  const auto halves = both.chunk(2, 0);
  return guidance_.combine(halves[0], halves[1], step, num_steps, num_channels);
}

GuidedDenoiser GuidedDenoiser::window(std::int64_t first, std::int64_t length) const {
  return {*denoiser_,
          guidance_.config(),
          prompt_.window(first, length),
          negative_.window(first, length)};
}

}  // namespace kinema::diffusion
