// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/masked_sampling.h"

#include <string>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.masked_sampling";

Tensor over_pixels(const Tensor& frames_BT) {
  return frames_BT.unsqueeze(1).unsqueeze(-1).unsqueeze(-1);
}

}  // namespace

MaskedSampling::Rule MaskedSampling::rule_for(SamplerKind kind) {
  switch (kind) {
    case SamplerKind::kRflow:
    case SamplerKind::kFlowEuler:
      return Rule::kTime;
    case SamplerKind::kIddpm:
      return Rule::kOpenSoraStep;
    default:
      return Rule::kStep;
  }
}

MaskedSampling::MaskedSampling(const Tensor& mask_BT, const Sampler& sampler)
    : rule_(rule_for(sampler.kind())) {
  tensor::check_shape(mask_BT, {tensor::kAny, tensor::kAny}, kPlace, "mask_BT");
  mask_BT_ = mask_BT.to(at::kCPU, at::kFloat);
  const bool in_range = mask_BT_.ge(0.0).logical_and(mask_BT_.le(1.0)).all().item<bool>();
  if (!in_range) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "mask.range",
                 .place = kPlace,
                 .subject = "mask_BT",
                 .expected = "values 0 .. 1",
                 .got = "others"});
  }
  const bool is_whole = mask_BT_.eq(mask_BT_.floor()).all().item<bool>();
  if (sampler.is_multistep() && !is_whole) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "mask.multistep",
                 .place = kPlace,
                 .subject = std::string(to_string(sampler.kind())),
                 .expected = "mask values 0 and 1 for a multistep solver",
                 .got = "values between",
                 .hint = "use rflow, flow-euler, ddim, ddpm, iddpm or euler"});
  }
}

MaskedSampling::Frames MaskedSampling::frames_at(const Sampler& sampler, std::int64_t index) const {
  if (rule_ != Rule::kTime) {
    const std::int64_t left = sampler.num_steps() - 1 - index;
    const Tensor start = (mask_BT_ * static_cast<double>(sampler.num_steps())).to(at::kLong);
    if (rule_ == Rule::kOpenSoraStep) {
      return {
          .noised_BT = start.eq(left), .generated_BT = start.gt(left), .kept_BT = start.lt(left)};
    }
    return {.noised_BT = start.eq(left + 1).logical_and(mask_BT_.lt(1.0)),
            .generated_BT = start.gt(left),
            .kept_BT = start.le(left)};
  }
  // float32, as t and 1000 m are in the original: m = t / 1000 counts as reached.
  const auto active_at = [&](std::int64_t step) {
    const auto time = static_cast<float>(sampler.timesteps()[static_cast<std::size_t>(step)]);
    return (mask_BT_ * 1000.0).ge(static_cast<double>(time));
  };
  const Tensor active = active_at(index);
  const Tensor before = index > 0 ? active_at(index - 1) : mask_BT_.eq(1.0);
  return {.noised_BT = active.logical_and(before.logical_not()),
          .generated_BT = active,
          .kept_BT = active.logical_not()};
}

bool MaskedSampling::uses_noise(const Sampler& sampler, std::int64_t index) const {
  return frames_at(sampler, index).noised_BT.any().item<bool>();
}

Tensor MaskedSampling::before_step(const Sampler& sampler,
                                   std::int64_t index,
                                   const Tensor& latents_BCTHW,
                                   const Tensor& noise_BCTHW) {
  tensor::check_shape(
      latents_BCTHW,
      {mask_BT_.size(0), tensor::kAny, mask_BT_.size(1), tensor::kAny, tensor::kAny},
      kPlace,
      "latents_BCTHW");
  const Frames frames = frames_at(sampler, index);
  const auto device = latents_BCTHW.device();
  generated_BT_ = frames.generated_BT.to(device);
  kept_BT_ = frames.kept_BT.to(device);
  before_BCTHW_ = latents_BCTHW;
  if (frames.noised_BT.any().item<bool>()) {
    before_BCTHW_ = at::where(over_pixels(frames.noised_BT.to(device)),
                              sampler.add_noise(latents_BCTHW, noise_BCTHW, index),
                              latents_BCTHW);
  }
  return before_BCTHW_;
}

Tensor MaskedSampling::model_input(const Sampler& sampler,
                                   std::int64_t index,
                                   const Tensor& latents_BCTHW) const {
  return at::where(
      over_pixels(generated_BT_), sampler.scale_model_input(latents_BCTHW, index), latents_BCTHW);
}

Tensor MaskedSampling::after_step(const Tensor& stepped_BCTHW) const {
  return at::where(over_pixels(kept_BT_), before_BCTHW_, stepped_BCTHW);
}

}  // namespace kinema::diffusion
