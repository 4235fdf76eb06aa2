// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/help.h"

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "core/base/version.h"

namespace kinema::cli {
namespace {

constexpr std::size_t kWidth = 96;

// "-o, --output FILE"
std::string names_of(const CLI::Option& option) {
  std::string text;
  for (const auto& name : option.get_snames()) {
    text += (text.empty() ? "-" : ", -") + name;
  }
  for (const auto& name : option.get_lnames()) {
    text += (text.empty() ? "    --" : ", --") + name;
  }
  if (!option.get_option_text().empty()) {
    text += " " + option.get_option_text();
  }
  return text;
}

using Rows = std::vector<std::pair<std::string, std::string>>;

void print_rows(std::ostringstream& out, const Rows& rows) {
  std::size_t column = 0;
  for (const auto& [left, right] : rows) {
    column = std::max(column, std::min<std::size_t>(left.size(), 30));
  }
  column += 4;
  for (const auto& [left, right] : rows) {
    out << "  " << left;
    if (left.size() + 4 > column) {
      out << "\n" << std::string(column, ' ');
    } else {
      out << std::string(column - left.size() - 2, ' ');
    }
    out << wrap(right, kWidth - column, column) << "\n";
  }
}

std::string description_of(const CLI::Option& option) {
  std::string text = option.get_description();
  if (!option.get_default_str().empty()) {
    text += " [" + option.get_default_str() + "]";
  }
  if (option.get_required() && !option.get_positional()) {
    text += " (required)";
  }
  return text;
}

std::string command_help(const CLI::App& app) {
  std::ostringstream out;
  out << full_name(app) << " - " << app.get_description() << "\n\nUsage: " << full_name(app);
  Rows arguments;
  std::vector<std::pair<std::string, Rows>> groups;
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional()) {
      auto it = std::find_if(groups.begin(), groups.end(), [&](const auto& group) {
        return group.first == option->get_group();
      });
      if (it == groups.end()) {
        it = groups.insert(groups.end(), {option->get_group(), {}});
      }
      it->second.emplace_back(names_of(*option), description_of(*option));
      if (option->get_required()) {
        std::string name = names_of(*option);
        name.erase(0, name.find_first_not_of(' '));
        const auto comma = name.find(", ");
        out << " " << (comma == std::string::npos ? name : name.substr(comma + 2));
      }
    } else {
      arguments.emplace_back(option->get_option_text(), description_of(*option));
      out << " "
          << (option->get_required() ? option->get_option_text()
                                     : "[" + option->get_option_text() + "]");
    }
  }
  out << (groups.empty() ? "\n" : " [options]\n");
  if (!app.get_footer().empty()) {
    out << "\nExamples:\n" << app.get_footer() << "\n";
  }
  if (!arguments.empty()) {
    out << "\nArguments:\n";
    print_rows(out, arguments);
  }
  for (const auto& [name, rows] : groups) {
    out << "\n" << name << ":\n";
    print_rows(out, rows);
  }
  return out.str();
}

void print_commands(std::ostringstream& out, const CLI::App& app) {
  Rows rows;
  for (const CLI::App* command : app.get_subcommands({})) {
    rows.emplace_back(command->get_name(), command->get_description());
  }
  out << "\nCommands:\n";
  print_rows(out, rows);
}

std::string group_help(const CLI::App& app) {
  std::ostringstream out;
  out << full_name(app) << " - " << app.get_description() << "\n\nUsage: " << full_name(app)
      << " COMMAND [options]\n";
  if (!app.get_footer().empty()) {
    out << "\nExamples:\n" << app.get_footer() << "\n";
  }
  print_commands(out, app);
  out << "\n" << full_name(app) << " COMMAND --help explains one.\n";
  return out.str();
}

std::string root_help(const CLI::App& app) {
  std::ostringstream out;
  out << "kinema " << version() << " - " << app.get_description() << "\n\n"
      << "Usage: kinema COMMAND [options]\n";
  print_commands(out, app);
  out << "\nStart here:\n"
         "  kinema doctor                   what this machine can do\n"
         "  kinema help COMMAND             options and examples of a command\n"
         "\n"
         "Every command takes --json for programs. Exit codes: 0 done, 1 internal failure, 2 bad "
         "usage or\n"
         "configuration, 3 bad data or checkpoint, 4 out of memory or disk, 130 cancelled.\n";
  return out.str();
}

}  // namespace

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : full_name(*app.get_parent()) + " " + app.get_name();
}

std::string wrap(const std::string& text, std::size_t width, std::size_t indent) {
  std::istringstream words(text);
  std::string word;
  std::string result;
  std::size_t used = 0;
  while (words >> word) {
    if (used > 0 && used + 1 + word.size() > width) {
      result += "\n" + std::string(indent, ' ');
      used = 0;
    } else if (used > 0) {
      result += " ";
      ++used;
    }
    result += word;
    used += word.size();
  }
  return result;
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == name) {
      return command;
    }
  }
  return nullptr;
}

std::string help_text(const CLI::App& app) {
  if (app.get_parent() == nullptr) {
    return root_help(app);
  }
  return app.get_subcommands({}).empty() ? command_help(app) : group_help(app);
}

}  // namespace kinema::cli
