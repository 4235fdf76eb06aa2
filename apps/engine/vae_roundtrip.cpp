// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_roundtrip.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "apps/engine/vae_common.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/version.h"
#include "pipeline/frame_sink.h"
#include "pipeline/pixels.h"

namespace kinema::engine {
namespace {

using pipeline::ClipFacts;
using pipeline::FrameSink;
using pipeline::RoundtripReport;

media::WriteOptions write_options(const ClipFacts& facts, std::int64_t width, std::int64_t height) {
  return {.width = width, .height = height, .fps = facts.fps};
}

media::WriteOptions compare_options(const ClipFacts& facts) {
  return write_options(facts, 2 * facts.width, pipeline::round_up(facts.height, 2));
}

std::optional<std::int64_t> known_frames(const ClipFacts& facts) {
  return facts.expected_frames > 0 ? std::optional(facts.expected_frames) : std::nullopt;
}

VaeWork work_of(const ClipFacts& facts, bool twice) {
  return {.encodes = true,
          .decodes = true,
          .twice = twice,
          .frames = facts.expected_frames,
          .width = facts.width,
          .height = facts.height};
}

/// What is known before work starts, for --dry-run.
OrderedJson plan_json(const ClipFacts& facts,
                      const VaeModel& model,
                      const cli::VaeRunOptions& run,
                      const MemoryEstimate& memory) {
  const vae::AutoencoderInfo& info = model.shape().info();
  return {{"source", facts.to_json()},
          {"expected_frames", facts.expected_frames},
          {"model", {{"path", model.folder()}, {"family", info.family}}},
          {"place", tensor::to_string(model.place())},
          {"run", codec_run(run).to_json()},
          {"memory", memory.to_json()}};
}

std::string plan_text(const ClipFacts& facts, const VaeModel& model, const MemoryEstimate& memory) {
  return fmt::format(
      "source   {}: {} frames of {} x {} at {:.5g} per second\n"
      "model    {}, {}, on {}\n"
      "memory   {}\n",
      facts.path,
      facts.expected_frames > 0 ? std::to_string(facts.expected_frames) : "?",
      facts.width,
      facts.height,
      facts.fps.value(),
      model.folder(),
      model.shape().info().family,
      tensor::to_string(model.place()),
      memory.to_text());
}

OrderedJson result_json(const ClipFacts& facts,
                        const VaeModel& model,
                        const cli::VaeRunOptions& run,
                        const RoundtripReport& report) {
  const vae::AutoencoderInfo& info = model.shape().info();
  OrderedJson json = {{"format", "kinema-roundtrip-1"},
                      {"version", version()},
                      {"source", facts.to_json()},
                      {"model", {{"path", model.folder()}, {"family", info.family}}},
                      {"place", tensor::to_string(model.place())},
                      {"run", codec_run(run).to_json()}};
  json.update(report.to_json());
  return json;
}

std::string seam_text(const pipeline::SeamReport& seam) {
  std::string text = fmt::format(
      "seams    {} of them, latents differ by at most {:.3g} (rms {:.3g})\n"
      "         frames against the exact stream: PSNR mean {:.2f} dB, worst {:.2f} dB (frame {})\n",
      seam.seams.size(),
      seam.max_abs_latent,
      seam.rms_latent,
      seam.frame_psnr_db.mean(),
      seam.frame_psnr_db.min(),
      seam.frame_psnr_db.index_of_min());
  if (!seam.seam_psnr_db.empty()) {
    const auto worst = std::ranges::min_element(seam.seam_psnr_db);
    text += fmt::format("         around seams: worst {:.2f} dB (frame {})\n",
                        *worst,
                        seam.seams[static_cast<std::size_t>(worst - seam.seam_psnr_db.begin())]);
  }
  return text + fmt::format("exact    PSNR of the exact stream {:.2f} dB against the source\n",
                            seam.exact_psnr_db.mean());
}

std::string result_text(const ClipFacts& facts, const RoundtripReport& report) {
  std::string text = fmt::format(
      "{}: {} frames of {} x {}\n", facts.path, report.frames, facts.width, facts.height);
  if (report.padded_frames > 0) {
    text += fmt::format("filled   {} frame{} at the end, cut again\n",
                        report.padded_frames,
                        report.padded_frames == 1 ? "" : "s");
  }
  if (report.padded_width != facts.width || report.padded_height != facts.height) {
    text +=
        fmt::format("filled   to {} x {}, cut again\n", report.padded_width, report.padded_height);
  }
  const double values = static_cast<double>(facts.width * facts.height * 3 * report.frames);
  text +=
      fmt::format("latents  {} frames, {:.1f} times fewer numbers than pixels\n",
                  report.latent_frames,
                  values / static_cast<double>(std::max<std::int64_t>(report.latent_values, 1)));
  text += fmt::format("PSNR     mean {:.2f} dB, worst {:.2f} dB (frame {})\n",
                      report.psnr_db.mean(),
                      report.psnr_db.min(),
                      report.psnr_db.index_of_min());
  text += fmt::format("SSIM     mean {:.4f}, worst {:.4f} (frame {})\n",
                      report.ssim.mean(),
                      report.ssim.min(),
                      report.ssim.index_of_min());
  if (report.seam.has_value()) {
    text += seam_text(*report.seam);
  }
  return text;
}

void warn_of_sides(const ClipFacts& facts, const FrameSink& sink, Logger& logger) {
  if (sink.width() != facts.width || sink.height() != facts.height) {
    logger.warning(fmt::format("{} x {} is written as {} x {}: the format wants even sides",
                               facts.width,
                               facts.height,
                               sink.width(),
                               sink.height()));
  }
}

void warn(const ClipFacts& facts, Logger& logger) {
  if (facts.damage.has_value()) {
    logger.warning(fmt::format("{}: {}; worked on what could be read", facts.path, *facts.damage));
  }
  if (facts.size_changes > 0) {
    logger.warning(fmt::format("{}: {} frames of another size were scaled to the first's",
                               facts.path,
                               facts.size_changes));
  }
}

}  // namespace

void vae_roundtrip(const cli::VaeRoundtripOptions& options,
                   const cli::CommonOptions& common,
                   cli::Console& console) {
  const VaeModel model(options.run, common, console.logger());
  const pipeline::ClipOptions clip = clip_options(options.clip);
  const auto source = pipeline::ClipSource::open(options.input, clip);
  const ClipFacts& facts = source->facts();
  if (!options.output.empty()) {
    FrameSink::validate(
        options.output, write_options(facts, facts.width, facts.height), known_frames(facts));
  }
  if (!options.compare.empty()) {
    FrameSink::validate(options.compare, compare_options(facts), known_frames(facts));
  }
  const MemoryEstimate memory = model.estimate(work_of(facts, options.against_exact));
  if (options.run.dry_run) {
    console.finish(plan_json(facts, model, options.run, memory), plan_text(facts, model, memory));
    return;
  }
  model.require_memory(memory, options.input);
  console.logger().info("memory " + memory.to_text());

  const auto vae = model.load();
  const pipeline::RoundtripOptions request{
      .run = codec_run(options.run),
      .against_exact = options.against_exact,
      .num_frames = clip_length(vae->info(), options.input, clip)};
  std::optional<FrameSink> output;
  std::optional<FrameSink> compare;
  pipeline::RoundtripSinks sinks;
  if (!options.output.empty()) {
    output.emplace(options.output, write_options(facts, facts.width, facts.height));
    warn_of_sides(facts, *output, console.logger());
    sinks.output = [&](const Tensor& frame_HWC) { output->add(frame_HWC); };
  }
  if (!options.compare.empty()) {
    compare.emplace(options.compare, compare_options(facts));
    sinks.compare = [&](const Tensor& original_HWC, const Tensor& frame_HWC) {
      compare->add(pipeline::side_by_side(original_HWC, frame_HWC));
    };
  }
  const RoundtripReport report =
      pipeline::roundtrip(*vae, *source, request, sinks, console.progress());
  if (output.has_value()) {
    static_cast<void>(output->finish());
  }
  if (compare.has_value()) {
    static_cast<void>(compare->finish());
  }
  warn(facts, console.logger());
  const OrderedJson result = result_json(facts, model, options.run, report);
  if (!options.report.empty()) {
    write_file(options.report,
               result.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  }
  if (options.output != "-" && options.compare != "-") {
    console.finish(result, result_text(facts, report));
  }
}

void vae_seam(const cli::VaeSeamOptions& options,
              const cli::CommonOptions& common,
              cli::Console& console) {
  cli::VaeRoundtripOptions roundtrip;
  roundtrip.run = options.run;
  roundtrip.run.mode = "dm_paper";
  roundtrip.clip = options.clip;
  roundtrip.input = options.input;
  roundtrip.report = options.report;
  roundtrip.against_exact = true;
  vae_roundtrip(roundtrip, common, console);
}

}  // namespace kinema::engine
