// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_encode.h"

#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "apps/engine/vae_common.h"
#include "core/base/error.h"
#include "core/base/progress.h"

namespace kinema::engine {
namespace {

using pipeline::EncodeJob;
using pipeline::EncodeSummary;

VaeWork work_of(const pipeline::ClipFacts& facts) {
  return {.encodes = true,
          .frames = facts.expected_frames,
          .width = facts.width,
          .height = facts.height};
}

void dry_run(const std::vector<EncodeJob>& jobs,
             const VaeModel& model,
             const pipeline::EncodeSettings& settings,
             cli::Console& console) {
  const auto source = pipeline::ClipSource::open(jobs.front().source, settings.clip);
  const pipeline::ClipFacts& facts = source->facts();
  const MemoryEstimate memory = model.estimate(work_of(facts));
  const OrderedJson result = {{"sources", jobs.size()},
                              {"first", facts.to_json()},
                              {"first_output", jobs.front().output},
                              {"settings", settings.to_json(model.shape().info())},
                              {"place", tensor::to_string(model.place())},
                              {"memory", memory.to_json()}};
  console.finish(result,
                 fmt::format("{} source{}, the first {}: {} x {}, to {}\nmemory   {}\n",
                             jobs.size(),
                             jobs.size() == 1 ? "" : "s",
                             facts.path,
                             facts.width,
                             facts.height,
                             jobs.front().output,
                             memory.to_text()));
}

std::string text_of(const EncodeSummary& summary, const std::string& output) {
  std::string text = fmt::format("{}: {} encoded, {} already there, {} clips, {} frames, {}\n",
                                 output,
                                 summary.encoded,
                                 summary.already_done,
                                 summary.clips,
                                 summary.frames,
                                 format_duration(summary.seconds));
  const auto row = [&](std::size_t count, const char* what) {
    if (count > 0) {
      text += fmt::format("  {} {}\n", count, what);
    }
  };
  row(static_cast<std::size_t>(summary.dropped_frames),
      "frames at the ends of sources, too few for a clip");
  row(summary.too_short.size(), "sources with fewer frames than one clip");
  row(summary.damaged.size(), "damaged sources, encoded as far as they go");
  return text;
}

/// What went wrong with some sources, as the error of the whole command.
void throw_failures(const EncodeSummary& summary, std::size_t sources) {
  if (summary.failures.empty()) {
    return;
  }
  ErrorKind kind = ErrorKind::kBadData;
  std::string names;
  for (const auto& failure : summary.failures) {
    if (failure.error.kind() == ErrorKind::kOutOfMemory) {
      kind = ErrorKind::kOutOfMemory;
    }
    if (names.size() < 1000) {
      names += (names.empty() ? "" : ", ") + failure.source + " (" + failure.error.code() + ")";
    }
  }
  if (summary.failures.size() == 1 && sources == 1) {
    throw summary.failures.front().error;
  }
  throw Error(kind,
              {.code = "encode.failed",
               .place = "vae.encode",
               .subject = fmt::format("{} of {} sources", summary.failures.size(), sources),
               .expected = "sources that can be encoded",
               .got = names,
               .hint = "the others are done; run again after mending these"});
}

}  // namespace

void vae_encode(const cli::VaeEncodeOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console) {
  const VaeModel model(options.run, common, console.logger());
  const auto jobs =
      pipeline::collect_jobs({.paths = options.inputs, .list = options.manifest}, options.output);
  pipeline::EncodeSettings settings;
  settings.run = codec_run(options.run);
  settings.clip = clip_options(options.clip);
  settings.clip_frames = options.clip_frames;
  settings.dtype = options.store == "fp32" ? io::DType::kF32 : io::DType::kBF16;
  settings.overwrite = options.overwrite;
  settings.autoencoder_hash = pipeline::hash_of_model_folder(model.folder());
  settings.check_memory = [&](const pipeline::ClipFacts& facts) {
    model.require_memory(model.estimate(work_of(facts)), facts.path);
  };
  if (options.run.dry_run) {
    dry_run(jobs, model, settings, console);
    return;
  }
  const bool one_file = jobs.size() == 1 && jobs.front().output == options.output;
  std::optional<pipeline::EncodeFolder> folder;
  if (!one_file) {
    folder.emplace(options.output);
  }
  const auto vae = model.load();
  const EncodeSummary summary =
      pipeline::encode_files(*vae, jobs, settings, console.progress(), console.logger());
  OrderedJson result = {{"output", options.output}, {"sources", jobs.size()}};
  result.update(summary.to_json());
  if (folder.has_value()) {
    result["index"] = folder->write_index(jobs);
  }
  throw_failures(summary, jobs.size());
  console.finish(result, text_of(summary, options.output));
}

}  // namespace kinema::engine
