// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/config_file.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <toml++/toml.h>

#include "apps/cli/help.h"
#include "core/base/error.h"
#include "core/base/file.h"

namespace kinema::cli {
namespace {

constexpr std::size_t kMaxConfigBytes = 1 << 20;

std::optional<std::string> config_path(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i].starts_with("--config=")) {
      return arguments[i].substr(9);
    }
    if (arguments[i] == "--config" && i + 1 < arguments.size()) {
      return arguments[i + 1];
    }
  }
  return std::nullopt;
}

bool given(const CLI::Option& option, const std::vector<std::string>& arguments) {
  for (const auto& argument : arguments) {
    if (argument == "--") {
      break;
    }
    const std::string name = argument.substr(0, argument.find('='));
    for (const auto& long_name : option.get_lnames()) {
      if (name == "--" + long_name) {
        return true;
      }
    }
    for (const auto& short_name : option.get_snames()) {
      if (!argument.starts_with("--") && argument.starts_with("-" + short_name)) {
        return true;
      }
    }
  }
  return false;
}

class Merger {
 public:
  Merger(const CLI::App& command, std::vector<std::string>& arguments, std::string path)
      : command_(command), arguments_(arguments), path_(std::move(path)) {}

  /// @param at  the root, a group or the command itself: whose keys the table holds.
  void add(const toml::table& table, const CLI::App& at, const std::string& prefix) {
    for (const auto& [key_view, node] : table) {
      const std::string key(key_view.str());
      if (node.is_table() && !at.get_subcommands({}).empty()) {
        add_command_table(key, *node.as_table(), at, prefix);
        continue;
      }
      const CLI::Option* option = command_.get_option_no_throw("--" + key);
      if (option == nullptr || key == "config") {
        throw error("config.unknown_key",
                    prefix + key,
                    "a long option of " + full_name(command_),
                    "an unknown key");
      }
      if (!given(*option, arguments_)) {
        add_values(key, prefix + key, *option, node);
      }
    }
  }

  void insert(std::ptrdiff_t depth) {
    arguments_.insert(arguments_.begin() + depth, merged_.begin(), merged_.end());
  }

 private:
  void add_command_table(const std::string& name,
                         const toml::table& table,
                         const CLI::App& at,
                         const std::string& prefix) {
    const CLI::App* named = find_command(at, name);
    if (named == nullptr) {
      throw error("config.unknown_key", prefix + name, "the name of a command", "an unknown table");
    }
    for (const CLI::App* app = &command_; app != nullptr; app = app->get_parent()) {
      if (app == named) {
        add(table, *named, prefix + name + ".");
      }
    }
  }

  void add_values(const std::string& key,
                  const std::string& path,
                  const CLI::Option& option,
                  const toml::node& node) {
    if (const auto* list = node.as_array()) {
      for (const auto& item : *list) {
        add_values(key, path, option, item);
      }
      return;
    }
    if (option.get_expected_min() == 0) {  // a flag
      const auto value = node.value_exact<bool>();
      if (!value) {
        throw error("config.type", path, "true or false", text_of(node, path));
      }
      if (*value) {
        merged_.push_back("--" + key);
      }
      return;
    }
    merged_.push_back("--" + key + "=" + text_of(node, path));
  }

  std::string text_of(const toml::node& node, const std::string& path) const {
    if (const auto text = node.value_exact<std::string>()) {
      return *text;
    }
    if (const auto whole = node.value_exact<std::int64_t>()) {
      return std::to_string(*whole);
    }
    if (const auto real = node.value_exact<double>()) {
      return fmt::format("{}", *real);
    }
    if (const auto truth = node.value_exact<bool>()) {
      return *truth ? "true" : "false";
    }
    throw error("config.type",
                path,
                "a string, a number, true, false or a list of these",
                "a table or date");
  }

  Error error(std::string code,
              const std::string& key,
              std::string expected,
              std::string got) const {
    return Error(ErrorKind::kBadConfig,
                 {.code = std::move(code),
                  .place = "cli.config",
                  .subject = path_ + ": " + key,
                  .expected = std::move(expected),
                  .got = std::move(got)});
  }

  const CLI::App& command_;
  std::vector<std::string>& arguments_;
  std::string path_;
  std::vector<std::string> merged_;
};

}  // namespace

void merge_config_file(const CLI::App& command,
                       std::vector<std::string>& arguments,
                       std::ptrdiff_t depth) {
  const auto path = config_path(arguments);
  if (!path) {
    return;
  }
  const std::string text = read_file(*path, kMaxConfigBytes, "cli.config");
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    throw Error(ErrorKind::kBadConfig,
                {.code = "config.syntax",
                 .place = "cli.config",
                 .subject = fmt::format("{} line {}, column {}",
                                        *path,
                                        error.source().begin.line,
                                        error.source().begin.column),
                 .expected = "TOML",
                 .got = std::string(error.description())});
  }
  Merger merger(command, arguments, *path);
  const CLI::App* root = &command;
  while (root->get_parent() != nullptr) {
    root = root->get_parent();
  }
  merger.add(table, *root, "");
  merger.insert(depth);
}

}  // namespace kinema::cli
