// SPDX-License-Identifier: Apache-2.0
// What can be known about a value of the command line in milliseconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace kinema::cli {

/// kInvalidArgument [usage.value] about an option or argument.
[[nodiscard]] Error bad_value(std::string_view option,
                              std::string expected,
                              std::string got,
                              std::string hint = "");

/// Throws kIo [io.open].
void require_exists(std::string_view option, const std::string& path);

/// A file that can be made. Throws kOutput [output.unwritable].
void require_writable(std::string_view option, const std::string& path);

/// The same for where a video goes; "-", folders of pictures and patterns pass, the writer checks
/// them.
void require_video_output(std::string_view option, const std::string& path);

/// Width and height of "WIDTHxHEIGHT". Throws kInvalidArgument [usage.value].
[[nodiscard]] std::pair<std::int64_t, std::int64_t> parse_size(std::string_view option,
                                                               const std::string& text);

}  // namespace kinema::cli
