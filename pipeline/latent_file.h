// SPDX-License-Identifier: Apache-2.0
// Encoded clips on disk, "kinema-latents-1" (docs/formats.md): mean and log variance of an
// autoencoder's posterior, so that training draws fresh noise every time (not in model space), and
// all that is needed to decode them. One file per source; a source may be cut into clips.
//
//   LatentFileWriter writer("a.safetensors", io::DType::kBF16);
//   writer.add(posterior); writer.add(posterior); writer.end_clip();
//   writer.finish(facts);                                  // now the file appears
//
//   const LatentFile file = LatentFile::open("a.safetensors");
//   const vae::Posterior part = file.read(0, 0, 1);        // clip 0, first latent frame
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/io/dtype.h"
#include "core/io/safetensors.h"
#include "core/tensor/tensor.h"
#include "media/rational.h"
#include "vae/posterior.h"

namespace kinema::pipeline {

/// The file that latents were made from, as it was then.
struct SourceStamp {
  std::string path;
  std::int64_t bytes = 0;
  std::int64_t modified = 0;  ///< nanoseconds since 1970
  bool operator==(const SourceStamp&) const = default;

  /// Of a file on disk. Throws kIo [io.open].
  [[nodiscard]] static SourceStamp of(const std::string& path);
};

/// What the metadata of a latent file says; JSON keys are the field names.
struct LatentFacts {
  SourceStamp source;
  std::int64_t frames = 0;          ///< pixel frames of every clip, without padding
  std::int64_t dropped_frames = 0;  ///< of the source's end, too few for one more clip
  std::int64_t width = 0;           ///< of the pictures, without padding
  std::int64_t height = 0;
  media::Rational fps{24, 1};
  Json settings;        ///< everything that decides the numbers, with the autoencoder's hash
  Json autoencoder;     ///< family, ratios, shift and scale of model space
  std::string caption;  ///< of the manifest; may be empty
  Json extra = Json::object();  ///< the manifest's other keys
  std::string damage;           ///< of the source; empty: none

  [[nodiscard]] std::string to_text() const;
  /// Throws kBadData [latents.format, config.*, json.*].
  [[nodiscard]] static LatentFacts from_text(const std::string& text, const std::string& subject);
};

/// Latents arrive frame by frame and wait in a nameless file beside the output, because their
/// number stands in front of them; memory is that of one push.
class LatentFileWriter {
 public:
  /// @param dtype  kF32 or kBF16. Throws kOutput [output.unwritable].
  LatentFileWriter(std::string path, io::DType dtype);
  ~LatentFileWriter();
  LatentFileWriter(const LatentFileWriter&) = delete;
  LatentFileWriter& operator=(const LatentFileWriter&) = delete;

  /// The next latent frames of the clip in hand, [1, C, t, h, w]. Throws kDiskFull, kOutput.
  void add(const vae::Posterior& posterior);
  /// The clip is complete. Throws kInternal [latents.clip] when clips differ in length.
  void end_clip();
  /// Forgets the clip in hand.
  void drop_clip();
  [[nodiscard]] std::int64_t clips() const noexcept { return clips_; }
  [[nodiscard]] std::int64_t latents() const noexcept { return latents_; }  ///< frames per clip
  /// Writes the file under its name. Throws kDiskFull, kOutput, kInvalidArgument [latents.empty].
  void finish(const LatentFacts& facts);

 private:
  class Spool;
  [[nodiscard]] std::int64_t record_bytes() const;  ///< of one latent frame in the spool
  void copy_out(io::SafetensorsStream& file, bool logvar) const;

  std::string path_;
  io::DType dtype_;
  std::unique_ptr<Spool> spool_;
  std::vector<std::int64_t> shape_;  ///< C, h, w
  std::int64_t clips_ = 0;
  std::int64_t clip_latents_ = 0;  ///< of the clip in hand
  std::int64_t latents_ = 0;       ///< of every clip
};

class LatentFile {
 public:
  /// Reads the header. Throws kIo [io.open], kBadCheckpoint [safetensors.*], kBadData
  /// [latents.format, latents.shape, config.*].
  static LatentFile open(const std::string& path);

  [[nodiscard]] const LatentFacts& facts() const noexcept { return facts_; }
  [[nodiscard]] std::int64_t clips() const { return mean_BCTHW_.size(0); }
  [[nodiscard]] std::int64_t channels() const { return mean_BCTHW_.size(1); }
  [[nodiscard]] std::int64_t latents() const { return mean_BCTHW_.size(2); }  ///< frames per clip
  [[nodiscard]] std::int64_t height() const { return mean_BCTHW_.size(3); }
  [[nodiscard]] std::int64_t width() const { return mean_BCTHW_.size(4); }
  [[nodiscard]] io::DType dtype() const noexcept { return dtype_; }
  /// Latent frames first .. first + count of a clip, float32 [1, C, count, h, w], copied.
  [[nodiscard]] vae::Posterior read(std::int64_t clip,
                                    std::int64_t first,
                                    std::int64_t count) const;

 private:
  LatentFacts facts_;
  io::DType dtype_ = io::DType::kF32;
  Tensor mean_BCTHW_;    ///< in the mapped file
  Tensor logvar_BCTHW_;  ///< in the mapped file
};

/// Tells which weights a model folder holds: SHA-256 of the lines "<sha256>  <name>\n" of its
/// config.json and *.safetensors, sorted by name; what `sha256sum config.json *.safetensors |
/// sha256sum` prints. Throws kIo.
[[nodiscard]] std::string hash_of_model_folder(const std::string& folder);

}  // namespace kinema::pipeline
