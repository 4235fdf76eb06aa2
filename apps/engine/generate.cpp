// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/container_metadata.h"
#include "core/io/xmp.h"
#include "core/tensor/place.h"
#include "media/video_writer.h"
#include "pipeline/journal.h"
#include "pipeline/text_to_video.h"

namespace kinema::engine {
namespace {

using pipeline::Journal;
using pipeline::ModelFolder;
using pipeline::TextToVideo;
using pipeline::VideoRequest;

media::WriteOptions write_options(const VideoRequest& request, bool with_provenance) {
  media::WriteOptions options;
  options.width = request.width;
  options.height = request.height;
  options.fps = media::rational_rate(request.fps);
  if (with_provenance) {
    options.provenance = pipeline::provenance(request);
  }
  return options;
}

VideoRequest resolve(const cli::GenerateOptions& options, const ModelFolder& model) {
  VideoRequest request = VideoRequest::with_defaults(model);
  request.prompt = options.prompt;
  request.negative = options.negative;
  request.seed = options.seed;
  request.sampler = options.sampler;
  if (!options.size.empty()) {
    std::tie(request.width, request.height) = options.parsed_size();
  }
  if (options.fps > 0) {
    request.fps = options.fps;
  }
  if (options.frames > 0) {
    request.frames = options.frames;
  } else if (options.seconds > 0) {
    request.frames = std::max<std::int64_t>(1, std::llround(options.seconds * request.fps));
  }
  if (options.steps > 0) {
    request.steps = options.steps;
  }
  if (options.guidance >= 0) {
    request.guidance = options.guidance;
  }
  return request;
}

// Samples (from the journal where there is one), decodes into the writer, removes the journal.
void run(TextToVideo& pipe,
         const VideoRequest& request,
         const std::string& output,
         const Journal* journal,
         bool with_provenance,
         cli::Console& console) {
  const media::WriteOptions options = write_options(request, with_provenance);
  const Tensor latents_BCTHW = pipe.sample(request, journal, console.progress());
  media::VideoWriter writer = media::VideoWriter::open(output, options);
  pipe.decode(
      request,
      latents_BCTHW,
      [&](const Tensor& frame_HWC) {
        writer.add({.rgb_HWC = {frame_HWC.data_ptr<std::uint8_t>(),
                                static_cast<std::size_t>(frame_HWC.numel())},
                    .width = request.width,
                    .height = request.height});
      },
      console.progress());
  const media::WriteReport report = writer.finish();
  if (journal != nullptr) {
    journal->remove();
  }
  const OrderedJson result = {{"output", report.path},
                              {"frames", report.frames},
                              {"duration_seconds", report.duration_seconds},
                              {"bytes", report.bytes},
                              {"request", request.to_json()}};
  if (output == "-") {
    return;  // stdout is the video
  }
  console.finish(result,
                 fmt::format("{}: {} frames, {} x {}, {:.3g} s, {}\n",
                             report.path,
                             report.frames,
                             request.width,
                             request.height,
                             report.duration_seconds,
                             format_bytes(report.bytes)));
}

VideoRequest request_in(const std::string& path) {
  const io::ContainerMetadata metadata = io::read_container_metadata(path);
  std::optional<std::string> text;
  if (metadata.xmp) {
    text = io::unwrap_xmp(*metadata.xmp, path);
  }
  if (!text) {
    text = metadata.comment;
  }
  if (!text) {
    throw Error(ErrorKind::kBadData,
                {.code = "provenance.none",
                 .place = "rerun",
                 .subject = path,
                 .expected = "the request that made it",
                 .got = "no provenance"});
  }
  return pipeline::request_from_provenance(*text, path);
}

}  // namespace

void generate(const cli::GenerateOptions& options,
              const cli::CommonOptions& common,
              cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  const ModelFolder model = ModelFolder::open(options.model);
  const VideoRequest request = resolve(options, model);
  TextToVideo pipe(model, place, console.logger());
  const pipeline::Plan plan = pipe.plan(request);
  media::validate_output(options.output, write_options(request, !options.no_provenance));
  if (options.dry_run) {
    OrderedJson result = {{"request", request.to_json()},
                          {"plan", plan.to_json()},
                          {"place", tensor::to_string(place)}};
    console.finish(
        result,
        fmt::format(
            "{} frames of {} x {} at {:g} per second\nlatents {} x {} x {} x {}, {} tokens, "
            "{} network passes, on {}\n",
            request.frames,
            request.width,
            request.height,
            request.fps,
            plan.latent_channels,
            plan.latent_frames,
            plan.latent_height,
            plan.latent_width,
            plan.tokens,
            plan.network_passes,
            tensor::to_string(place)));
    return;
  }
  if (options.output == "-") {
    run(pipe, request, options.output, nullptr, !options.no_provenance, console);
    return;
  }
  if (Journal::exists(options.output) && !options.restart) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "journal.unfinished",
         .place = "generate",
         .subject = options.output,
         .expected = "no unfinished run of this output",
         .got = "one",
         .hint = "`kinema resume " + options.output + "` goes on with it, --restart drops it"});
  }
  const Journal journal = Journal::create(options.output, request);
  run(pipe, request, options.output, &journal, !options.no_provenance, console);
}

void resume(const cli::ResumeOptions& options,
            const cli::CommonOptions& common,
            cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  const Journal journal = Journal::open(options.output);
  TextToVideo pipe(ModelFolder::open(journal.request().model), place, console.logger());
  static_cast<void>(pipe.plan(journal.request()));
  run(pipe, journal.request(), options.output, &journal, !options.no_provenance, console);
}

void rerun(const cli::RerunOptions& options,
           const cli::CommonOptions& common,
           cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  VideoRequest request = request_in(options.path);
  if (!options.model.empty()) {
    request.model = options.model;
  }
  TextToVideo pipe(ModelFolder::open(request.model), place, console.logger());
  static_cast<void>(pipe.plan(request));
  const Journal journal = Journal::create(options.output, request);
  run(pipe, request, options.output, &journal, /*with_provenance=*/true, console);
}

}  // namespace kinema::engine
