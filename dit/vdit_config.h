// SPDX-License-Identifier: Apache-2.0
// Shape of a video diffusion transformer in any of the layouts that kinema runs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace kinema::dit {

/// How attention is arranged over a video.
enum class Layout {
  kStdit2,  ///< blocks of spatial, temporal, prompt attention, MLP (Open-Sora 1.1,
            ///< xGen-VideoSyn-1)
  kStdit3,  ///< spatial and temporal blocks in turn (Open-Sora 1.2)
  kFull,    ///< all tokens of the video attend to each other
  kPixart,  ///< spatial blocks only: an image model (PixArt-alpha, PixArt-Sigma)
  kLatte,   ///< PixArt blocks and temporal blocks without prompt attention in turn (Latte)
};
[[nodiscard]] std::string_view to_string(Layout layout) noexcept;

/// JSON keys of configs of kinema are the field names, with "_class_name": "VDiT".
struct VDitConfig {
  Layout layout = Layout::kStdit3;
  std::int64_t latent_channels = 4;
  bool predict_variance = true;                   ///< twice the latent channels come out
  std::array<std::int64_t, 3> patch = {1, 2, 2};  ///< frames, rows, columns
  std::int64_t width = 1152;                      ///< D
  std::int64_t num_layers = 28;                   ///< of blocks, or of pairs of blocks
  std::int64_t num_heads = 16;                    ///< N; divides width
  std::int64_t mlp_width = 4608;
  std::int64_t caption_channels = 4096;  ///< width of the text features
  std::int64_t caption_tokens = 300;     ///< rows of the null caption; 0: the model has none
  std::int64_t pooled_channels = 0;      ///< pooled text features, added to the time; 0: none
  bool qk_norm = true;
  bool rotate_before_norm = false;  ///< Open-Sora 1.1: temporal queries and keys rotate first
  bool temporal_rotary = true;      ///< stdit2, stdit3
  /// Size conditions: height, width and aspect ratio added to the time (stdit2: always).
  bool size_conditions = false;
  bool fps_condition = true;      ///< stdit2, stdit3: always; pixart, latte: never
  bool frames_condition = false;  ///< number of frames (stdit2: always)
  /// Positions i (base / n) / scale. Open-Sora takes base and scale from the video and from this:
  std::int64_t input_sq_size = 512;  ///< pixels of the edge of a square video at scale 1
  /// PixArt and Latte fix them: base in tokens, 0 for the rule above.
  std::int64_t position_base = 0;
  double position_scale = 1.0;
  std::int64_t video_length = 0;  ///< latte: frames of the temporal position table
  double norm_eps = 1e-6;

  /// Reads a config of kinema (unknown keys are an error) or a public one: "architectures" STDiT2
  /// or STDiT3; "_class_name" PixArtTransformer2DModel, LatteTransformer3DModel, or
  /// Transformer2DModel with the norm of PixArt. Unknown keys of public files are appended to
  /// `unknown_keys`. Throws kBadCheckpoint [dit.class, dit.config, config.*].
  static VDitConfig from_json(const Json& json,
                              const std::string& subject,
                              std::vector<std::string>& unknown_keys);
  /// In kinema's own form; from_json(to_json()) == *this.
  [[nodiscard]] Json to_json() const;
  /// All broken rules in one kBadCheckpoint [dit.config].
  void validate(const std::string& subject) const;

  [[nodiscard]] std::int64_t head_width() const noexcept { return width / num_heads; }
  /// Whether temporal attention stands on its own and knows positions by differences only, so that
  /// it can look through windows.
  [[nodiscard]] bool has_temporal_windows() const noexcept {
    return (layout == Layout::kStdit2 || layout == Layout::kStdit3) && patch[0] == 1;
  }
  [[nodiscard]] std::int64_t out_channels() const noexcept {
    return predict_variance ? 2 * latent_channels : latent_channels;
  }
  [[nodiscard]] std::int64_t patch_volume() const noexcept {
    return patch[0] * patch[1] * patch[2];
  }
  bool operator==(const VDitConfig&) const = default;
};

}  // namespace kinema::dit
