// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/value_checks.h"

#include <charconv>
#include <filesystem>

#include <unistd.h>

namespace kinema::cli {

namespace fs = std::filesystem;

Error bad_value(std::string_view option, std::string expected, std::string got, std::string hint) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "usage.value",
                .place = "cli",
                .subject = std::string(option),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

void require_exists(std::string_view option, const std::string& path) {
  std::error_code failed;
  if (!fs::exists(path, failed)) {
    throw Error(ErrorKind::kIo,
                {.code = "io.open",
                 .place = "cli",
                 .subject = std::string(option) + " " + path,
                 .expected = "a file or folder",
                 .got = "nothing of that name"});
  }
}

void require_writable(std::string_view option, const std::string& path) {
  const auto refuse = [&](std::string got) {
    return Error(ErrorKind::kOutput,
                 {.code = "output.unwritable",
                  .place = "cli",
                  .subject = std::string(option) + " " + path,
                  .expected = "a file name in a folder that can be written",
                  .got = std::move(got)});
  };
  std::error_code failed;
  if (fs::is_directory(path, failed)) {
    throw refuse("a folder");
  }
  const std::string parent = fs::path(path).parent_path().string();
  const std::string folder = parent.empty() ? "." : parent;
  if (!fs::is_directory(folder, failed)) {
    throw refuse("no folder " + folder);
  }
  if (::access(folder.c_str(), W_OK) != 0) {
    throw refuse("no permission to write in " + folder);
  }
}

void require_video_output(std::string_view option, const std::string& path) {
  if (path != "-" && !path.ends_with("/") && path.find('%') == std::string::npos) {
    require_writable(option, path);
  }
}

std::pair<std::int64_t, std::int64_t> parse_size(std::string_view option, const std::string& text) {
  std::int64_t sides[2] = {0, 0};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (int i = 0; i < 2; ++i) {
    const auto result = std::from_chars(at, end, sides[i]);
    at = result.ptr;
    const bool separated = i == 0 ? at != end && *at++ == 'x' : at == end;
    if (result.ec != std::errc() || !separated || sides[i] < 1) {
      throw bad_value(option, "WIDTHxHEIGHT in pixels, for example 512x288", "'" + text + "'");
    }
  }
  return {sides[0], sides[1]};
}

}  // namespace kinema::cli
