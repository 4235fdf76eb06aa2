// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/completion.h"

#include <sstream>
#include <string_view>

#include <CLI/CLI.hpp>

#include "core/base/error.h"

namespace kinema::cli {
namespace {

// Words that an option's value can be completed with.
std::string values_of(std::string_view option) {
  if (option == "device") {
    return "auto cpu cuda:0";
  }
  if (option == "dtype") {
    return "auto fp32 bf16";
  }
  if (option == "clean") {
    return "caption lower none";
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

std::string bash_script(const CLI::App& root) {
  std::ostringstream out;
  const std::string commands = command_list(root);
  out << "# bash completion for kinema\n"
         "_kinema() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= "
         "word options=\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case $word in -*) ;; *) command=$word; break ;; esac\n"
         "  done\n"
         "  COMPREPLY=()\n"
         "  case $previous in\n";
  for (const char* option : {"device", "dtype", "clean"}) {
    out << "    --" << option << ") COMPREPLY=($(compgen -W " << shell_quoted(values_of(option))
        << " -- \"$current\")); return ;;\n";
  }
  out << "  esac\n"
         "  case $command in\n"
         "    '') options="
      << shell_quoted(commands + " --help --version") << " ;;\n";
  for (const CLI::App* command : root.get_subcommands({})) {
    std::string options = "--help";
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_lnames()) {
        options += " --" + name;
      }
    }
    if (command->get_name() == "completion") {
      options += " bash zsh";
    } else if (command->get_name() == "help") {
      options += " " + commands;
    }
    out << "    " << command->get_name() << ") options=" << shell_quoted(options) << " ;;\n";
  }
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

std::string zsh_script(const CLI::App& root) {
  const std::string commands = command_list(root);
  std::ostringstream out;
  out << "#compdef kinema\n"
         "_kinema() {\n"
         "  local -a commands\n"
         "  commands=(\n";
  for (const CLI::App* command : root.get_subcommands({})) {
    out << "    " << shell_quoted(command->get_name() + ":" + command->get_description()) << "\n";
  }
  out << "  )\n"
         "  if (( CURRENT == 2 )); then\n"
         "    _describe 'command' commands\n"
         "    return\n"
         "  fi\n"
         "  case $words[2] in\n";
  for (const CLI::App* command : root.get_subcommands({})) {
    out << "    " << command->get_name() << ")\n      _arguments";
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_snames()) {
        out << " \\\n        " << zsh_option("-" + name, *option);
      }
      for (const auto& name : option->get_lnames()) {
        out << " \\\n        " << zsh_option("--" + name, *option);
      }
    }
    const std::string rest = command->get_name() == "completion" ? "*:shell:(bash zsh)"
                             : command->get_name() == "help"     ? "*:command:(" + commands + ")"
                                                                 : "*:file:_files";
    out << " \\\n        " << shell_quoted(rest) << "\n      ;;\n";
  }
  out << "  esac\n"
         "}\n"
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
