// SPDX-License-Identifier: Apache-2.0
// Noise schedules of variance-preserving models and the grids of times and sigmas made from them.
// All of it in double.
//
// abar_t = prod(1 - beta); x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps. A "sigma" is the noise to
// signal ratio sqrt((1 - abar) / abar), rising with t. Times t are indices 0 .. num_train - 1.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

enum class BetaSchedule {
  kLinear,        ///< "linear"
  kScaledLinear,  ///< "scaled_linear": linear in sqrt(beta), Stable Diffusion
  kCosine,        ///< "squaredcos_cap_v2", arXiv 2102.09672 equation 17
  kLaplace,       ///< "laplace", arXiv 2407.03297
  kSigmoid,       ///< "sigmoid"
};

enum class TimestepSpacing { kLinspace, kLeading, kTrailing };  ///< arXiv 2305.08891 table 2

/// Keys of a public scheduler_config.json that describe the training schedule.
struct BetaConfig {
  std::int64_t num_train_timesteps = 1000;
  double beta_start = 0.0001;
  double beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<double> trained_betas{};  ///< used instead of the formula when not empty
  bool rescale_betas_zero_snr = false;  ///< arXiv 2305.08891 algorithm 1

  void read(JsonReader& reader);
  void write(Json& json) const;
  bool operator==(const BetaConfig&) const = default;
};

/// How grids of times are laid out.
struct SpacingConfig {
  TimestepSpacing timestep_spacing = TimestepSpacing::kLeading;
  std::int64_t steps_offset = 0;

  void read(JsonReader& reader);
  void write(Json& json) const;
  bool operator==(const SpacingConfig&) const = default;
};

/// betas of length num_train_timesteps. Throws kBadConfig [config.range] on betas outside [0, 1].
[[nodiscard]] std::vector<double> make_betas(const BetaConfig& config);
[[nodiscard]] std::vector<double> cumulative_alphas(std::span<const double> betas);
/// abar of the configuration; exactly 0 at the end when rescale_betas_zero_snr.
[[nodiscard]] std::vector<double> make_alphas_cumprod(const BetaConfig& config);
/// sqrt((1 - abar) / abar); an abar of 0 counts as 2^-24, so that the result is finite.
[[nodiscard]] std::vector<double> make_sigmas(std::span<const double> alphas_cumprod);

/// Falling times for `num_steps` of the num_train ones; rounded half to even.
[[nodiscard]] std::vector<double> spaced_timesteps(const SpacingConfig& spacing,
                                                   std::int64_t num_train,
                                                   std::int64_t num_steps);
/// The grid of multistep solvers: num_steps + 1 points, the last left out. `num_used` <= num_train
/// cuts off the noisiest times.
[[nodiscard]] std::vector<double> spaced_timesteps_open(const SpacingConfig& spacing,
                                                        std::int64_t num_train,
                                                        std::int64_t num_used,
                                                        std::int64_t num_steps);

/// numpy.linspace: both ends included.
[[nodiscard]] std::vector<double> linspace(double first, double last, std::int64_t count);
/// Linear interpolation of `table` at fractional index `position`, clamped to its ends.
[[nodiscard]] double interpolate(std::span<const double> table, double position);
/// Time of a sigma: inverse of the table by linear interpolation in log sigma.
[[nodiscard]] double sigma_to_timestep(double sigma, std::span<const double> sigmas);

/// Falling grids between two sigmas: arXiv 2206.00364 equation 5 with rho 7; equal steps in log
/// sigma; quantiles of Beta(0.6, 0.6) (arXiv 2407.12173).
[[nodiscard]] std::vector<double> karras_sigmas(double sigma_min, double sigma_max, std::int64_t n);
[[nodiscard]] std::vector<double> exponential_sigmas(double sigma_min,
                                                     double sigma_max,
                                                     std::int64_t n);
[[nodiscard]] std::vector<double> beta_sigmas(double sigma_min, double sigma_max, std::int64_t n);
/// x with I_x(a, b) = p, the regularised incomplete beta function.
[[nodiscard]] double beta_quantile(double p, double a, double b);

/// shift s / (1 + (shift - 1) s): more noise for more tokens. s in [0, 1].
[[nodiscard]] double shift_sigma(double sigma, double shift);
/// e^mu / (e^mu + 1 / s - 1); "linear": mu / (mu + 1 / s - 1).
enum class TimeShift { kExponential, kLinear };
[[nodiscard]] double dynamic_shift_sigma(double sigma, double mu, TimeShift kind);
/// Stretches 1 - s so that the last value becomes `terminal`.
void stretch_to_terminal(std::vector<double>& sigmas, double terminal);
/// mu for a sequence of `num_tokens`: the line through (base_tokens, base), (max_tokens, max).
[[nodiscard]] double dynamic_mu(std::int64_t num_tokens,
                                std::int64_t base_tokens,
                                std::int64_t max_tokens,
                                double base_shift,
                                double max_shift);

/// sqrt(abar_t) x0 + sqrt(1 - abar_t) noise. @param timesteps_B int64 [B]; x0 and noise [B, ...].
[[nodiscard]] Tensor add_noise_at(std::span<const double> alphas_cumprod,
                                  const Tensor& x0,
                                  const Tensor& noise,
                                  const Tensor& timesteps_B);

/// Text of enum values in configuration files, shared by the samplers.
[[nodiscard]] std::string_view to_string(TimestepSpacing spacing);
[[nodiscard]] std::string_view to_string(BetaSchedule schedule);

/// Reads an enumerator by its name; throws the reader's error [config.value] that lists all names.
template <typename Enum>
struct NamedValue {
  std::string_view name;
  Enum value;
};
[[noreturn]] void throw_unknown_name(const JsonReader& reader,
                                     std::string_view key,
                                     std::span<const std::string_view> names,
                                     const std::string& got);
template <typename Enum>
void read_enum(JsonReader& reader,
               std::string_view key,
               std::span<const NamedValue<Enum>> values,
               Enum& value) {
  std::string text;
  if (!reader.optional(key, text)) {
    return;
  }
  std::vector<std::string_view> names;
  for (const auto& candidate : values) {
    if (candidate.name == text) {
      value = candidate.value;
      return;
    }
    names.push_back(candidate.name);
  }
  throw_unknown_name(reader, key, names, text);
}
template <typename Enum>
[[nodiscard]] std::string_view name_of(std::span<const NamedValue<Enum>> values, Enum value) {
  for (const auto& candidate : values) {
    if (candidate.value == value) {
      return candidate.name;
    }
  }
  return "?";
}

}  // namespace kinema::diffusion
