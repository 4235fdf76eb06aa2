// SPDX-License-Identifier: Apache-2.0
// Video and image autoencoders behind one interface, chosen by config.json: VidVAE, Stable
// Diffusion's AutoencoderKL, Open-Sora-Plan CausalVideoVAE, CogVideoX, Wan 2.1, Open-Sora 1.2.
//
//   auto vae = Autoencoder::load("model/vae", parse_place("auto", "auto"), logger);
//   const Posterior posterior = vae->encode(video_BCFHW);        // pixels in [-1, 1]
//   const Tensor latents_BCTHW = vae->to_model_space(posterior.mode());
//   vae->decode(vae->from_model_space(latents_BCTHW), {}, [&](const Tensor& frames) { ... });
//
// Letters: B batch, C channels, F pixel frames, T latent frames, H W rows and columns. An image is
// one frame. Methods take and give tensors of any device and float type; results have the dtype of
// the place. No method keeps gradients: train on the modules (vae/vid_vae.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "vae/posterior.h"

namespace kinema::vae {

class Codec;

enum class Direction { kEncode, kDecode };

/// How a model treats time. What is not `kStream` or `kPerFrame` is defined by its cuts.
enum class TimeMode {
  kPerFrame,     ///< an image model: every frame on its own
  kStream,       ///< exact streaming: any legal partition gives the one-shot result
  kFixedChunks,  ///< chunks of a fixed size with state; the chunking is part of the model
  kMicroClips,   ///< independent clips of a fixed length; the cuts are part of the model
  kWhole,        ///< needs the whole clip at once
};
[[nodiscard]] const char* to_string(TimeMode mode) noexcept;

struct AutoencoderInfo {
  std::string family;  ///< "autoencoder_kl", "vidvae", "osp_causal", "cogvideox", "wan",
                       ///< "open_sora_1_2"
  TimeMode time_mode = TimeMode::kPerFrame;
  std::int64_t temporal_ratio = 1;  ///< 4: frames 1 + 4k become 1 + k latents
  std::int64_t spatial_ratio = 8;
  std::int64_t image_channels = 3;
  std::int64_t latent_channels = 4;
  std::int64_t num_parameters = 0;
  std::vector<double> latent_shift;  ///< per channel; model space is (z - shift) * scale
  std::vector<double> latent_scale;
  tensor::Place place{};

  [[nodiscard]] bool streams_exactly() const noexcept {
    return time_mode == TimeMode::kStream || time_mode == TimeMode::kPerFrame;
  }
};

/// Spatial tiles, to bound memory for large pictures. GroupNorm and attention then see one tile, so
/// results differ slightly from the whole picture.
struct TilingOptions {
  /// Tile edge in pixels, a multiple of the spatial ratio; 0: the model's own default.
  std::int64_t tile_rows = 0;
  std::int64_t tile_columns = 0;
  double overlap = -1.0;  ///< part of a tile shared with the next, in [0, 0.5]; < 0: the default
  /// The library-compatible way (and, for Open-Sora-Plan, its windows in time) instead of the
  /// separable weighted merge.
  bool reference_blend = false;
  /// Open-Sora-Plan 1.1 and 1.2 with reference_blend: frames and latents per window; 0: default.
  std::int64_t window_frames = 0;
  std::int64_t window_latents = 0;
};

/// Divide and merge as the xGen-VideoSyn-1 paper has it (arXiv 2408.12590, section 3.1): segments
/// that share one frame with their neighbour, encoded on their own. An approximation; the exact
/// stream needs no more memory.
struct SegmentOptions {
  enum class Merge { kDropFirst, kMean };
  std::int64_t frames = 5;  ///< per segment, 1 + k temporal_ratio
  Merge merge = Merge::kDropFirst;
};

/// Where a stream keeps the past that its layers need, which for large pictures is most of the
/// memory: 12 GB for VidVAE at 1280 x 720 in fp32.
struct StateMemory {
  std::int64_t max_bytes = std::int64_t{4} << 30;  ///< in memory; the rest is in a temporary file
  std::string folder{};  ///< of that file; empty: the system's temporary folder
};

struct EncodeOptions {
  std::optional<TilingOptions> tiling{};
  std::optional<SegmentOptions> segments{};
  /// Frames per step of exactly streaming models; 0: the whole clip in one step. More frames per
  /// step cost memory and change nothing else.
  std::int64_t frames_per_step = 4;
  /// Repeats the last frame up to the next legal frame count instead of refusing.
  bool pad_frames = false;
  /// Streaming models of fp32: remember past frames as bf16, which halves that memory (most of the
  /// memory of large pictures) and costs exactness: about 0.4 % of what past frames contribute.
  bool compact_state = false;
  StateMemory state_memory{};
};

struct DecodeOptions {
  std::optional<TilingOptions> tiling{};
  std::optional<SegmentOptions> segments{};
  std::int64_t latents_per_step = 1;  ///< as frames_per_step
  bool compact_state = false;         ///< as in EncodeOptions
  StateMemory state_memory{};         ///< as in EncodeOptions
  /// Frames wanted; the rest of what the latents stand for is cut. Needed where padding was added.
  std::optional<std::int64_t> num_frames{};
};

/// Receives decoded frames [B, C, f, H, W] in order, a few at a time.
using FrameConsumer = std::function<void(const Tensor& frames_BCFHW)>;

/// A clip encoded while its frames arrive. Memory does not grow with the length of the clip.
class EncodeStream {
 public:
  virtual ~EncodeStream() = default;
  /// Any number of frames; what does not fill a step waits for the next push.
  /// @return the moments' posterior of the latents that became complete, or nothing.
  virtual std::optional<Posterior> push(const Tensor& frames_BCFHW) = 0;
  /// The rest; incomplete steps are filled by repeating the last frame.
  virtual std::optional<Posterior> finish() = 0;
  /// Bytes held between pushes.
  [[nodiscard]] virtual std::int64_t state_bytes() const = 0;
};

/// A clip decoded while its latents arrive.
class DecodeStream {
 public:
  virtual ~DecodeStream() = default;
  /// @return the frames that became complete, or nothing.
  virtual std::optional<Tensor> push(const Tensor& latents_BCTHW) = 0;
  virtual std::optional<Tensor> finish() = 0;
  [[nodiscard]] virtual std::int64_t state_bytes() const = 0;
};

/// The two files of a model, where they do not lie in one folder.
struct ModelFiles {
  std::string config;   ///< path of config.json
  std::string weights;  ///< safetensors file, index or folder
};

class Autoencoder {
 public:
  /// Loads a Hugging Face folder (config.json and safetensors). Throws kBadCheckpoint [vae.config,
  /// vae.class, config.*, weights.*], kIo [io.*].
  static std::unique_ptr<Autoencoder> load(const std::string& folder,
                                           const tensor::Place& place,
                                           Logger& logger = null_logger());
  static std::unique_ptr<Autoencoder> load(const ModelFiles& files,
                                           const tensor::Place& place,
                                           Logger& logger = null_logger());
  explicit Autoencoder(std::unique_ptr<Codec> codec);
  ~Autoencoder();

  [[nodiscard]] const AutoencoderInfo& info() const noexcept;

  /// Latent frames of `frames` pixel frames, and back. Throws kInvalidArgument [vae.frames] with
  /// the nearest legal counts.
  [[nodiscard]] std::int64_t latent_frames(std::int64_t frames) const;
  [[nodiscard]] std::int64_t video_frames(std::int64_t latents) const;
  /// The smallest legal frame count >= frames.
  [[nodiscard]] std::int64_t next_legal_frames(std::int64_t frames) const;
  /// Throws kInvalidArgument [vae.frames, vae.size] with the nearest legal values.
  void check_size(std::int64_t frames, std::int64_t rows, std::int64_t columns) const;

  /// @param video_BCFHW  pixels in [-1, 1].  @return the posterior; not in model space.
  /// Throws kShapeMismatch [tensor.shape], kInvalidArgument [vae.frames, vae.size, vae.tiling,
  /// vae.segments].
  [[nodiscard]] Posterior encode(const Tensor& video_BCFHW,
                                 const EncodeOptions& options = {}) const;

  /// @param latents_BCTHW  not in model space.  @return pixels [B, C, F, H, W], about [-1, 1].
  [[nodiscard]] Tensor decode(const Tensor& latents_BCTHW, const DecodeOptions& options = {}) const;
  /// The same, handing frames on as they are made: memory does not grow with the clip (models with
  /// kWhole excepted).
  void decode(const Tensor& latents_BCTHW,
              const DecodeOptions& options,
              const FrameConsumer& consumer) const;

  /// @param num_frames  length of the clip if it is known; kFixedChunks models need it.
  /// Throws kUnsupported [vae.stream] for kWhole models, kInvalidArgument [vae.stream_length].
  [[nodiscard]] std::unique_ptr<EncodeStream> encode_stream(
      const EncodeOptions& options = {}, std::optional<std::int64_t> num_frames = {}) const;
  [[nodiscard]] std::unique_ptr<DecodeStream> decode_stream(
      const DecodeOptions& options = {}, std::optional<std::int64_t> num_latents = {}) const;

  /// Latents as the diffusion model sees them: (z - shift) * scale; and back.
  [[nodiscard]] Tensor to_model_space(const Tensor& latents_BCTHW) const;
  [[nodiscard]] Tensor from_model_space(const Tensor& latents_BCTHW) const;

  /// The architecture, for code that trains or inspects it.
  [[nodiscard]] Codec& codec() const noexcept { return *codec_; }

 private:
  std::unique_ptr<Codec> codec_;
};

/// How far the paper's segment rule is from the exact stream, on one clip.
struct SeamError {
  double max_abs_latent = 0.0;       ///< max |z_segments - z_stream| over posterior means
  std::vector<double> seam_psnr_db;  ///< per seam, of the frames around it, both decoded exactly
};
[[nodiscard]] SeamError measure_seam_error(const Autoencoder& vae,
                                           const Tensor& video_BCFHW,
                                           const SegmentOptions& segments = {});

}  // namespace kinema::vae
