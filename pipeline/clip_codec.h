// SPDX-License-Identifier: Apache-2.0
// An autoencoder at work on one clip whose frames (or latents) arrive one after the other, in each
// of the ways that the toolkit knows: exact stream, the whole clip at once, the paper's segments.
//
//   ClipEncoder encoder(vae, {}, frames_if_known);
//   while (frame) { if (const auto part = encoder.push(pixels_BCFHW)) { use(*part); } }
//   if (const auto rest = encoder.finish()) { use(*rest); }
//
// Any number of frames is right: what is missing to a legal count is filled with the last frame.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/tensor.h"
#include "vae/autoencoder.h"
#include "vae/step_runner.h"

namespace kinema::pipeline {

enum class ClipMode {
  kStream,  ///< exact, memory independent of length
  kWhole,   ///< one shot, memory grows with length
  kPaper,   ///< divide and merge of xGen-VideoSyn-1 when encoding; decoding streams
};
/// "stream", "whole", "dm_paper".
[[nodiscard]] const char* to_string(ClipMode mode) noexcept;

struct CodecRun {
  ClipMode mode = ClipMode::kStream;
  vae::SegmentOptions segments{};  ///< of kPaper
  std::optional<vae::TilingOptions> tiling{};
  bool compact_state = false;
  vae::StateMemory state_memory{};  ///< does not change the numbers
  std::int64_t frames_per_step = 4;
  std::int64_t latents_per_step = 1;

  /// What decides the numbers that come out.
  [[nodiscard]] OrderedJson to_json() const;
  /// Throws kUnsupported [vae.stream] for kStream with a model that needs the whole clip,
  /// [vae.segments] for kPaper with a model that does not stream exactly; kInvalidArgument
  /// [vae.segments] for a length of segments that the model cannot take.
  void check(const vae::Autoencoder& vae) const;
};

/// Whether the model must know the length of a clip before its first frame.
[[nodiscard]] bool needs_length(const vae::AutoencoderInfo& info) noexcept;

/// Throws kUnsupported [vae.channels] for a model whose pictures are not RGB.
void require_rgb(const vae::AutoencoderInfo& info);

class ClipEncoder {
 public:
  /// @param num_frames  of the clip; required where needs_length().
  /// Throws what CodecRun::check() throws, kInvalidArgument [vae.stream_length, vae.segments].
  ClipEncoder(const vae::Autoencoder& vae,
              const CodecRun& run,
              std::optional<std::int64_t> num_frames = {});

  /// @param pixels_BCFHW  [1, C, f, H, W] in [-1, 1], sides as the model wants them.
  /// @return the latents that became complete. Throws kInternal [vae.not_finite].
  [[nodiscard]] std::optional<vae::Posterior> push(const Tensor& pixels_BCFHW);
  [[nodiscard]] std::optional<vae::Posterior> finish();

  [[nodiscard]] std::int64_t frames() const noexcept { return frames_; }  ///< pushed by the caller
  [[nodiscard]] std::int64_t padding() const noexcept { return padding_; }  ///< added at the end

 private:
  [[nodiscard]] std::optional<vae::Posterior> push_some(const Tensor& pixels_BCFHW);
  [[nodiscard]] std::optional<vae::Posterior> run_segments(bool at_end);

  const vae::Autoencoder& vae_;
  CodecRun run_;
  std::unique_ptr<vae::EncodeStream> stream_;  ///< of kStream
  vae::TimeJoiner joiner_;                     ///< of kPaper
  std::vector<Tensor> waiting_;  ///< kPaper: frames of the segment in hand; kWhole: all
  Tensor last_BCFHW_;
  std::int64_t segment_ = 0;  ///< segments done
  std::int64_t frames_ = 0;
  std::int64_t padding_ = 0;
};

class ClipDecoder {
 public:
  /// @param num_latents, num_frames  of the clip; required where needs_length().
  ClipDecoder(const vae::Autoencoder& vae,
              const CodecRun& run,
              std::optional<std::int64_t> num_latents = {},
              std::optional<std::int64_t> num_frames = {});

  /// @return pixels [1, C, f, H, W] that became complete. Throws kInternal [vae.not_finite].
  [[nodiscard]] std::optional<Tensor> push(const Tensor& latents_BCTHW);
  [[nodiscard]] std::optional<Tensor> finish();

 private:
  const vae::Autoencoder& vae_;
  CodecRun run_;
  std::optional<std::int64_t> num_frames_;
  std::unique_ptr<vae::DecodeStream> stream_;  ///< not with kWhole
  std::vector<Tensor> waiting_;
};

}  // namespace kinema::pipeline
