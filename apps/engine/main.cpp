// SPDX-License-Identifier: Apache-2.0
// kinema-engine: the part of kinema that links LibTorch and FFmpeg. `kinema` starts it with its own
// arguments; it parses them again with the same CommandLine, so the two cannot disagree.

#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include "apps/cli/command_line.h"
#include "apps/cli/console.h"
#include "apps/engine/commands.h"

namespace {

namespace cli = kinema::cli;
using kinema::Error;
using kinema::ErrorKind;

int run(const cli::Invocation& invocation) {
  if (invocation.common.threads > 0) {
    at::set_num_threads(static_cast<int>(invocation.common.threads));
  }
  cli::Console console(invocation.common);
  switch (invocation.command) {
    case cli::Command::kEmbed:
      invocation.embed.validate();
      kinema::engine::embed(invocation.embed, invocation.common, console);
      return 0;
    case cli::Command::kConvert:
      invocation.convert.validate();
      kinema::engine::convert(invocation.convert, console);
      return 0;
    case cli::Command::kEvalWorld:
      invocation.eval_world.validate();
      kinema::engine::eval_world(invocation.eval_world, invocation.common, console);
      return 0;
#ifdef KINEMA_WITH_MEDIA
    case cli::Command::kWorldRender:
      invocation.world_render.validate(invocation.common.json);
      kinema::engine::world_render(invocation.world_render, invocation.common, console);
      return 0;
    case cli::Command::kWorldShow:
      invocation.world_show.validate();
      kinema::engine::world_show(invocation.world_show, invocation.common, console);
      return 0;
    case cli::Command::kWorldExport:
      invocation.world_export.validate();
      kinema::engine::world_export(invocation.world_export, invocation.common, console);
      return 0;
    case cli::Command::kGenerate:
      invocation.generate.validate();
      kinema::engine::generate(invocation.generate, invocation.common, console);
      return 0;
    case cli::Command::kResume:
      invocation.resume.validate();
      kinema::engine::resume(invocation.resume, invocation.common, console);
      return 0;
    case cli::Command::kRerun:
      invocation.rerun.validate();
      kinema::engine::rerun(invocation.rerun, invocation.common, console);
      return 0;
    case cli::Command::kVaeRoundtrip:
      invocation.vae_roundtrip.validate(invocation.common.json);
      kinema::engine::vae_roundtrip(invocation.vae_roundtrip, invocation.common, console);
      return 0;
    case cli::Command::kVaeEncode:
      invocation.vae_encode.validate();
      kinema::engine::vae_encode(invocation.vae_encode, invocation.common, console);
      return 0;
    case cli::Command::kVaeDecode:
      invocation.vae_decode.validate(invocation.common.json);
      kinema::engine::vae_decode(invocation.vae_decode, invocation.common, console);
      return 0;
    case cli::Command::kVaeSeam:
      invocation.vae_seam.validate();
      kinema::engine::vae_seam(invocation.vae_seam, invocation.common, console);
      return 0;
#else
    case cli::Command::kGenerate:
    case cli::Command::kResume:
    case cli::Command::kRerun:
    case cli::Command::kVaeRoundtrip:
    case cli::Command::kVaeEncode:
    case cli::Command::kVaeDecode:
    case cli::Command::kVaeSeam:
    case cli::Command::kWorldRender:
    case cli::Command::kWorldShow:
    case cli::Command::kWorldExport:
      throw Error(ErrorKind::kUnsupported,
                  {.code = "build.no_media",
                   .place = "engine",
                   .subject = "writing a video",
                   .expected = "a build with KINEMA_MEDIA=ON",
                   .got = "one without FFmpeg"});
#endif
    case cli::Command::kTrainVae:
      invocation.train_vae.validate();
      kinema::engine::train_vae(invocation.train_vae, invocation.common, console);
      return 0;
    case cli::Command::kTrainDit:
      invocation.train_dit.validate();
      kinema::engine::train_dit(invocation.train_dit, invocation.common, console);
      return 0;
    case cli::Command::kTrainCaptions:
      invocation.train_captions.validate();
      kinema::engine::train_captions(invocation.train_captions, console);
      return 0;
    case cli::Command::kDoctor:
      kinema::engine::doctor(invocation.common, console);
      return 0;
    default:
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "usage.command",
                   .place = "engine",
                   .subject = "kinema-engine",
                   .expected = "a command that needs the engine",
                   .got = "another one",
                   .hint = "start kinema, not kinema-engine"});
  }
}

// LibTorch's own errors, in our shape: without the C++ backtrace, memory told from the rest.
Error translate(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  if (text.find("not enough memory") != std::string::npos ||
      text.find("out of memory") != std::string::npos ||
      text.find("can't allocate memory") != std::string::npos) {
    return Error(
        ErrorKind::kOutOfMemory,
        {.code = "out_of_memory",
         .place = "engine",
         .subject = text.substr(0, text.find('\n')),
         .hint = "use a smaller batch or size, --dtype bf16, or a machine with more memory"});
  }
  return Error(ErrorKind::kInternal, {.code = "internal", .place = "engine", .subject = text});
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return cli::run_main(arguments, [&] {
    try {
      cli::CommandLine line;
      return run(line.parse(arguments));
    } catch (const c10::Error& error) {
      throw translate(error);
    }
  });
}
