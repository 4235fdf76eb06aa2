// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_decode.h"

#include <optional>
#include <string>

#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "apps/engine/vae_common.h"
#include "core/base/file.h"
#include "pipeline/frame_sink.h"
#include "pipeline/latent_file.h"

namespace kinema::engine {
namespace {

using pipeline::LatentFile;

void warn_of_other_model(const LatentFile& file, const VaeModel& model, Logger& logger) {
  const Json& settings = file.facts().settings;
  const std::string made_with = settings.value("autoencoder", "");
  if (made_with != pipeline::hash_of_model_folder(model.folder())) {
    logger.warning(
        fmt::format("{} was encoded with other weights than those in {}: colours and detail may be "
                    "wrong",
                    file.facts().source.path,
                    model.folder()));
  }
}

}  // namespace

void vae_decode(const cli::VaeDecodeOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console) {
  const VaeModel model(options.run, common, console.logger());
  const LatentFile file = LatentFile::open(options.input);
  const pipeline::LatentFacts& facts = file.facts();
  pipeline::DecodeRequest request;
  request.run = codec_run(options.run);
  request.sample = options.sample;
  request.seed = static_cast<std::uint64_t>(options.seed);
  if (options.clip >= 0) {
    request.clip = options.clip;
  }
  const media::WriteOptions write{
      .width = facts.width,
      .height = facts.height,
      .fps = options.fps > 0 ? media::rational_rate(options.fps) : facts.fps};
  const std::int64_t frames = pipeline::frames_to_decode(file, request);
  pipeline::check_fit(model.shape(), file, request);
  pipeline::FrameSink::validate(options.output, write, frames);
  const MemoryEstimate memory = model.estimate(
      {.decodes = true, .frames = facts.frames, .width = facts.width, .height = facts.height});
  if (options.run.dry_run) {
    const OrderedJson plan = {{"clips", file.clips()},
                              {"frames", frames},
                              {"width", facts.width},
                              {"height", facts.height},
                              {"fps", write.fps.value()},
                              {"source", facts.source.path},
                              {"place", tensor::to_string(model.place())},
                              {"memory", memory.to_json()}};
    console.finish(plan,
                   fmt::format("{}: {} frames of {} x {}\nmemory   {}\n",
                               options.input,
                               frames,
                               facts.width,
                               facts.height,
                               memory.to_text()));
    return;
  }
  model.require_memory(memory, options.input);
  warn_of_other_model(file, model, console.logger());
  const auto vae = model.load();
  pipeline::FrameSink sink(options.output, write);
  pipeline::decode_latents(
      *vae,
      file,
      request,
      [&](const Tensor& frame_HWC) { sink.add(frame_HWC); },
      console.progress());
  const media::WriteReport report = sink.finish();
  if (options.output == "-") {
    return;
  }
  const OrderedJson result = {{"output", report.path},
                              {"frames", report.frames},
                              {"width", facts.width},
                              {"height", facts.height},
                              {"fps", write.fps.value()},
                              {"bytes", report.bytes},
                              {"source", facts.source.path},
                              {"sample", options.sample},
                              {"seed", options.seed},
                              {"place", tensor::to_string(model.place())}};
  console.finish(result,
                 fmt::format("{}: {} frames, {} x {}, {}\n",
                             report.path,
                             report.frames,
                             facts.width,
                             facts.height,
                             format_bytes(report.bytes)));
}

}  // namespace kinema::engine
