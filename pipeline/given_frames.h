// SPDX-License-Identifier: Apache-2.0
// Frames that a video is given and not asked to invent: the picture or the clip that it begins
// with, the clip that it ends with. They are encoded into the latents of their places, and the
// sampler generates the rest (core/diffusion/masked_sampling.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/base/progress.h"
#include "core/tensor/tensor.h"
#include "pipeline/video_request.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {

/// One RGB frame, uint8 [H, W, 3] on the CPU.
using ImageConsumer = std::function<void(const Tensor& frame_HWC)>;

/// Where pictures and clips are read from: media/ in the command line, memory in a test.
class FrameSource {
 public:
  virtual ~FrameSource() = default;
  /// Frames of a clip, 1 for a picture.
  [[nodiscard]] virtual std::int64_t count(const std::string& path) = 0;
  /// Hands on frames first .. first + count - 1, in order.
  virtual void read(const std::string& path,
                    std::int64_t first,
                    std::int64_t count,
                    const ImageConsumer& consumer) = 0;
};

/// Which frames of a file become which latents.
struct GivenPart {
  std::int64_t first_frame = 0;   ///< in the file
  std::int64_t num_frames = 0;    ///< 0: nothing is given here
  std::int64_t first_latent = 0;  ///< in the video
  std::int64_t num_latents = 0;
  bool repeats_first_frame = false;  ///< encoded behind a copy of its first frame, see plan_end()
};

/// The beginning: the last frames of the clip, as many as are legal for the autoencoder.
/// @param available  frames of the file.  @param wanted  how many of them to keep, 0: all.
[[nodiscard]] GivenPart plan_begin(const vae::Autoencoder& vae,
                                   std::int64_t available,
                                   std::int64_t wanted);

/// The end: the first frames of the clip. Where one latent stands for `temporal_ratio` frames but
/// the first latent of a clip for one frame, whole groups of temporal_ratio frames are kept; they
/// are encoded behind a copy of their first frame, whose latent is dropped, so that the rest stand
/// where a longer video has them. A model that cuts videos into pieces takes whole pieces. Throws
/// kInvalidArgument [request.given] for a clip that is shorter than one group or piece.
[[nodiscard]] GivenPart plan_end(const vae::Autoencoder& vae,
                                 std::int64_t available,
                                 std::int64_t wanted,
                                 std::int64_t video_latents);

struct GivenPlan {
  GivenPart begin{};
  GivenPart end{};
  std::string begin_path{};      ///< of the picture or clip
  std::int64_t num_latents = 0;  ///< of the whole video
};

/// Where everything that a request gives belongs, before anything is encoded. Throws
/// kInvalidArgument [request.given] when nothing is left to generate or the end cannot be placed.
[[nodiscard]] GivenPlan plan_given(const VideoRequest& request,
                                   const vae::Autoencoder& vae,
                                   FrameSource& source);

struct GivenFrames {
  Tensor latents_BCTHW;  ///< float32 in model space, zeros where frames are generated
  Tensor mask_BT;        ///< float32 [1, T], 1: generate
  std::int64_t begin_frames = 0;
  std::int64_t end_frames = 0;
};

/// Encodes what request.image, .video and .end_video name; memory does not grow with the clips.
/// Frames are scaled to cover the video and cut around the middle.
/// Throws as plan_given() does, kInternal [generate.not_finite], kBadData [request.given_short] and
/// what the source throws.
[[nodiscard]] GivenFrames encode_given(const VideoRequest& request,
                                       const vae::Autoencoder& vae,
                                       FrameSource& source,
                                       ProgressObserver& progress);

/// uint8 [H, W, 3] to float [3, height, width] in [-1, 1]: scaled by bicubic filtering to cover the
/// size, cut around the middle.
[[nodiscard]] Tensor fit_frame(const Tensor& frame_HWC, std::int64_t height, std::int64_t width);

}  // namespace kinema::pipeline
