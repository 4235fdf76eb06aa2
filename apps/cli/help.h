// SPDX-License-Identifier: Apache-2.0
// Help texts: usage line, examples first, then arguments and options in groups.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace kinema::cli {

/// "kinema vae encode".
[[nodiscard]] std::string full_name(const CLI::App& app);

/// Help of a command; of a group: its commands; of the root: what kinema is, its commands, where to
/// go next.
[[nodiscard]] std::string help_text(const CLI::App& app);

/// The direct command of that name, or null.
[[nodiscard]] const CLI::App* find_command(const CLI::App& app, const std::string& name);

/// Breaks `text` at spaces so that no line is longer than `width`; later lines start with `indent`
/// spaces.
[[nodiscard]] std::string wrap(const std::string& text, std::size_t width, std::size_t indent);

}  // namespace kinema::cli
