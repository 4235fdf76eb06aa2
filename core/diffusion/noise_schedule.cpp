// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/noise_schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr std::array<NamedValue<BetaSchedule>, 5> kBetaSchedules = {{
    {"linear", BetaSchedule::kLinear},
    {"scaled_linear", BetaSchedule::kScaledLinear},
    {"squaredcos_cap_v2", BetaSchedule::kCosine},
    {"laplace", BetaSchedule::kLaplace},
    {"sigmoid", BetaSchedule::kSigmoid},
}};
constexpr std::array<NamedValue<TimestepSpacing>, 3> kSpacings = {{
    {"linspace", TimestepSpacing::kLinspace},
    {"leading", TimestepSpacing::kLeading},
    {"trailing", TimestepSpacing::kTrailing},
}};
constexpr std::int64_t kMaxTrainTimesteps = 1'000'000;

double alpha_bar(BetaSchedule schedule, double u) {
  if (schedule == BetaSchedule::kLaplace) {
    const double side = std::copysign(1.0, 0.5 - u);
    const double lambda = -0.5 * side * std::log(1.0 - 2.0 * std::fabs(0.5 - u) + 1e-6);
    const double snr = std::exp(lambda);
    return std::sqrt(snr / (1.0 + snr));
  }
  const double cosine = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2.0);
  return cosine * cosine;
}

// Shifts and scales sqrt(abar) so that the last one is 0 and the first one stays.
std::vector<double> rescale_to_zero_snr(std::span<const double> betas) {
  std::vector<double> root = cumulative_alphas(betas);
  std::ranges::for_each(root, [](double& value) { value = std::sqrt(value); });
  const double first = root.front();
  const double last = root.back();
  std::ranges::for_each(root,
                        [&](double& value) { value = (value - last) * (first / (first - last)); });
  std::vector<double> result(root.size());
  result[0] = 1.0 - root[0] * root[0];
  for (std::size_t i = 1; i < root.size(); ++i) {
    result[i] = 1.0 - (root[i] * root[i]) / (root[i - 1] * root[i - 1]);
  }
  return result;
}

// numpy.arange(first, 0, -step), rounded, minus one.
std::vector<double> trailing_grid(double first, double step, std::int64_t max_count) {
  const auto count = static_cast<std::int64_t>(std::ceil(first / step));
  const double delta = (first - step) - first;
  std::vector<double> grid;
  for (std::int64_t i = 0; i < std::min(count, max_count); ++i) {
    grid.push_back(std::nearbyint(first + static_cast<double>(i) * delta) - 1.0);
  }
  return grid;
}

// Continued fraction of the incomplete beta function (modified Lentz).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  double c = 1.0;
  double d = 1.0 - (a + b) * x / (a + 1.0);
  d = 1.0 / (std::fabs(d) < kTiny ? kTiny : d);
  double h = d;
  const auto apply = [&](double numerator) {
    d = 1.0 + numerator * d;
    d = 1.0 / (std::fabs(d) < kTiny ? kTiny : d);
    c = 1.0 + numerator / c;
    c = std::fabs(c) < kTiny ? kTiny : c;
    h *= d * c;
    return std::fabs(d * c - 1.0);
  };
  for (int m = 1; m < 1000; ++m) {
    const double k = m;
    apply(k * (b - k) * x / ((a + 2.0 * k - 1.0) * (a + 2.0 * k)));
    if (apply(-(a + k) * (a + b + k) * x / ((a + 2.0 * k) * (a + 2.0 * k + 1.0))) < 1e-16) {
      break;
    }
  }
  return h;
}

double incomplete_beta(double x, double a, double b) {
  if (x <= 0.0) {
    return 0.0;
  }
  if (x >= 1.0) {
    return 1.0;
  }
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1.0) / (a + b + 2.0)) {
    return front * beta_fraction(x, a, b) / a;
  }
  return 1.0 - front * beta_fraction(1.0 - x, b, a) / b;
}

}  // namespace

void throw_unknown_name(const JsonReader& reader,
                        std::string_view key,
                        std::span<const std::string_view> names,
                        const std::string& got) {
  std::string expected = "one of";
  for (const auto name : names) {
    expected += " " + std::string(name);
  }
  throw reader.error("config.value", key, expected, got.substr(0, 100));
}

std::string_view to_string(TimestepSpacing spacing) {
  return name_of<TimestepSpacing>(kSpacings, spacing);
}
std::string_view to_string(BetaSchedule schedule) {
  return name_of<BetaSchedule>(kBetaSchedules, schedule);
}

void BetaConfig::read(JsonReader& reader) {
  reader.optional("num_train_timesteps", num_train_timesteps);
  reader.optional("beta_start", beta_start);
  reader.optional("beta_end", beta_end);
  read_enum<BetaSchedule>(reader, "beta_schedule", kBetaSchedules, beta_schedule);
  reader.optional("trained_betas", trained_betas);
  reader.optional("rescale_betas_zero_snr", rescale_betas_zero_snr);
  if (!trained_betas.empty()) {
    const auto count = static_cast<std::int64_t>(trained_betas.size());
    if (count != num_train_timesteps) {
      throw reader.error("config.range",
                         "trained_betas",
                         std::to_string(num_train_timesteps) + " values",
                         std::to_string(count));
    }
  }
  if (num_train_timesteps < 2 || num_train_timesteps > kMaxTrainTimesteps) {
    throw reader.error("config.range",
                       "num_train_timesteps",
                       "2 .. " + std::to_string(kMaxTrainTimesteps),
                       std::to_string(num_train_timesteps));
  }
  const bool in_range = beta_start >= 0.0 && beta_end >= 0.0 && beta_start < 1.0 && beta_end < 1.0;
  if (!in_range) {
    throw reader.error("config.range",
                       "beta_start",
                       "beta_start and beta_end in [0, 1)",
                       std::to_string(beta_start) + " and " + std::to_string(beta_end));
  }
  for (const double beta : trained_betas) {
    if (!(beta >= 0.0 && beta <= 1.0)) {
      throw reader.error("config.range", "trained_betas", "values in [0, 1]", std::to_string(beta));
    }
  }
}

void BetaConfig::write(Json& json) const {
  json["num_train_timesteps"] = num_train_timesteps;
  json["beta_start"] = beta_start;
  json["beta_end"] = beta_end;
  json["beta_schedule"] = std::string(to_string(beta_schedule));
  json["trained_betas"] = trained_betas.empty() ? Json() : Json(trained_betas);
  json["rescale_betas_zero_snr"] = rescale_betas_zero_snr;
}

void SpacingConfig::read(JsonReader& reader) {
  read_enum<TimestepSpacing>(reader, "timestep_spacing", kSpacings, timestep_spacing);
  reader.optional("steps_offset", steps_offset);
  if (steps_offset < 0 || steps_offset > kMaxTrainTimesteps) {
    throw reader.error("config.range", "steps_offset", "0 or more", std::to_string(steps_offset));
  }
}

void SpacingConfig::write(Json& json) const {
  json["timestep_spacing"] = std::string(to_string(timestep_spacing));
  json["steps_offset"] = steps_offset;
}

std::vector<double> make_betas(const BetaConfig& config) {
  std::vector<double> betas = config.trained_betas;
  const std::int64_t count = config.num_train_timesteps;
  if (betas.empty()) {
    switch (config.beta_schedule) {
      case BetaSchedule::kLinear:
        betas = linspace(config.beta_start, config.beta_end, count);
        break;
      case BetaSchedule::kScaledLinear:
        betas = linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), count);
        std::ranges::for_each(betas, [](double& beta) { beta *= beta; });
        break;
      case BetaSchedule::kSigmoid:
        betas = linspace(-6.0, 6.0, count);
        std::ranges::for_each(betas, [&](double& beta) {
          beta =
              (config.beta_end - config.beta_start) / (1.0 + std::exp(-beta)) + config.beta_start;
        });
        break;
      case BetaSchedule::kCosine:
      case BetaSchedule::kLaplace:
        for (std::int64_t i = 0; i < count; ++i) {
          const double next = static_cast<double>(i + 1) / static_cast<double>(count);
          const double here = static_cast<double>(i) / static_cast<double>(count);
          const double ratio =
              alpha_bar(config.beta_schedule, next) / alpha_bar(config.beta_schedule, here);
          betas.push_back(std::min(1.0 - ratio, 0.999));
        }
        break;
    }
  }
  return config.rescale_betas_zero_snr ? rescale_to_zero_snr(betas) : betas;
}

std::vector<double> cumulative_alphas(std::span<const double> betas) {
  std::vector<double> result;
  result.reserve(betas.size());
  double product = 1.0;
  for (const double beta : betas) {
    product *= 1.0 - beta;
    result.push_back(product);
  }
  return result;
}

std::vector<double> make_alphas_cumprod(const BetaConfig& config) {
  return cumulative_alphas(make_betas(config));
}

std::vector<double> make_sigmas(std::span<const double> alphas_cumprod) {
  std::vector<double> sigmas;
  sigmas.reserve(alphas_cumprod.size());
  for (const double alpha : alphas_cumprod) {
    const double positive = alpha > 0.0 ? alpha : std::ldexp(1.0, -24);
    sigmas.push_back(std::sqrt((1.0 - positive) / positive));
  }
  return sigmas;
}

std::vector<double> linspace(double first, double last, std::int64_t count) {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
  const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(first + static_cast<double>(i) * step);
  }
  if (count > 1) {
    values.back() = last;
  }
  return values;
}

std::vector<double> spaced_timesteps(const SpacingConfig& spacing,
                                     std::int64_t num_train,
                                     std::int64_t num_steps) {
  const auto train = static_cast<double>(num_train);
  std::vector<double> times;
  switch (spacing.timestep_spacing) {
    case TimestepSpacing::kLinspace:
      times = linspace(0.0, train - 1.0, num_steps);
      std::ranges::for_each(times, [](double& time) { time = std::nearbyint(time); });
      std::ranges::reverse(times);
      break;
    case TimestepSpacing::kLeading:
      for (std::int64_t i = num_steps - 1; i >= 0; --i) {
        times.push_back(static_cast<double>(i * (num_train / num_steps) + spacing.steps_offset));
      }
      break;
    case TimestepSpacing::kTrailing:
      times = trailing_grid(train, train / static_cast<double>(num_steps), num_steps);
      break;
  }
  return times;
}

std::vector<double> spaced_timesteps_open(const SpacingConfig& spacing,
                                          std::int64_t num_train,
                                          std::int64_t num_used,
                                          std::int64_t num_steps) {
  std::vector<double> times;
  switch (spacing.timestep_spacing) {
    case TimestepSpacing::kLinspace:
      times = linspace(0.0, static_cast<double>(num_used - 1), num_steps + 1);
      std::ranges::for_each(times, [](double& time) { time = std::nearbyint(time); });
      std::ranges::reverse(times);
      times.pop_back();
      break;
    case TimestepSpacing::kLeading:
      for (std::int64_t i = num_steps; i >= 1; --i) {
        times.push_back(
            static_cast<double>(i * (num_used / (num_steps + 1)) + spacing.steps_offset));
      }
      break;
    case TimestepSpacing::kTrailing:
      times = trailing_grid(static_cast<double>(num_used),
                            static_cast<double>(num_train) / static_cast<double>(num_steps),
                            num_steps);
      break;
  }
  return times;
}

double interpolate(std::span<const double> table, double position) {
  const auto last = static_cast<double>(table.size() - 1);
  const double clamped = std::clamp(position, 0.0, last);
  const auto low = std::min(static_cast<std::size_t>(clamped), table.size() - 1);
  const auto high = std::min(low + 1, table.size() - 1);
  return table[low] + (table[high] - table[low]) * (clamped - static_cast<double>(low));
}

double sigma_to_timestep(double sigma, std::span<const double> sigmas) {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  std::size_t low = 0;
  // Last entry not above sigma; the table rises.
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    if (log_sigma >= std::log(sigmas[i])) {
      low = i;
    }
  }
  low = std::min(low, sigmas.size() - 2);
  const double log_low = std::log(sigmas[low]);
  const double log_high = std::log(sigmas[low + 1]);
  const double weight = std::clamp((log_low - log_sigma) / (log_low - log_high), 0.0, 1.0);
  return (1.0 - weight) * static_cast<double>(low) + weight * static_cast<double>(low + 1);
}

std::vector<double> karras_sigmas(double sigma_min, double sigma_max, std::int64_t n) {
  constexpr double kRho = 7.0;
  const double low = std::pow(sigma_min, 1.0 / kRho);
  const double high = std::pow(sigma_max, 1.0 / kRho);
  std::vector<double> sigmas = linspace(0.0, 1.0, n);
  std::ranges::for_each(
      sigmas, [&](double& value) { value = std::pow(high + value * (low - high), kRho); });
  return sigmas;
}

std::vector<double> exponential_sigmas(double sigma_min, double sigma_max, std::int64_t n) {
  std::vector<double> sigmas = linspace(std::log(sigma_max), std::log(sigma_min), n);
  std::ranges::for_each(sigmas, [](double& value) { value = std::exp(value); });
  return sigmas;
}

std::vector<double> beta_sigmas(double sigma_min, double sigma_max, std::int64_t n) {
  std::vector<double> sigmas = linspace(0.0, 1.0, n);
  std::ranges::for_each(sigmas, [&](double& value) {
    value = sigma_min + beta_quantile(1.0 - value, 0.6, 0.6) * (sigma_max - sigma_min);
  });
  return sigmas;
}

double beta_quantile(double p, double a, double b) {
  if (p <= 0.0) {
    return 0.0;
  }
  if (p >= 1.0) {
    return 1.0;
  }
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < 200 && high - low > 1e-17 * high; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) {
      break;
    }
    (incomplete_beta(middle, a, b) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

double shift_sigma(double sigma, double shift) {
  return shift * sigma / (1.0 + (shift - 1.0) * sigma);
}

double dynamic_shift_sigma(double sigma, double mu, TimeShift kind) {
  const double factor = kind == TimeShift::kExponential ? std::exp(mu) : mu;
  return factor / (factor + (1.0 / sigma - 1.0));
}

void stretch_to_terminal(std::vector<double>& sigmas, double terminal) {
  const double scale = (1.0 - sigmas.back()) / (1.0 - terminal);
  std::ranges::for_each(sigmas, [&](double& sigma) { sigma = 1.0 - (1.0 - sigma) / scale; });
}

double dynamic_mu(std::int64_t num_tokens,
                  std::int64_t base_tokens,
                  std::int64_t max_tokens,
                  double base_shift,
                  double max_shift) {
  const double slope = (max_shift - base_shift) / static_cast<double>(max_tokens - base_tokens);
  return base_shift + slope * static_cast<double>(num_tokens - base_tokens);
}

Tensor add_noise_at(std::span<const double> alphas_cumprod,
                    const Tensor& x0,
                    const Tensor& noise,
                    const Tensor& timesteps_B) {
  tensor::check_shape(timesteps_B, {x0.size(0)}, "diffusion.add_noise", "timesteps_B");
  const Tensor times = timesteps_B.to(at::kCPU, at::kLong).contiguous();
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x0.dim()), 1);
  shape[0] = x0.size(0);
  const Tensor signal = at::empty({x0.size(0)}, at::kDouble);
  const Tensor level = at::empty_like(signal);
  for (std::int64_t b = 0; b < x0.size(0); ++b) {
    const std::int64_t time = static_cast<const std::int64_t*>(times.const_data_ptr())[b];
    if (time < 0 || time >= static_cast<std::int64_t>(alphas_cumprod.size())) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "schedule.timestep",
                   .place = "diffusion.add_noise",
                   .subject = "timesteps_B",
                   .expected = "0 .. " + std::to_string(alphas_cumprod.size() - 1),
                   .got = std::to_string(time)});
    }
    const double alpha = alphas_cumprod[static_cast<std::size_t>(time)];
    signal.mutable_data_ptr<double>()[b] = std::sqrt(alpha);
    level.mutable_data_ptr<double>()[b] = std::sqrt(1.0 - alpha);
  }
  const auto like = [&](const Tensor& values) { return values.view(shape).to(x0.options()); };
  return like(signal) * x0 + like(level) * noise;
}

}  // namespace kinema::diffusion
