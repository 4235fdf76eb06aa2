// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "apps/engine/media_frames.h"
#include "apps/engine/stage_meter.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/machine_memory.h"
#include "core/io/container_metadata.h"
#include "core/io/xmp.h"
#include "core/tensor/place.h"
#include "media/video_writer.h"
#include "pipeline/batch.h"
#include "pipeline/journal.h"
#include "pipeline/process_memory.h"
#include "pipeline/text_to_video.h"

namespace kinema::engine {
namespace {

using pipeline::Batch;
using pipeline::BatchItem;
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
  for (const auto& [seconds, prompt] : options.parsed_scenes()) {
    request.scenes.push_back({.seconds = seconds, .prompt = prompt});
  }
  request.long_mode = options.long_mode;
  request.window = options.window;
  request.image = options.image;
  request.video = options.video;
  request.end_video = options.end_video;
  request.given_frames = options.given_frames;
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

/// Prompts that are encoded together, while the text encoder is in memory.
constexpr std::size_t kPromptsAtOnce = 16;

// What all videos of a call share.
struct Run {
  TextToVideo& pipe;
  cli::Console& console;
  bool with_provenance = true;
  PreviewFile* preview = nullptr;
  std::int64_t preview_every = 5;
};

// Makes one video (from the journal where there is one) and removes the journal. @return its facts.
OrderedJson make_video(const Run& run, const BatchItem& item, const Journal* journal) {
  const VideoRequest& request = item.request;
  const media::WriteOptions options = write_options(request, run.with_provenance);
  MediaFrames frames;
  StageMeter meter(run.console.progress());
  pipeline::SampleOptions sampling{.journal = journal, .frames = &frames};
  if (run.preview != nullptr) {
    sampling.preview = {.every = run.preview_every,
                        .frames = run.preview->is_animation() ? 8 : 1,
                        .consumer = [&](const Tensor& pictures, std::int64_t done, double seconds) {
                          run.preview->write(pictures, done, seconds);
                        }};
  }
  const Tensor latents_BCTHW = run.pipe.sample(request, sampling, meter);
  media::VideoWriter writer = media::VideoWriter::open(item.output, options);
  run.pipe.decode(
      request,
      latents_BCTHW,
      [&](const Tensor& frame_HWC) {
        writer.add({.rgb_HWC = {frame_HWC.data_ptr<std::uint8_t>(),
                                static_cast<std::size_t>(frame_HWC.numel())},
                    .width = request.width,
                    .height = request.height});
      },
      meter);
  const media::WriteReport report = writer.finish();
  if (journal != nullptr) {
    journal->remove();
  }
  return {{"output", report.path},
          {"frames", report.frames},
          {"duration_seconds", report.duration_seconds},
          {"bytes", report.bytes},
          {"request", request.to_json()},
          {"stages", meter.stages()}};
}

std::string describe(const OrderedJson& video) {
  const OrderedJson& request = video["request"];
  return fmt::format("{}: {} frames, {} x {}, {:.3g} s, {}\n",
                     video["output"].get<std::string>(),
                     video["frames"].get<std::int64_t>(),
                     request["width"].get<std::int64_t>(),
                     request["height"].get<std::int64_t>(),
                     video["duration_seconds"].get<double>(),
                     format_bytes(video["bytes"].get<std::uint64_t>()));
}

void add_preview(OrderedJson& result, const PreviewFile* preview) {
  if (preview != nullptr) {
    result["preview"] = {{"written", preview->num_written()}, {"seconds", preview->seconds()}};
  }
}

void make_one(const Run& run, const BatchItem& item, const Journal* journal) {
  OrderedJson result;
  try {
    result = make_video(run, item, journal);
  } catch (const Error& error) {
    // A run that failed before its first step has nothing to go on with.
    if (journal != nullptr && error.kind() != ErrorKind::kCancelled && !journal->load()) {
      journal->remove();
    }
    throw;
  }
  add_preview(result, run.preview);
  if (item.output != "-") {  // else stdout is the video
    run.console.finish(result, describe(result));
  }
}

// The videos of a batch from the first that is not done, each with its journal.
void make_all(const Run& run, Batch& batch) {
  const std::vector<BatchItem>& items = batch.items();
  OrderedJson videos = OrderedJson::array();
  std::string text;
  for (auto i = static_cast<std::size_t>(batch.num_done()); i < items.size(); ++i) {
    const BatchItem& item = items[i];
    run.console.logger().info(
        fmt::format("video {} of {} output={}", i + 1, items.size(), item.output));
    if (i % kPromptsAtOnce == 0 || static_cast<std::int64_t>(i) == batch.num_done()) {
      std::vector<VideoRequest> group;
      for (std::size_t j = i; j < std::min(items.size(), (i / kPromptsAtOnce + 1) * kPromptsAtOnce);
           ++j) {
        group.push_back(items[j].request);
      }
      run.pipe.encode_prompts(group, run.console.progress());
    }
    // A journal of another request is one that an earlier call left.
    std::optional<Journal> journal;
    if (Journal::exists(item.output)) {
      journal = Journal::open(item.output);
    }
    if (!journal || journal->request() != item.request) {
      journal = Journal::create(item.output, item.request);
    }
    videos.push_back(make_video(run, item, &*journal));
    text += describe(videos.back());
    batch.advance();
  }
  batch.remove();
  OrderedJson result = {{"videos", videos}};
  add_preview(result, run.preview);
  run.console.finish(result, text);
}

std::string bytes_text(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(bytes));
}

// Refuses what cannot fit: memory of the process, which the system cannot drop as it drops mapped
// weights.
void check_memory(const std::vector<pipeline::StageCost>& stages, bool force, Logger& logger) {
  const auto available = static_cast<std::int64_t>(machine_memory().available_bytes);
  for (const pipeline::StageCost& stage : stages) {
    if (available == 0 || stage.working_bytes + stage.mapped_bytes <= available) {
      continue;
    }
    const std::string needs = fmt::format("{} for {} and {} of weights",
                                          bytes_text(stage.working_bytes),
                                          stage.name,
                                          bytes_text(stage.mapped_bytes));
    if (stage.working_bytes > available && !force) {
      throw Error(ErrorKind::kOutOfMemory,
                  {.code = "request.memory",
                   .place = "generate",
                   .subject = "stage " + stage.name,
                   .expected = "at most " + bytes_text(available) + ", which is free",
                   .got = needs,
                   .hint = "make the video smaller or shorter, use --long fused with a smaller "
                           "--window, or start anyway with --force"});
    }
    logger.warning(
        fmt::format("memory is short stage={} needs={} free={}: weights may be read "
                    "from the disk again and again",
                    stage.name,
                    needs,
                    bytes_text(available)));
  }
}

// Everything that can be wrong with an item, before the first model is loaded.
pipeline::Plan check_item(TextToVideo& pipe, const BatchItem& item, bool with_provenance) {
  pipeline::Plan plan = pipe.plan(item.request);
  media::validate_output(item.output, write_options(item.request, with_provenance));
  if (item.request.has_given()) {
    MediaFrames frames;
    static_cast<void>(plan_given(item.request, pipe.autoencoder(), frames));
  }
  return plan;
}

std::string describe_costs(const VideoRequest& request, const pipeline::Plan& plan) {
  std::string text = fmt::format(
      "{} frames of {} x {} at {:g} per second\nlatents {} x {} x {} x {}, {} tokens, {} network "
      "passes, --long {}\n",
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
      to_string(plan.windows.mode));
  for (const pipeline::StageCost& stage : plan.stages) {
    text +=
        fmt::format("{:<8} {:>10.4g} GFLOP, peak memory {:>8} ({} of it weights in their files)",
                    stage.name,
                    stage.gflop,
                    bytes_text(stage.peak_bytes()),
                    bytes_text(stage.mapped_bytes));
    text += stage.seconds ? fmt::format(", about {}\n", format_duration(*stage.seconds)) : "\n";
  }
  return text;
}

void dry_run(TextToVideo& pipe, const std::vector<BatchItem>& items, cli::Console& console) {
  OrderedJson videos = OrderedJson::array();
  std::string text;
  std::vector<pipeline::StageCost> first;
  for (const BatchItem& item : items) {
    pipeline::Plan plan = check_item(pipe, item, true);
    // The first video is measured; the others take the same rates.
    plan.stages = pipe.costs(item.request, plan, /*measured=*/first.empty());
    first = first.empty() ? plan.stages : first;
    for (std::size_t i = 0; i < first.size(); ++i) {
      if (first[i].seconds && first[i].gflop > 0) {
        const double ratio = plan.stages[i].gflop / first[i].gflop;
        plan.stages[i].seconds = *first[i].seconds * ratio;
        plan.stages[i].cpu_seconds = first[i].cpu_seconds.value_or(0.0) * ratio;
      }
    }
    videos.push_back({{"output", item.output},
                      {"request", item.request.to_json()},
                      {"plan", plan.to_json()},
                      {"place", tensor::to_string(pipe.place())}});
    text += (items.size() > 1 ? item.output + "\n" : "") + describe_costs(item.request, plan);
  }
  text += "on " + tensor::to_string(pipe.place()) + "\n";
  console.finish(items.size() == 1 ? videos[0] : OrderedJson{{"videos", videos}}, text);
}

void refuse_unfinished(const std::string& output) {
  if (Journal::exists(output) || Batch::exists(output)) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "journal.unfinished",
                 .place = "generate",
                 .subject = output,
                 .expected = "no unfinished run of this output",
                 .got = "one",
                 .hint = "`kinema resume " + output + "` goes on with it, --restart drops it"});
  }
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
  TextToVideo pipe(model, place, console.logger());
  const VideoRequest asked = resolve(options, model);
  std::vector<VideoRequest> requests =
      options.prompts_file.empty() ? std::vector<VideoRequest>{asked}
                                   : pipeline::read_prompt_file(options.prompts_file, asked);
  for (VideoRequest& request : requests) {
    request = pipe.resolve(request);
  }
  const std::vector<BatchItem> items =
      pipeline::expand_batch(requests, options.output, options.videos);
  if (options.dry_run) {
    dry_run(pipe, items, console);
    return;
  }
  const bool is_batch = options.videos > 1 || !options.prompts_file.empty();
  if (options.output != "-" && !options.restart) {
    refuse_unfinished(options.output);
    for (const BatchItem& item : items) {
      refuse_unfinished(item.output);
    }
  }
  for (const BatchItem& item : items) {
    const pipeline::Plan plan = check_item(pipe, item, !options.no_provenance);
    check_memory(
        pipe.costs(item.request, plan, /*measured=*/false), options.force, console.logger());
  }
  pipe.check_components(items[0].request);
  std::optional<PreviewFile> preview;
  if (!options.preview.empty()) {
    preview.emplace(options.preview, console.logger());
  }
  const Run run{.pipe = pipe,
                .console = console,
                .with_provenance = !options.no_provenance,
                .preview = preview ? &*preview : nullptr,
                .preview_every = options.preview_every};
  if (is_batch) {
    Batch batch = Batch::create(options.output, items);
    make_all(run, batch);
  } else if (options.output == "-") {
    make_one(run, items[0], nullptr);
  } else {
    const Journal journal = Journal::create(items[0].output, items[0].request);
    make_one(run, items[0], &journal);
  }
}

void resume(const cli::ResumeOptions& options,
            const cli::CommonOptions& common,
            cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  std::optional<PreviewFile> preview;
  if (!options.preview.empty()) {
    preview.emplace(options.preview, console.logger());
  }
  const auto run_with = [&](TextToVideo& pipe) {
    return Run{.pipe = pipe,
               .console = console,
               .with_provenance = !options.no_provenance,
               .preview = preview ? &*preview : nullptr,
               .preview_every = options.preview_every};
  };
  if (Batch::exists(options.output)) {
    Batch batch = Batch::open(options.output);
    if (batch.items().empty()) {
      batch.remove();
      return;
    }
    TextToVideo pipe(ModelFolder::open(batch.items()[0].request.model), place, console.logger());
    make_all(run_with(pipe), batch);
    return;
  }
  const Journal journal = Journal::open(options.output);
  TextToVideo pipe(ModelFolder::open(journal.request().model), place, console.logger());
  make_one(run_with(pipe), {.output = options.output, .request = journal.request()}, &journal);
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
  const BatchItem item{.output = options.output, .request = request};
  static_cast<void>(check_item(pipe, item, true));
  pipe.check_components(request);
  if (options.output == "-") {
    make_one({.pipe = pipe, .console = console}, item, nullptr);
    return;
  }
  const Journal journal = Journal::create(options.output, request);
  make_one({.pipe = pipe, .console = console}, item, &journal);
}

}  // namespace kinema::engine
