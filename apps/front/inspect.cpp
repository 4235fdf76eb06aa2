// SPDX-License-Identifier: Apache-2.0
#include "apps/front/inspect.h"

#include <filesystem>
#include <string_view>

#include "apps/front/commands.h"
#include "core/base/error.h"

namespace kinema::front {

void inspect(const cli::InspectOptions& options, cli::Console& console) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::file_status status = fs::status(options.path, failed);
  if (!fs::exists(status)) {
    throw Error(
        ErrorKind::kIo,
        {.code = "io.open",
         .place = "inspect",
         .subject = options.path,
         .expected = "a file or folder",
         .got = failed && failed != std::errc::no_such_file_or_directory ? failed.message()
                                                                         : "nothing of that name"});
  }
  const std::string_view name = options.path;
  const Inspection inspection =
      fs::is_directory(status) ? inspect_folder(options.path, options.tensors)
      : name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
          ? inspect_weights(options.path, options.tensors)
          : inspect_media(options.path);
  console.finish(inspection.facts, inspection.text);
}

}  // namespace kinema::front
