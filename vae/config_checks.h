// SPDX-License-Identifier: Apache-2.0
// What the config readers of all autoencoders share: limits of sizes, and one message that lists
// every broken rule.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/log.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace kinema::vae {

inline constexpr std::int64_t kMaxConfigSize = std::int64_t{1} << 20;
inline constexpr std::size_t kMaxLevels = 16;

class ConfigProblems {
 public:
  explicit ConfigProblems(std::string path) : path_(std::move(path)) {}

  void check(bool holds, std::string_view problem);
  /// 1 to `most`.
  void check_size(std::string_view name, std::int64_t value, std::int64_t most = kMaxConfigSize);
  /// 1 to kMaxLevels widths, each a size and a multiple of the number of groups.
  void check_widths(std::string_view name,
                    const std::vector<std::int64_t>& widths,
                    std::int64_t num_groups);
  /// Throws kBadCheckpoint [vae.config] with all problems, if there are any.
  void finish() const;

 private:
  std::string path_;
  std::vector<std::string> problems_;
};

/// One warning that names the keys nobody knows; nothing when there are none.
void warn_unknown_keys(Logger& logger,
                       const std::string& path,
                       const std::vector<std::string>& keys);

[[nodiscard]] std::int64_t count_parameters(const torch::nn::Module& module);

}  // namespace kinema::vae
