// SPDX-License-Identifier: Apache-2.0
#include "apps/front/engine_path.h"

#include <filesystem>

namespace kinema::front {

std::string engine_path() {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::path self = fs::read_symlink("/proc/self/exe", failed);
  const fs::path folder = self.parent_path();
  const fs::path installed = folder.parent_path() / "libexec" / "kinema" / "kinema-engine";
  if (const fs::path beside = folder / "kinema-engine";
      fs::exists(beside, failed) || !fs::exists(installed, failed)) {
    return beside.string();
  }
  return installed.string();
}

}  // namespace kinema::front
