// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/iddpm.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <utility>

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace kinema::diffusion {
namespace {

constexpr std::array<NamedValue<IddpmVariance>, 3> kVariances = {{
    {"learned_range", IddpmVariance::kLearnedRange},
    {"fixed_large", IddpmVariance::kFixedLarge},
    {"fixed_small", IddpmVariance::kFixedSmall},
}};

Error spacing_error(std::string_view sections, std::string expected) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "iddpm.spacing",
                .place = "diffusion.iddpm",
                .subject = "timestep sections",
                .expected = std::move(expected),
                .got = std::string(sections.substr(0, 100))});
}

std::int64_t parse_count(std::string_view text, std::string_view sections) {
  std::int64_t count = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (code != std::errc() || end != text.data() + text.size() || count < 1) {
    throw spacing_error(sections, "counts such as 100 or 10,20,30, or ddim50");
  }
  return count;
}

float value_at(const Tensor& table, std::int64_t step) {
  return static_cast<const float*>(table.const_data_ptr())[step];
}

}  // namespace

std::vector<std::int64_t> space_timesteps(std::int64_t num_train, std::string_view sections) {
  constexpr std::string_view kDdim = "ddim";
  if (sections.starts_with(kDdim)) {
    const std::int64_t wanted = parse_count(sections.substr(kDdim.size()), sections);
    for (std::int64_t stride = 1; stride < num_train; ++stride) {
      if ((num_train + stride - 1) / stride == wanted) {
        std::vector<std::int64_t> kept;
        for (std::int64_t i = 0; i < num_train; i += stride) {
          kept.push_back(i);
        }
        return kept;
      }
    }
    throw spacing_error(sections, "a number of steps that a whole-number stride can give");
  }
  std::vector<std::int64_t> counts;
  for (std::size_t begin = 0; begin <= sections.size();) {
    const std::size_t end = std::min(sections.find(',', begin), sections.size());
    counts.push_back(parse_count(sections.substr(begin, end - begin), sections));
    begin = end + 1;
  }
  const auto num_sections = static_cast<std::int64_t>(counts.size());
  if (num_sections > num_train) {
    throw spacing_error(sections, "at most " + std::to_string(num_train) + " sections");
  }
  std::set<std::int64_t> kept;
  std::int64_t start = 0;
  for (std::int64_t i = 0; i < num_sections; ++i) {
    const std::int64_t size = num_train / num_sections + (i < num_train % num_sections ? 1 : 0);
    const std::int64_t count = counts[static_cast<std::size_t>(i)];
    if (count > size) {
      throw spacing_error(
          sections, "at most " + std::to_string(size) + " steps in section " + std::to_string(i));
    }
    const double stride =
        count > 1 ? static_cast<double>(size - 1) / static_cast<double>(count - 1) : 1.0;
    double position = 0.0;
    for (std::int64_t k = 0; k < count; ++k) {
      kept.insert(start + static_cast<std::int64_t>(std::nearbyint(position)));
      position += stride;
    }
    start += size;
  }
  return {kept.begin(), kept.end()};
}

IddpmTables make_iddpm_tables(const BetaConfig& betas, const std::vector<std::int64_t>& kept) {
  IddpmTables tables;
  tables.timestep_map = kept;
  const std::vector<double> alphas_cumprod = make_alphas_cumprod(betas);
  std::vector<float> respaced;
  double last = 1.0;
  for (const std::int64_t index : kept) {
    const double alpha = alphas_cumprod.at(static_cast<std::size_t>(index));
    respaced.push_back(static_cast<float>(1.0 - alpha / last));
    last = alpha;
  }
  tables.betas = at::tensor(respaced, at::kFloat);
  const Tensor alphas = 1.0 - tables.betas;
  tables.alphas_cumprod = alphas.cumprod(0);
  const auto count = static_cast<std::int64_t>(kept.size());
  const Tensor before =
      at::cat({at::ones({1}, at::kFloat), tables.alphas_cumprod.narrow(0, 0, count - 1)});
  const Tensor noise = 1.0 - tables.alphas_cumprod;
  tables.posterior_variance = tables.betas * (1.0 - before) / noise;
  tables.posterior_mean_coef1 = tables.betas * before.sqrt() / noise;
  tables.posterior_mean_coef2 = (1.0 - before) * alphas.sqrt() / noise;
  tables.sqrt_recip_alphas_cumprod = (1.0 / tables.alphas_cumprod).sqrt();
  tables.sqrt_recipm1_alphas_cumprod = (1.0 / tables.alphas_cumprod - 1.0).sqrt();
  // The variance of step 0 is 0; its logarithm is replaced by the next. One step alone has no next
  // one and never uses it.
  const Tensor variance = count > 1 ? at::cat({tables.posterior_variance.narrow(0, 1, 1),
                                               tables.posterior_variance.narrow(0, 1, count - 1)})
                                    : tables.betas.clone();
  tables.posterior_log_variance = variance.log();
  return tables;
}

IddpmConfig IddpmConfig::from_json(const Json& json) {
  IddpmConfig config;
  JsonReader reader(json, {.place = "diffusion.iddpm", .subject = "scheduler_config.json"});
  // Run settings that Open-Sora keeps beside the schedule; here they come with the request.
  reader.ignore({"_class_name", "type", "num_sampling_steps", "cfg_scale", "cfg_channel"});
  config.betas.read(reader);
  read_enum<IddpmVariance>(reader, "variance_type", kVariances, config.variance);
  reader.finish();
  return config;
}

Json IddpmConfig::to_json() const {
  Json json = {{"_class_name", std::string(scheduler_class_name(SamplerKind::kIddpm))}};
  betas.write(json);
  json["variance_type"] = std::string(name_of<IddpmVariance>(kVariances, variance));
  return json;
}

IddpmSampler::IddpmSampler(IddpmConfig config) : config_(std::move(config)) {}

std::unique_ptr<Sampler> IddpmSampler::clone() const {
  return std::make_unique<IddpmSampler>(*this);
}

void IddpmSampler::build() {
  accept_only({"timesteps"});
  const std::int64_t num_train = config_.betas.num_train_timesteps;
  std::vector<std::int64_t> kept;
  if (request_.timesteps.empty()) {
    kept = space_timesteps(num_train, std::to_string(requested_steps(num_train)));
  } else {
    for (const double time : request_.timesteps) {
      if (time < 0.0 || time >= static_cast<double>(num_train) || time != std::floor(time)) {
        throw request_error("timesteps",
                            "whole numbers 0 .. " + std::to_string(num_train - 1),
                            std::to_string(time));
      }
      kept.push_back(static_cast<std::int64_t>(time));
    }
    std::ranges::reverse(kept);
  }
  tables_ = make_iddpm_tables(config_.betas, kept);
  for (auto it = kept.rbegin(); it != kept.rend(); ++it) {
    timesteps_.push_back(static_cast<double>(*it));
  }
}

NoiseLevel IddpmSampler::level(std::int64_t index) const {
  if (index == num_steps()) {
    return {};
  }
  const double alpha = value_at(tables_.alphas_cumprod, num_steps() - 1 - index);
  return {.alpha = std::sqrt(alpha), .sigma = std::sqrt(1.0 - alpha)};
}

bool IddpmSampler::needs_noise(std::int64_t index) const {
  return index + 1 < num_steps();
}

StepResult IddpmSampler::advance(const Tensor& model_output,
                                 std::int64_t index,
                                 const Tensor& sample,
                                 const Tensor& noise) {
  const std::int64_t channels = sample.size(1);
  const bool learned = config_.variance == IddpmVariance::kLearnedRange;
  if (learned && model_output.size(1) != 2 * channels) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "sampler.shape",
                 .place = "diffusion.iddpm",
                 .subject = "model_output",
                 .expected = std::to_string(2 * channels) + " channels: noise and variance",
                 .got = std::to_string(model_output.size(1))});
  }
  const std::int64_t step = num_steps() - 1 - index;
  const Tensor epsilon = model_output.narrow(1, 0, channels);
  const double recip = value_at(tables_.sqrt_recip_alphas_cumprod, step);
  const double recipm1 = value_at(tables_.sqrt_recipm1_alphas_cumprod, step);
  const Tensor x0 = recip * sample - recipm1 * epsilon;
  const double coef1 = value_at(tables_.posterior_mean_coef1, step);
  const double coef2 = value_at(tables_.posterior_mean_coef2, step);
  Tensor next = coef1 * x0 + coef2 * sample;
  if (step > 0) {
    const double min_log = value_at(tables_.posterior_log_variance, step);
    const double max_log = std::log(static_cast<double>(value_at(tables_.betas, step)));
    if (learned) {
      const Tensor fraction = (model_output.narrow(1, channels, channels) + 1.0) / 2.0;
      const Tensor log_variance = fraction * max_log + (1.0 - fraction) * min_log;
      next = next + (0.5 * log_variance).exp() * noise;
    } else {
      const double chosen = config_.variance == IddpmVariance::kFixedLarge ? max_log : min_log;
      next = next + std::exp(0.5 * chosen) * noise;
    }
  }
  return {.sample = next, .x0 = x0};
}

}  // namespace kinema::diffusion
