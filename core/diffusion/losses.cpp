// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/losses.h"

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/kernels/noise.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.losses";
constexpr std::int64_t kMaxCount = std::int64_t{1} << 32;

// [B] over [B, C, T, H, W].
Tensor per_sample(const Tensor& values_B, const Tensor& like) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(like.dim()), 1);
  shape[0] = values_B.size(0);
  return values_B.view(shape).to(like.options());
}

Tensor over_pixels(const Tensor& frames_BT) {
  return frames_BT.unsqueeze(1).unsqueeze(-1).unsqueeze(-1);
}

void check_frame_mask(const Tensor& frame_mask_BT, const Tensor& values) {
  if (frame_mask_BT.defined()) {
    tensor::check_shape(
        values,
        {frame_mask_BT.size(0), tensor::kAny, frame_mask_BT.size(-1), tensor::kAny, tensor::kAny},
        kPlace,
        "values_BCTHW");
  }
}

Tensor lookup(const Tensor& table, const Tensor& steps_B, const Tensor& like) {
  const Tensor steps = steps_B.to(at::kCPU, at::kLong);
  const bool in_range = steps.dim() == 1 && steps.ge(0).all().item<bool>() &&
                        steps.lt(table.size(0)).all().item<bool>();
  if (!in_range) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "losses.timestep",
                 .place = kPlace,
                 .subject = "steps_B",
                 .expected = "0 .. " + std::to_string(table.size(0) - 1),
                 .got = "others"});
  }
  return per_sample(table.index_select(0, steps), like);
}

// KL(N(mean1, exp(log_var1)) || N(mean2, exp(log_var2))) in nats.
Tensor normal_kl(const Tensor& mean1,
                 const Tensor& log_var1,
                 const Tensor& mean2,
                 const Tensor& log_var2) {
  return 0.5 * (-1.0 + log_var2 - log_var1 + (log_var1 - log_var2).exp() +
                (mean1 - mean2).square() * (-log_var2).exp());
}

Tensor approximate_normal_cdf(const Tensor& x) {
  return 0.5 * (1.0 + (std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x.pow(3))).tanh());
}

// ln of the probability of the bin of width 2/255 around x; the outer bins reach to infinity.
Tensor binned_log_likelihood(const Tensor& x, const Tensor& mean, const Tensor& log_deviation) {
  constexpr double kHalfBin = 1.0 / 255.0;
  constexpr double kFloor = 1e-12;
  const Tensor centered = x - mean;
  const Tensor inverse = (-log_deviation).exp();
  const Tensor above = approximate_normal_cdf(inverse * (centered + kHalfBin));
  const Tensor below = approximate_normal_cdf(inverse * (centered - kHalfBin));
  return at::where(x.lt(-0.999),
                   above.clamp_min(kFloor).log(),
                   at::where(x.gt(0.999),
                             (1.0 - below).clamp_min(kFloor).log(),
                             (above - below).clamp_min(kFloor).log()));
}

std::vector<float> draw_uniform(std::uint64_t seed,
                                std::string_view stream,
                                std::uint64_t first,
                                std::int64_t count) {
  if (count < 0 || count > kMaxCount) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "losses.count",
                 .place = kPlace,
                 .subject = "number of times",
                 .expected = "0 .. 2^32",
                 .got = std::to_string(count)});
  }
  std::vector<float> values(static_cast<std::size_t>(count));
  kernels::fill_uniform_flat(
      values.data(),
      kernels::noise_key(seed, stream, kernels::Draw::kUniform, kernels::Addressing::kFlat),
      first,
      values.size());
  return values;
}

}  // namespace

Tensor mean_of_frames(const Tensor& values_BCTHW, const Tensor& frame_mask_BT) {
  if (!frame_mask_BT.defined()) {
    return values_BCTHW.flatten(1).mean(1);
  }
  check_frame_mask(frame_mask_BT, values_BCTHW);
  const Tensor mask = frame_mask_BT.to(values_BCTHW.options());
  const std::int64_t per_frame = values_BCTHW.size(1) * values_BCTHW.size(3) * values_BCTHW.size(4);
  const Tensor count = (mask.sum(1) * static_cast<double>(per_frame)).clamp_min(1.0);
  return (values_BCTHW * over_pixels(mask)).flatten(1).sum(1) / count;
}

Tensor rflow_add_noise(const Tensor& x0_BCTHW,
                       const Tensor& noise_BCTHW,
                       const Tensor& timesteps_B,
                       const Tensor& frame_mask_BT,
                       std::int64_t num_train_timesteps) {
  tensor::check_shape(timesteps_B, {x0_BCTHW.size(0)}, kPlace, "timesteps_B");
  const Tensor sigma = per_sample(
      timesteps_B.to(x0_BCTHW.options()) / static_cast<double>(num_train_timesteps), x0_BCTHW);
  const Tensor noised = (1.0 - sigma) * x0_BCTHW + sigma * noise_BCTHW;
  if (!frame_mask_BT.defined()) {
    return noised;
  }
  check_frame_mask(frame_mask_BT, x0_BCTHW);
  return at::where(over_pixels(frame_mask_BT.to(at::kBool)), noised, x0_BCTHW);
}

Tensor rflow_loss(const Tensor& model_output_BCTHW,
                  const Tensor& x0_BCTHW,
                  const Tensor& noise_BCTHW,
                  const Tensor& frame_mask_BT,
                  PredictionType type) {
  const Tensor target = prediction_target(type, x0_BCTHW, noise_BCTHW, {});
  const Tensor predicted = model_output_BCTHW.narrow(1, 0, x0_BCTHW.size(1));
  return mean_of_frames((predicted - target).square(), frame_mask_BT);
}

Tensor sample_rflow_timesteps(const TimeSamplingConfig& sampling,
                              const RflowConfig& config,
                              std::uint64_t seed,
                              std::string_view stream,
                              std::uint64_t first,
                              std::int64_t count,
                              const std::optional<VideoSize>& size) {
  const auto train = static_cast<double>(config.num_timesteps);
  std::vector<float> times = draw_uniform(seed, stream, first, count);
  if (sampling.method == TimeSampling::kLogitNormal) {
    kernels::fill_normal_flat(
        times.data(),
        kernels::noise_key(seed, stream, kernels::Draw::kNormal, kernels::Addressing::kFlat),
        first,
        times.size());
  }
  for (float& time : times) {
    double u = time;
    if (sampling.method == TimeSampling::kLogitNormal) {
      u = 1.0 / (1.0 + std::exp(-(sampling.loc + sampling.scale * u)));
    }
    double t = u * train;
    if (sampling.discrete && sampling.method == TimeSampling::kUniform) {
      t = std::floor(t);
    }
    time = static_cast<float>(
        size ? rflow_shift_timestep(t, *size, config.transform_scale, config.num_timesteps) : t);
  }
  return at::tensor(times, at::kFloat);
}

Tensor sample_discrete_timesteps(std::int64_t num_train,
                                 std::uint64_t seed,
                                 std::string_view stream,
                                 std::uint64_t first,
                                 std::int64_t count) {
  std::vector<std::int64_t> times;
  for (const float u : draw_uniform(seed, stream, first, count)) {
    times.push_back(
        static_cast<std::int64_t>(static_cast<double>(u) * static_cast<double>(num_train)));
  }
  return at::tensor(times, at::kLong);
}

Tensor iddpm_add_noise(const IddpmTables& tables,
                       const Tensor& x0_BCTHW,
                       const Tensor& noise_BCTHW,
                       const Tensor& steps_B,
                       const Tensor& frame_mask_BT) {
  const auto at_steps = [&](const Tensor& steps) {
    const Tensor alpha = lookup(tables.alphas_cumprod, steps, x0_BCTHW);
    return alpha.sqrt() * x0_BCTHW + (1.0 - alpha).sqrt() * noise_BCTHW;
  };
  const Tensor noised = at_steps(steps_B);
  if (!frame_mask_BT.defined()) {
    return noised;
  }
  check_frame_mask(frame_mask_BT, x0_BCTHW);
  return at::where(
      over_pixels(frame_mask_BT.to(at::kBool)), noised, at_steps(at::zeros_like(steps_B)));
}

IddpmLoss iddpm_loss(const IddpmTables& tables,
                     const Tensor& model_output_BCTHW,
                     const Tensor& x0_BCTHW,
                     const Tensor& x_t_BCTHW,
                     const Tensor& noise_BCTHW,
                     const Tensor& steps_B,
                     const Tensor& frame_mask_BT) {
  const std::int64_t channels = x0_BCTHW.size(1);
  tensor::check_shape(
      model_output_BCTHW,
      {x0_BCTHW.size(0), 2 * channels, x0_BCTHW.size(2), x0_BCTHW.size(3), x0_BCTHW.size(4)},
      kPlace,
      "model_output_BCTHW");
  const auto table = [&](const Tensor& values) { return lookup(values, steps_B, x0_BCTHW); };
  const Tensor epsilon = model_output_BCTHW.narrow(1, 0, channels);
  const Tensor fraction = (model_output_BCTHW.narrow(1, channels, channels) + 1.0) / 2.0;
  const Tensor log_variance = fraction * table(tables.betas.log()) +
                              (1.0 - fraction) * table(tables.posterior_log_variance);
  const Tensor coef1 = table(tables.posterior_mean_coef1);
  const Tensor coef2 = table(tables.posterior_mean_coef2);
  // Detached: the bound trains the variance only.
  const Tensor x0_predicted = table(tables.sqrt_recip_alphas_cumprod) * x_t_BCTHW -
                              table(tables.sqrt_recipm1_alphas_cumprod) * epsilon.detach();
  const Tensor mean = coef1 * x0_predicted + coef2 * x_t_BCTHW;
  const Tensor true_mean = coef1 * x0_BCTHW + coef2 * x_t_BCTHW;
  const Tensor kl = normal_kl(true_mean, table(tables.posterior_log_variance), mean, log_variance);
  const Tensor decoder = -binned_log_likelihood(x0_BCTHW, mean, 0.5 * log_variance);
  const Tensor at_zero = steps_B.eq(0).to(x0_BCTHW.device());
  IddpmLoss loss;
  loss.bound_B =
      at::where(
          at_zero, mean_of_frames(decoder, frame_mask_BT), mean_of_frames(kl, frame_mask_BT)) /
      std::numbers::ln2;
  loss.mse_B = mean_of_frames((noise_BCTHW - epsilon).square(), frame_mask_BT);
  loss.loss_B = loss.mse_B + loss.bound_B;
  return loss;
}

Tensor ddpm_loss(std::span<const double> alphas_cumprod,
                 PredictionType type,
                 const Tensor& model_output_BCTHW,
                 const Tensor& x0_BCTHW,
                 const Tensor& noise_BCTHW,
                 const Tensor& timesteps_B,
                 const Tensor& frame_mask_BT) {
  const Tensor table =
      at::tensor(std::vector<double>(alphas_cumprod.begin(), alphas_cumprod.end()), at::kDouble);
  const Tensor alpha = lookup(table, timesteps_B, x0_BCTHW);
  Tensor target = noise_BCTHW;
  if (type == PredictionType::kSample) {
    target = x0_BCTHW;
  } else if (type == PredictionType::kVelocity) {
    target = alpha.sqrt() * noise_BCTHW - (1.0 - alpha).sqrt() * x0_BCTHW;
  } else if (type != PredictionType::kEpsilon) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "losses.prediction",
                 .place = kPlace,
                 .subject = "prediction type",
                 .expected = "epsilon, sample or v_prediction",
                 .got = std::string(to_string(type)),
                 .hint = "flow models have rflow_loss()"});
  }
  const Tensor predicted = model_output_BCTHW.narrow(1, 0, x0_BCTHW.size(1));
  return mean_of_frames((predicted - target).square(), frame_mask_BT);
}

}  // namespace kinema::diffusion
