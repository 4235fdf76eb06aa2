// SPDX-License-Identifier: Apache-2.0
// The kinema command. It parses and checks everything itself and answers what needs no model; for
// the rest it becomes kinema-engine, the program that links LibTorch and FFmpeg. That keeps --help,
// --version, inspect, doctor and every usage error under 100 ms.

#include <cerrno>
#include <string>
#include <vector>

#include <unistd.h>

#include "apps/cli/command_line.h"
#include "apps/cli/console.h"
#include "apps/front/commands.h"
#include "apps/front/engine_path.h"
#include "core/base/version.h"

namespace {

using kinema::Error;
using kinema::ErrorKind;
namespace cli = kinema::cli;
namespace front = kinema::front;

// Replaces this process by the engine, with the same arguments. Returns only by throwing.
[[noreturn]] void become_engine(char** argv) {
  const std::string engine = front::engine_path();
  argv[0] = const_cast<char*>("kinema");
  ::execv(engine.c_str(), argv);
  throw kinema::system_error(
      ErrorKind::kInternal,
      errno,
      {.code = "engine.missing",
       .place = "cli",
       .subject = engine,
       .hint = "the installation is incomplete: kinema-engine belongs beside kinema"});
}

int run(cli::CommandLine& line, const cli::Invocation& invocation, char** argv) {
  cli::Console console(invocation.common);
  switch (invocation.command) {
    case cli::Command::kNone:
    case cli::Command::kHelp:
      cli::write_stdout(line.help(invocation.help.command));
      return 0;
    case cli::Command::kVersion:
      console.finish({{"version", kinema::version()}, {"build", kinema::build_options()}},
                     "kinema " + std::string(kinema::version()) + " (" +
                         std::string(kinema::build_options()) + ")\n");
      return 0;
    case cli::Command::kCompletion:
      cli::write_stdout(line.completion(invocation.completion.shell));
      return 0;
    case cli::Command::kInspect:
      front::inspect(invocation.inspect, console);
      return 0;
    case cli::Command::kTrainDit:
      invocation.train_dit.validate();
      become_engine(argv);
    case cli::Command::kTrainCaptions:
      invocation.train_captions.validate();
      become_engine(argv);
    case cli::Command::kDoctor:
      if (invocation.doctor.full) {
        become_engine(argv);
      }
      front::doctor(console);
      return 0;
    case cli::Command::kEmbed:
      invocation.embed.validate();
      become_engine(argv);
    case cli::Command::kGenerate:
      invocation.generate.validate();
      become_engine(argv);
    case cli::Command::kTrainVae:
      invocation.train_vae.validate();
      become_engine(argv);
    case cli::Command::kResume:
      invocation.resume.validate();
      become_engine(argv);
    case cli::Command::kRerun:
      invocation.rerun.validate();
      become_engine(argv);
    case cli::Command::kVaeRoundtrip:
      invocation.vae_roundtrip.validate(invocation.common.json);
      become_engine(argv);
    case cli::Command::kVaeEncode:
      invocation.vae_encode.validate();
      become_engine(argv);
    case cli::Command::kVaeDecode:
      invocation.vae_decode.validate(invocation.common.json);
      become_engine(argv);
    case cli::Command::kVaeSeam:
      invocation.vae_seam.validate();
      become_engine(argv);
    case cli::Command::kWorldRender:
      invocation.world_render.validate(invocation.common.json);
      become_engine(argv);
    case cli::Command::kWorldShow:
      invocation.world_show.validate();
      become_engine(argv);
    case cli::Command::kWorldExport:
      invocation.world_export.validate();
      become_engine(argv);
    case cli::Command::kEvalWorld:
      invocation.eval_world.validate();
      become_engine(argv);
    case cli::Command::kConvert:
      invocation.convert.validate();
      become_engine(argv);
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return cli::run_main(arguments, [&] {
    cli::CommandLine line;
    const cli::Invocation invocation = line.parse(arguments);
    return run(line, invocation, argv);
  });
}
