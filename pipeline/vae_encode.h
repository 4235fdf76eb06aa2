// SPDX-License-Identifier: Apache-2.0
// Videos and pictures into latent files, many at a time: a cache to train on. A file that is there
// is whole; a run that was killed goes on with the file in hand.
//
//   const auto jobs = collect_jobs({.paths = {"clips/"}}, "cache");
//   const EncodeSummary summary = encode_files(vae, jobs, settings, progress, logger);
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/io/dtype.h"
#include "pipeline/clip_codec.h"
#include "pipeline/clip_source.h"
#include "pipeline/latent_file.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

struct EncodeInputs {
  std::vector<std::string> paths{};  ///< files, or folders that are searched for videos, pictures
  /// "*.jsonl": objects with "path", maybe "caption", and keys that are carried over. Other names:
  /// one path a line. Relative paths start at the list's folder.
  std::string list{};
};

struct EncodeJob {
  std::string source;
  std::string output;  ///< file
  std::string caption{};
  Json extra = Json::object();
};

/// @param output  a "*.safetensors" for one source, else a folder; there a source a/b.mp4 of the
///                searched folder or list becomes a/b.mp4.safetensors.
/// Throws kIo [io.open], kBadData [json.*, config.*, encode.no_input], kInvalidArgument
/// [encode.same_name, encode.one_file].
[[nodiscard]] std::vector<EncodeJob> collect_jobs(const EncodeInputs& inputs,
                                                  const std::string& output);

struct EncodeSettings {
  CodecRun run{};
  ClipOptions clip{};
  std::int64_t clip_frames = 0;        ///< > 0: cut into clips of so many frames, drop what is left
  io::DType dtype = io::DType::kBF16;  ///< of the files, or kF32
  std::string autoencoder_hash{};
  bool overwrite = false;
  /// Asked before a source is encoded; throws when it does not fit into memory.
  std::function<void(const ClipFacts&)> check_memory{};

  /// What decides the numbers in a file.
  [[nodiscard]] Json to_json(const vae::AutoencoderInfo& info) const;
};

struct EncodeFailure {
  std::string source;
  Error error;
};

struct EncodeSummary {
  std::int64_t encoded = 0;
  std::int64_t already_done = 0;
  std::int64_t clips = 0;   ///< of the encoded files
  std::int64_t frames = 0;  ///< of the encoded files
  std::int64_t dropped_frames = 0;
  std::vector<std::string> too_short{};  ///< sources with fewer frames than one clip
  std::vector<std::string> damaged{};    ///< sources that were encoded as far as they go
  std::vector<EncodeFailure> failures{};
  double seconds = 0;
  [[nodiscard]] OrderedJson to_json() const;
};

struct EncodedFile {
  LatentFacts facts;
  std::int64_t clips = 0;  ///< 0: fewer frames than one clip, and no file
};

/// Encodes one source. @param report_frames  as a stage of its own.
[[nodiscard]] EncodedFile encode_file(const vae::Autoencoder& vae,
                                      const EncodeJob& job,
                                      const EncodeSettings& settings,
                                      ProgressObserver& progress,
                                      bool report_frames);

/// Encodes what is not done yet. A source that cannot be read is a failure in the summary and does
/// not stop the others; a full disk, an output that cannot be written and a cancellation do. Throws
/// kInvalidArgument [encode.other_settings] before any work when a finished file was made with
/// other settings, kOutput [encode.foreign_file] when an output is some other file.
[[nodiscard]] EncodeSummary encode_files(const vae::Autoencoder& vae,
                                         const std::vector<EncodeJob>& jobs,
                                         const EncodeSettings& settings,
                                         ProgressObserver& progress,
                                         Logger& logger);

/// The folder of many outputs: created, held by one run at a time, freed of what a killed run left.
class EncodeFolder {
 public:
  /// Throws kOutput [output.unwritable, encode.busy].
  explicit EncodeFolder(const std::string& path);
  ~EncodeFolder();
  EncodeFolder(const EncodeFolder&) = delete;
  EncodeFolder& operator=(const EncodeFolder&) = delete;

  /// Writes latents.jsonl: one line per finished job, in their order. @return its path.
  std::string write_index(const std::vector<EncodeJob>& jobs) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace kinema::pipeline
