// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/completion.h"

#include <array>
#include <sstream>
#include <string_view>

#include <CLI/CLI.hpp>

#include "core/base/error.h"

namespace kinema::cli {
namespace {

struct OptionValues {
  std::string_view option;
  std::string_view values;
};

// Words that an option's value can be completed with.
constexpr std::array<OptionValues, 6> kValues = {{{"device", "auto cpu cuda:0"},
                                                  {"dtype", "auto fp32 bf16"},
                                                  {"clean", "caption lower none"},
                                                  {"mode", "stream whole dm_paper"},
                                                  {"merge", "drop-first mean"},
                                                  {"store", "bf16 fp32"}}};

std::string values_of(std::string_view option) {
  for (const auto& [name, values] : kValues) {
    if (name == option) {
      return std::string(values);
    }
  }
  return "";
}

std::string shell_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return result + "'";
}

std::string command_list(const CLI::App& root) {
  std::string commands;
  for (const CLI::App* command : root.get_subcommands({})) {
    commands += (commands.empty() ? "" : " ") + command->get_name();
  }
  return commands;
}

bool is_group(const CLI::App& command) {
  return !command.get_subcommands({}).empty();
}

std::string bash_options(const CLI::App& command, const CLI::App& root) {
  std::string options = "--help";
  for (const CLI::Option* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) {
      options += " --" + name;
    }
  }
  if (is_group(command)) {
    return command_list(command) + " " + options;
  }
  if (command.get_name() == "completion") {
    return options + " bash zsh";
  }
  return command.get_name() == "help" ? options + " " + command_list(root) : options;
}

// One case per command, groups before their commands; `path` is "vae encode".
void bash_cases(std::ostringstream& out,
                const CLI::App& parent,
                const CLI::App& root,
                const std::string& path) {
  for (const CLI::App* command : parent.get_subcommands({})) {
    const std::string name = path.empty() ? command->get_name() : path + " " + command->get_name();
    out << "    " << shell_quoted(name)
        << ") options=" << shell_quoted(bash_options(*command, root)) << " ;;\n";
    bash_cases(out, *command, root, name);
  }
}

std::string bash_script(const CLI::App& root) {
  std::ostringstream out;
  std::string groups;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (is_group(*command)) {
      groups += (groups.empty() ? "" : "|") + command->get_name();
    }
  }
  out << "# bash completion for kinema\n"
         "_kinema() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= "
         "word options=\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case $word in -*) continue ;; esac\n"
         "    case $command in\n"
         "      '') command=$word ;;\n"
         "      "
      << groups
      << ") command=\"$command $word\" ;;\n"
         "      *) break ;;\n"
         "    esac\n"
         "  done\n"
         "  COMPREPLY=()\n"
         "  case $previous in\n";
  for (const auto& [option, values] : kValues) {
    out << "    --" << option << ") COMPREPLY=($(compgen -W " << shell_quoted(values)
        << " -- \"$current\")); return ;;\n";
  }
  out << "  esac\n"
         "  case $command in\n"
         "    '') options="
      << shell_quoted(command_list(root) + " --help --version") << " ;;\n";
  bash_cases(out, root, root, "");
  out << "  esac\n"
         "  COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
         "  [[ ${#COMPREPLY[@]} -eq 0 || -n $command && $current != -* ]] && "
         "COMPREPLY+=($(compgen -f -- \"$current\"))\n"
         "}\n"
         "complete -o filenames -F _kinema kinema ./kinema\n";
  return out.str();
}

// "--size[text]" for _arguments; brackets and colons of the text are escaped.
std::string zsh_option(const std::string& name, const CLI::Option& option) {
  std::string text;
  for (const char c : option.get_description()) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') {
      text += '\\';
    }
    text += c;
  }
  std::string spec = name + "[" + text + "]";
  if (option.get_expected_min() > 0) {
    const std::string values =
        values_of(option.get_lnames().empty() ? "" : option.get_lnames().front());
    spec += ":" + option.get_option_text() + ":" + (values.empty() ? "_files" : "(" + values + ")");
  }
  return shell_quoted(spec);
}

// Offers the commands of `parent` at word `depth` + 2, then the options of the one that is there.
void zsh_commands(std::ostringstream& out,
                  const CLI::App& parent,
                  const CLI::App& root,
                  int depth,
                  const std::string& indent) {
  out << indent << "commands=(\n";
  for (const CLI::App* command : parent.get_subcommands({})) {
    out << indent << "  " << shell_quoted(command->get_name() + ":" + command->get_description())
        << "\n";
  }
  out << indent << ")\n"
      << indent << "if (( CURRENT == " << depth + 2 << " )); then\n"
      << indent << "  _describe 'command' commands\n"
      << indent << "  return\n"
      << indent << "fi\n"
      << indent << "case $words[" << depth + 2 << "] in\n";
  for (const CLI::App* command : parent.get_subcommands({})) {
    out << indent << "  " << command->get_name() << ")\n";
    if (is_group(*command)) {
      zsh_commands(out, *command, root, depth + 1, indent + "    ");
      out << indent << "  ;;\n";
      continue;
    }
    out << indent << "    _arguments";
    const std::string next = " \\\n" + indent + "      ";
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_snames()) {
        out << next << zsh_option("-" + name, *option);
      }
      for (const auto& name : option->get_lnames()) {
        out << next << zsh_option("--" + name, *option);
      }
    }
    const std::string rest = command->get_name() == "completion" ? "*:shell:(bash zsh)"
                             : command->get_name() == "help"
                                 ? "*:command:(" + command_list(root) + ")"
                                 : "*:file:_files";
    out << next << shell_quoted(rest) << "\n" << indent << "  ;;\n";
  }
  out << indent << "esac\n";
}

std::string zsh_script(const CLI::App& root) {
  std::ostringstream out;
  out << "#compdef kinema\n"
         "_kinema() {\n"
         "  local -a commands\n";
  zsh_commands(out, root, root, 0, "  ");
  out << "}\n"
         "_kinema \"$@\"\n";
  return out.str();
}

}  // namespace

std::string completion_script(const CLI::App& root, const std::string& shell) {
  if (shell == "bash") {
    return bash_script(root);
  }
  if (shell == "zsh") {
    return zsh_script(root);
  }
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "usage.value",
               .place = "cli",
               .subject = "SHELL",
               .expected = "bash or zsh",
               .got = "'" + shell + "'"});
}

}  // namespace kinema::cli
