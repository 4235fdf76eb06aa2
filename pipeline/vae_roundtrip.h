// SPDX-License-Identifier: Apache-2.0
// A clip through an autoencoder and back, frame by frame: what is lost, as numbers and as pictures.
// With a reference run beside it, also what the paper's segments change against the exact stream.
//
//   const RoundtripReport report = roundtrip(vae, *source, {}, sinks, progress);
//
// Memory does not grow with the length of the clip (ClipMode::kWhole excepted): a frame leaves as
// soon as it is decoded, and its original is forgotten then.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/progress.h"
#include "core/tensor/tensor.h"
#include "pipeline/clip_codec.h"
#include "pipeline/clip_source.h"
#include "pipeline/picture_quality.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

struct RoundtripOptions {
  CodecRun run{};
  /// Also runs the exact stream and measures kPaper against it.
  bool against_exact = false;
  /// Length of the clip where the model must know it (needs_length()).
  std::optional<std::int64_t> num_frames{};
};

/// Where frames go, uint8 [H, W, 3], in order; either may be empty.
struct RoundtripSinks {
  std::function<void(const Tensor& frame_HWC)> output{};
  std::function<void(const Tensor& original_HWC, const Tensor& frame_HWC)> compare{};
};

/// The segment rule against the exact stream.
struct SeamReport {
  double max_abs_latent = 0;  ///< over posterior means
  double rms_latent = 0;
  Series frame_psnr_db;              ///< per frame, segments against exact, both decoded exactly
  std::vector<std::int64_t> seams;   ///< frames that two segments share
  std::vector<double> seam_psnr_db;  ///< per seam, of the frames around it
  Series exact_psnr_db;              ///< of the exact stream against the source
  [[nodiscard]] OrderedJson to_json() const;
};

struct RoundtripReport {
  std::int64_t frames = 0;
  std::int64_t padded_frames = 0;  ///< added to reach a legal count, cut again
  std::int64_t latent_frames = 0;
  std::int64_t padded_width = 0;  ///< of what the model saw
  std::int64_t padded_height = 0;
  std::int64_t latent_values = 0;  ///< numbers in the latents
  Series psnr_db;
  Series ssim;
  std::optional<SeamReport> seam{};
  double seconds = 0;
  [[nodiscard]] OrderedJson to_json() const;
};

/// Throws what the source, the model and the sinks throw; kBadData [clip.empty] for no frame;
/// kUnsupported [vae.channels] for a model that is not RGB; kCancelled.
[[nodiscard]] RoundtripReport roundtrip(const vae::Autoencoder& vae,
                                        ClipSource& source,
                                        const RoundtripOptions& options,
                                        const RoundtripSinks& sinks,
                                        ProgressObserver& progress);

/// Original and result beside each other, [H, 2 W, 3]; an odd height is made even by repeating the
/// last row, as video codecs want it.
[[nodiscard]] Tensor side_by_side(const Tensor& original_HWC, const Tensor& frame_HWC);

}  // namespace kinema::pipeline
