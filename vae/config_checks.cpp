// SPDX-License-Identifier: Apache-2.0
#include "vae/config_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/module.h>

#include "core/base/error.h"

namespace kinema::vae {

void ConfigProblems::check(bool holds, std::string_view problem) {
  if (!holds) {
    problems_.emplace_back(problem);
  }
}

void ConfigProblems::check_size(std::string_view name, std::int64_t value, std::int64_t most) {
  check(value >= 1 && value <= most, fmt::format("{} is {}, not in 1 to {}", name, value, most));
}

void ConfigProblems::check_widths(std::string_view name,
                                  const std::vector<std::int64_t>& widths,
                                  std::int64_t num_groups) {
  check(!widths.empty() && widths.size() <= kMaxLevels,
        fmt::format("{} has {} levels, not 1 to {}", name, widths.size(), kMaxLevels));
  check(num_groups >= 1, fmt::format("{} groups", num_groups));
  for (const std::int64_t width : widths) {
    check_size(name, width);
    check(num_groups < 1 || width % num_groups == 0,
          fmt::format("{}: {} is no multiple of {} groups", name, width, num_groups));
  }
}

void ConfigProblems::finish() const {
  if (problems_.empty()) {
    return;
  }
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "vae.config",
               .place = "vae.config",
               .subject = path_,
               .expected = "a usable configuration",
               .got = fmt::format("{}", fmt::join(problems_, "; "))});
}

void warn_unknown_keys(Logger& logger,
                       const std::string& path,
                       const std::vector<std::string>& keys) {
  if (!keys.empty()) {
    logger.warning(
        fmt::format("ignored unknown config keys file={} keys={}", path, fmt::join(keys, ",")));
  }
}

std::int64_t count_parameters(const torch::nn::Module& module) {
  std::int64_t count = 0;
  for (const auto& parameter : module.parameters()) {
    count += parameter.numel();
  }
  return count;
}

}  // namespace kinema::vae
