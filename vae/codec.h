// SPDX-License-Identifier: Apache-2.0
// What one autoencoder architecture provides. Everything around it (checks, time steps, tiles,
// segments, streams, padding) is common and lives in autoencoder.cpp.
//
// To add an architecture: derive from Codec in a file of its own, provide a load function, and name
// its config class in load_autoencoder.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/io/checkpoint.h"
#include "core/tensor/keymap.h"
#include "core/tensor/place.h"
#include "core/tensor/tensor.h"
#include "vae/autoencoder.h"
#include "vae/memory_ledger.h"
#include "vae/stream_state.h"
#include "vae/tiling.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace kinema::vae {

/// In which steps a clip goes through the network, in frames (encoder) or latents (decoder).
struct StepRule {
  std::int64_t first = 1;  ///< size of the first step
  std::int64_t later = 1;  ///< size of the others
  /// first + k later in one step gives the same result (exactly streaming models).
  bool any_multiple = false;
  /// The first step also takes what `first + k later` leaves over, and needs not be full when it is
  /// the only one (CogVideoX). Otherwise a shorter last step takes it.
  bool remainder_first = false;
  bool independent = false;  ///< every step starts a new state
  bool whole = false;        ///< the clip is one step
};

/// The steps of a clip of `total` positions. @param wanted  size of a step where any_multiple
/// allows a choice; 0: everything in one step.
[[nodiscard]] std::vector<Span> plan_steps(const StepRule& rule,
                                           std::int64_t total,
                                           std::int64_t wanted = 0);

/// Where in its clip a step is.
struct StepContext {
  std::int64_t index = 0;  ///< number of the step
  Span span{};             ///< frames (encoder) or latents (decoder)
  bool is_last = false;    ///< known for sure; a stream that may go on says false
  /// Decoder: frames of the clip that are wanted, if the caller said so.
  std::optional<std::int64_t> num_frames{};
};

/// A tiling of one axis as the model's own library does it, or the default of ours.
struct TilePlan {
  TileAxis rows{};
  TileAxis columns{};
};

class Codec {
 public:
  virtual ~Codec() = default;

  [[nodiscard]] virtual const AutoencoderInfo& info() const noexcept = 0;
  [[nodiscard]] virtual StepRule encode_rule() const = 0;
  [[nodiscard]] virtual StepRule decode_rule() const = 0;

  /// Latent frames of a legal frame count; nothing for an illegal one.
  [[nodiscard]] virtual std::optional<std::int64_t> latent_frames(std::int64_t frames) const = 0;
  /// Frames that `latents` (>= 1) decode to when nothing is cut.
  [[nodiscard]] virtual std::int64_t video_frames(std::int64_t latents) const = 0;
  /// Whether any rows and columns >= spatial_ratio are legal (each level floors), or multiples
  /// only.
  [[nodiscard]] virtual bool takes_odd_sizes() const { return false; }

  /// Raw moments [B, 2C, t, h, w] (mean, log variance before the clamp) of one step.
  /// @param x_BCFHW  on info().place, channels-last.  @param state  begin_chunk() was called.
  [[nodiscard]] virtual Tensor encode_step(const Tensor& x_BCFHW,
                                           StreamState& state,
                                           const StepContext& step) const = 0;
  /// Pixels of one step of latents (not in model space).
  [[nodiscard]] virtual Tensor decode_step(const Tensor& z_BCTHW,
                                           StreamState& state,
                                           const StepContext& step) const = 0;
  /// Books what one step allocates and computes, without computing. @param input  pixels or latents
  /// of the step.  @param is_first  the step starts its clip.  @return the moments or pixels.
  [[nodiscard]] virtual Live book_step(Ledger& ledger,
                                       Direction direction,
                                       const Live& input,
                                       bool is_first) const = 0;
  /// The whole network.
  [[nodiscard]] virtual const torch::nn::Module& network() const noexcept = 0;
  /// What comes after the tiles of a step are joined (Wan clamps). May work in place.
  [[nodiscard]] virtual Tensor finish_pixels(Tensor pixels_BCFHW) const { return pixels_BCFHW; }

  /// Tiles for pictures of rows x columns (pixels when encoding, latents when decoding), or nothing
  /// where the picture is small enough to stay whole. Throws kInvalidArgument [vae.tiling]. The
  /// default is plan_tiles() of 512 pixels and overlap 0.25.
  [[nodiscard]] virtual std::optional<TilePlan> tiles(Direction direction,
                                                      const TilingOptions& options,
                                                      std::int64_t rows,
                                                      std::int64_t columns) const;
  /// Windows in time that go with the reference tiling (Open-Sora-Plan 1.1, 1.2): steps of `size`
  /// that overlap by one and drop their first output, each from a fresh state. 0: none.
  [[nodiscard]] virtual std::int64_t rollback_window(const TilingOptions& /*options*/,
                                                     bool /*encoding*/) const {
    return 0;
  }
};

/// Tiles of one axis from sizes in latents: tile, overlap (both whole latents) and the ratio.
/// @param encoding  input is pixels, output latents; else the reverse.
[[nodiscard]] TileAxis tile_axis(std::int64_t tile_latents,
                                 std::int64_t overlap_latents,
                                 std::int64_t ratio,
                                 bool encoding);

/// tile_axis() of a tile in pixels and an overlap factor f as the public libraries compute it: step
/// int(tile (1 - f)), extent int(tile_out f). Throws kInvalidArgument [vae.tiling] when the tile in
/// latents times f is no integer or the tile no multiple of the ratio.
[[nodiscard]] TileAxis tile_axis_from_factor(std::int64_t tile_pixels,
                                             double overlap,
                                             std::int64_t ratio,
                                             bool encoding);

/// Fills a network for inference: where dtype and device allow it, the weights stay in the mapped
/// file and are READ ONLY; else they are channels-last. Throws what tensor::load_weights() throws.
void load_codec_weights(torch::nn::Module& network,
                        const io::Checkpoint& checkpoint,
                        const tensor::KeyMap& keymap,
                        const tensor::Place& place);

/// What a load function gets: the parsed config.json and where to put the model.
struct CodecSource {
  std::string folder;  ///< of the weights, or their file: what io::Checkpoint::open() takes
  Json config;
  tensor::Place place{};
  bool has_weights = true;  ///< false: a codec that can only be asked, not run
};

/// The codec of the class that the config names. Throws kBadCheckpoint [vae.class] and what the
/// load functions throw.
[[nodiscard]] std::unique_ptr<Codec> load_codec(const CodecSource& source, Logger& logger);

// One per architecture.
[[nodiscard]] std::unique_ptr<Codec> load_sd_vae(const CodecSource& source, Logger& logger);
[[nodiscard]] std::unique_ptr<Codec> load_vid_vae(const CodecSource& source, Logger& logger);
[[nodiscard]] std::unique_ptr<Codec> load_cogvideox_vae(const CodecSource& source, Logger& logger);
[[nodiscard]] std::unique_ptr<Codec> load_wan_vae(const CodecSource& source, Logger& logger);
[[nodiscard]] std::unique_ptr<Codec> load_open_sora_vae(const CodecSource& source, Logger& logger);

}  // namespace kinema::vae
