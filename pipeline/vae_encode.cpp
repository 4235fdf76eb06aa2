// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_encode.h"

#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/tensor/place.h"
#include "pipeline/pixels.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlace = "pipeline.encode";

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json describe(const vae::AutoencoderInfo& info) {
  return {{"family", info.family},
          {"temporal_ratio", info.temporal_ratio},
          {"spatial_ratio", info.spatial_ratio},
          {"latent_shift", info.latent_shift},
          {"latent_scale", info.latent_scale}};
}

/// Errors that are about one source and leave the others alone.
bool is_about_one_source(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kBadData:
    case ErrorKind::kIo:
      return true;
    case ErrorKind::kOutOfMemory:
      return error.code() == "memory.plan";
    default:
      return error.code() == "vae.not_finite";
  }
}

void make_parent(const std::string& path) {
  std::error_code failed;
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty()) {
    fs::create_directories(parent, failed);
  }
}

/// Whether the output is there and right. @param settings  of this run.
bool is_done(const EncodeJob& job, const Json& settings) {
  if (!fs::exists(job.output)) {
    return false;
  }
  LatentFacts facts;
  try {
    facts = LatentFile::open(job.output).facts();
  } catch (const Error& error) {
    throw Error(ErrorKind::kOutput,
                {.code = "encode.foreign_file",
                 .place = kPlace,
                 .subject = job.output,
                 .expected = "a latent file of an earlier run, or nothing",
                 .got = error.details().subject + ": " + error.details().got,
                 .hint = "move it away, or choose another output"});
  }
  if (facts.settings != settings) {
    std::string expected;
    std::string got;
    for (const auto& [key, value] : settings.items()) {
      const Json other = facts.settings.contains(key) ? facts.settings.at(key) : Json();
      if (other != value) {
        expected += (expected.empty() ? "" : ", ") + key + " " + dump(value);
        got += (got.empty() ? "" : ", ") + key + " " + dump(other);
      }
    }
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "encode.other_settings",
                 .place = kPlace,
                 .subject = job.output + " was made with other settings",
                 .expected = expected,
                 .got = got,
                 .hint = "choose another folder, or encode everything again with --overwrite"});
  }
  SourceStamp now = SourceStamp::of(job.source);
  now.path = facts.source.path;
  return facts.source == now && facts.caption == job.caption && facts.extra == job.extra;
}

class FileEncoder {
 public:
  FileEncoder(const vae::Autoencoder& vae,
              const EncodeJob& job,
              const EncodeSettings& settings,
              ProgressObserver& progress,
              bool report_frames)
      : vae_(vae),
        job_(job),
        settings_(settings),
        progress_(progress),
        report_frames_(report_frames),
        writer_(job.output, settings.dtype) {}

  EncodedFile run() {
    EncodedFile result;
    LatentFacts& facts = result.facts;
    facts.source = SourceStamp::of(job_.source);
    const auto source = ClipSource::open(job_.source, settings_.clip);
    if (settings_.check_memory) {
      settings_.check_memory(source->facts());
    }
    if (report_frames_) {
      progress_.on_stage("encode", source->facts().expected_frames, "frame");
    }
    const std::int64_t clip_frames = encode(*source);
    if (report_frames_) {
      progress_.on_stage_end();
    }
    const ClipFacts& clip = source->facts();
    facts.frames = clip_frames;
    facts.dropped_frames = clip.frames - clip_frames * writer_.clips();
    facts.width = clip.width;
    facts.height = clip.height;
    facts.fps = clip.fps;
    facts.settings = settings_.to_json(vae_.info());
    facts.autoencoder = describe(vae_.info());
    facts.caption = job_.caption;
    facts.extra = job_.extra;
    facts.damage = clip.damage.value_or("");
    if (writer_.clips() > 0) {
      writer_.finish(facts);
    } else if (clip.frames == 0) {
      throw Error(ErrorKind::kBadData,
                  {.code = "clip.empty",
                   .place = kPlace,
                   .subject = job_.source,
                   .expected = "at least one frame",
                   .got = "none"});
    }
    result.clips = writer_.clips();
    return result;
  }

 private:
  /// @return frames of every clip.
  std::int64_t encode(ClipSource& source) {
    const std::int64_t ratio = vae_.info().spatial_ratio;
    const std::int64_t wanted = settings_.clip_frames;
    std::optional<std::int64_t> length;
    if (needs_length(vae_.info())) {
      length = wanted > 0 ? wanted : count_frames(job_.source, settings_.clip);
    }
    std::optional<ClipEncoder> encoder;
    while (const auto frame_HWC = source.next()) {
      check_cancelled(progress_, kPlace);
      if (!encoder.has_value()) {
        encoder.emplace(vae_, settings_.run, length);
      }
      add(encoder->push(pixels_from_frame(*frame_HWC, ratio)));
      if (wanted > 0 && encoder->frames() == wanted) {
        add(encoder->finish());
        writer_.end_clip();
        encoder.reset();
      }
      if (report_frames_) {
        progress_.on_step(source.facts().frames, {});
      }
    }
    if (wanted > 0) {
      writer_.drop_clip();
      return wanted;
    }
    if (encoder.has_value()) {
      add(encoder->finish());
      writer_.end_clip();
    }
    return source.facts().frames;
  }

  void add(const std::optional<vae::Posterior>& posterior) {
    if (posterior.has_value()) {
      writer_.add(*posterior);
    }
  }

  const vae::Autoencoder& vae_;
  const EncodeJob& job_;
  const EncodeSettings& settings_;
  ProgressObserver& progress_;
  bool report_frames_;
  LatentFileWriter writer_;
};

}  // namespace

Json EncodeSettings::to_json(const vae::AutoencoderInfo& info) const {
  Json json = run.to_json();
  json["autoencoder"] = autoencoder_hash;
  json["computed"] = tensor::dtype_name(info.place.dtype);
  json["stored"] = dtype == io::DType::kBF16 ? "bf16" : "fp32";
  json["size"] = {clip.width, clip.height};
  json["fps"] = clip.fps;
  json["max_frames"] = clip.max_frames;
  json["clip_frames"] = clip_frames;
  return json;
}

OrderedJson EncodeSummary::to_json() const {
  OrderedJson failed = OrderedJson::array();
  for (const auto& failure : failures) {
    failed.push_back({{"source", failure.source},
                      {"code", failure.error.code()},
                      {"message", failure.error.what()}});
  }
  return {{"encoded", encoded},
          {"already_done", already_done},
          {"clips", clips},
          {"frames", frames},
          {"dropped_frames", dropped_frames},
          {"too_short", too_short},
          {"damaged", damaged},
          {"failed", failed},
          {"seconds", seconds}};
}

EncodedFile encode_file(const vae::Autoencoder& vae,
                        const EncodeJob& job,
                        const EncodeSettings& settings,
                        ProgressObserver& progress,
                        bool report_frames) {
  const at::InferenceMode inference;
  require_rgb(vae.info());
  settings.run.check(vae);
  return FileEncoder(vae, job, settings, progress, report_frames).run();
}

EncodeSummary encode_files(const vae::Autoencoder& vae,
                           const std::vector<EncodeJob>& jobs,
                           const EncodeSettings& settings,
                           ProgressObserver& progress,
                           Logger& logger) {
  const auto start = std::chrono::steady_clock::now();
  const Json wanted = settings.to_json(vae.info());
  EncodeSummary summary;
  std::vector<const EncodeJob*> todo;
  for (const auto& job : jobs) {
    try {
      if (!settings.overwrite && is_done(job, wanted)) {
        ++summary.already_done;
        continue;
      }
    } catch (const Error& error) {
      if (!is_about_one_source(error)) {
        throw;
      }
    }
    todo.push_back(&job);
  }
  if (summary.already_done > 0) {
    logger.info(fmt::format("already encoded files={} left={}", summary.already_done, todo.size()));
  }
  const bool many = jobs.size() > 1;
  if (many) {
    progress.on_stage("encode", std::ssize(todo), "file");
  }
  std::int64_t done = 0;
  for (const EncodeJob* job : todo) {
    check_cancelled(progress, kPlace);
    try {
      make_parent(job->output);
      const auto [facts, clips] = encode_file(vae, *job, settings, progress, !many);
      if (!facts.damage.empty()) {
        summary.damaged.push_back(job->source);
        logger.warning(fmt::format("{}: {}", job->source, facts.damage));
      }
      if (clips > 0) {
        ++summary.encoded;
        summary.clips += clips;
        summary.frames += clips * facts.frames;
        summary.dropped_frames += facts.dropped_frames;
      } else {
        summary.too_short.push_back(job->source);
        logger.warning(
            fmt::format("{}: fewer than {} frames, skipped", job->source, settings.clip_frames));
      }
    } catch (const Error& error) {
      if (!is_about_one_source(error)) {
        throw;
      }
      summary.failures.push_back({job->source, error});
      logger.error(error.what());
    }
    if (many) {
      progress.on_step(++done, {{"frames", static_cast<double>(summary.frames)}});
    }
  }
  if (many) {
    progress.on_stage_end();
  }
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace kinema::pipeline
