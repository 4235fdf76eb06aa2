// SPDX-License-Identifier: Apache-2.0
// VidVAE: the 4x8x8 causal video autoencoder of xGen-VideoSyn-1 (arXiv 2408.12590, section 3.1),
// initialised from Stable Diffusion's image autoencoder, and its public relatives, Open-Sora-Plan's
// CausalVideoVAE 1.0, 1.1 and 1.2 (arXiv 2412.00131), which are other settings of the same class.
//
// Ours differs from Open-Sora-Plan in three settings, each needed for exact streaming: GroupNorm
// statistics per frame, time upsampling by repeating, attention per frame. The paper leaves levels
// of the time pooling and the upsampler open.
//
//   VidVae network(VidVaeConfig{});
//   StreamState state;
//   state.begin_chunk();
//   const Tensor moments = network->encode(video_BCFHW, &state);   // null: one shot
//
// Letters: as vae/autoencoder.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/base/json.h"
#include "core/nn/group_norm.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"
#include "vae/causal_conv3d.h"
#include "vae/codec.h"
#include "vae/inflation.h"
#include "vae/sd_vae.h"
#include "vae/stream_state.h"

namespace kinema::vae {

/// How a level halves time.
enum class TimeDown {
  kNone,
  kPool,   ///< mean of three frames, stride 2
  kMix,    ///< learned mix of the pool and a convolution
  kJoint,  ///< one 3x3x3 convolution halves time, rows and columns
};

/// How a level doubles time; the first frame always stays one frame.
enum class TimeUp {
  kNone,
  kRepeat,  ///< every later frame twice
  kLinear,  ///< linear interpolation among the later frames (looks one frame ahead)
  kMix,     ///< learned mix of kLinear and a convolution of it
  kJoint,   ///< trilinear in time and space, then a 3x3x3 convolution
};

/// How a level halves rows and columns (kJoint levels do it themselves).
enum class SpaceDown {
  kCausal,  ///< (1, 3, 3) convolution, named as a causal one
  kFrame,   ///< 2-D convolution per frame
};

enum class MidAttention {
  kFrame,      ///< per frame
  kOspLegacy,  ///< frames and channels mixed, as the Open-Sora-Plan 1.0 weights need it
};

/// Keys of our config.json are the field names, with the words pool mix joint repeat linear, frame
/// clip, frame osp_legacy, causal frame.
struct VidVaeConfig {
  std::int64_t in_channels = 3;
  std::int64_t latent_channels = 4;
  std::int64_t base = 128;
  std::vector<std::int64_t> mult = {1, 2, 4, 4};
  std::int64_t res_blocks = 2;  ///< per encoder level; decoder levels have one more
  std::int64_t groups = 32;
  double norm_eps = 1e-6;
  nn::NormScope norm_scope = nn::NormScope::kFrame;
  bool conv_in_3d = true;  ///< the encoder's first convolution
  std::vector<bool> conv3d_levels_enc = {true, true, true, true};
  std::vector<SpaceDown> space_down = {SpaceDown::kCausal, SpaceDown::kCausal, SpaceDown::kCausal};
  std::vector<TimeDown> time_down = {
      TimeDown::kPool, TimeDown::kPool, TimeDown::kNone, TimeDown::kNone};
  std::vector<TimeUp> time_up = {TimeUp::kNone, TimeUp::kNone, TimeUp::kRepeat, TimeUp::kRepeat};
  TimePadding pad_time = TimePadding::kFirst;
  MidAttention mid_attn = MidAttention::kFrame;
  std::int64_t patch = 1;        ///< the network sees patch x patch pixels as channels
  bool linear_shortcut = false;  ///< a linear map of pixel blocks beside the network
  std::vector<double> scale = {1.0, 1.0, 1.0, 1.0};  ///< model space is (z - shift) / scale
  std::vector<double> shift = {0.0, 0.0, 0.0, 0.0};

  /// Our config, or Open-Sora-Plan's (CausalVAEModel) translated. Unknown keys are a warning.
  /// Throws kBadCheckpoint [config.*, vae.config].
  static VidVaeConfig from_json(const Json& json, const std::string& path, Logger& logger);
  static VidVaeConfig from_osp_json(const Json& json, const std::string& path, Logger& logger);
  /// from_json(to_json()) == *this.
  [[nodiscard]] Json to_json() const;
  void validate(const std::string& path) const;  ///< throws kBadCheckpoint [vae.config]

  [[nodiscard]] std::int64_t num_levels() const noexcept { return std::ssize(mult); }
  [[nodiscard]] std::int64_t width(std::int64_t level) const {
    return base * mult[static_cast<std::size_t>(level)];
  }
  [[nodiscard]] std::int64_t temporal_ratio() const noexcept;
  [[nodiscard]] std::int64_t spatial_ratio() const noexcept { return patch << (num_levels() - 1); }
  /// Whether chunks give exactly what one shot gives.
  [[nodiscard]] bool streams_exactly() const noexcept;
  bool operator==(const VidVaeConfig&) const = default;
};

/// Parameter names are those of Open-Sora-Plan's files.
class VidVaeImpl final : public torch::nn::Module {
 public:
  explicit VidVaeImpl(const VidVaeConfig& config, const nn::ParameterOptions& parameters = {});
  ~VidVaeImpl() override;

  /// @param x_BCFHW  first chunk 1 + 4a frames, later chunks 4b.  @return raw moments [B,2C,t,h,w].
  [[nodiscard]] Tensor encode(const Tensor& x_BCFHW, StreamState* stream) const;
  /// @param z_BCTHW  latents, not in model space.  @return pixels.
  [[nodiscard]] Tensor decode(const Tensor& z_BCTHW, StreamState* stream) const;

  [[nodiscard]] const VidVaeConfig& config() const noexcept { return config_; }

 private:
  struct Parts;
  VidVaeConfig config_;
  std::unique_ptr<Parts> parts_;
};
TORCH_MODULE(VidVae);

/// Random weights for training from nothing: convolutions uniform in +-1/sqrt(fan in), norms 1 and
/// 0. The same seed gives the same weights.
void initialise_vid_vae(VidVaeImpl& network, std::uint64_t seed);

/// Widths, blocks and groups of an image autoencoder with the time settings of `base`.
[[nodiscard]] VidVaeConfig inflated_config(const SdVaeConfig& image, VidVaeConfig base = {});

/// Copies the weights of an image autoencoder into a network of inflated_config(): with kTail the
/// network treats every frame as the image autoencoder does, but for the time pooling.
/// Throws kBadConfig [vae.inflation] when the two do not fit.
void inflate_vid_vae(VidVaeImpl& network, SdVaeImpl& image, Inflation rule = Inflation::kTail);

/// The codec around a network (weights included), for Autoencoder.
[[nodiscard]] std::unique_ptr<Codec> make_vid_vae_codec(VidVae network, const tensor::Place& place);

/// A VidVAE from the folder of an image autoencoder, by inflation.
[[nodiscard]] std::unique_ptr<Codec> load_inflated_vid_vae(const CodecSource& image_source,
                                                           const VidVaeConfig& base,
                                                           Inflation rule,
                                                           Logger& logger);

}  // namespace kinema::vae
