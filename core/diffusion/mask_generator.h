// SPDX-License-Identifier: Apache-2.0
// Which latent frames a training sample is given, so that the model learns continuation,
// interpolation and image to video: Open-Sora's MaskGenerator.
//
// One rule is drawn per sample; what the probabilities leave is "none" (generate everything). A
// mask is true for frames to generate. With T frames:
//   quarter_head, _tail, _head_tail, _random   1 .. max(1, T/4) given frames at the start, the end,
//                                              both, or anywhere in a row
//   image_head, _tail, _head_tail, _random     the same with one frame
//   random                                     each frame given with one probability in 0.1 .. 0.9
//   interpolate                                every second frame given, from the first
// A single frame is never masked. A draw that would give all frames keeps the last one to generate.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

enum class MaskRule {
  kNone,
  kQuarterRandom,
  kQuarterHead,
  kQuarterTail,
  kQuarterHeadTail,
  kImageRandom,
  kImageHead,
  kImageTail,
  kImageHeadTail,
  kRandom,
  kInterpolate,
};
inline constexpr std::size_t kNumMaskRules = 11;
[[nodiscard]] std::string_view to_string(MaskRule rule);

class MaskGenerator {
 public:
  /// Probability of each rule, in the order of MaskRule; "none" gets what is missing to 1. Throws
  /// kBadConfig [mask.probability] for a negative one or a sum above 1.
  explicit MaskGenerator(const std::array<double, kNumMaskRules>& probabilities);
  /// {"quarter_head": 0.05, ...}; Open-Sora's keys, with "mask_no" or "identity" for none and
  /// "intepolate" (its spelling) or "interpolate".
  [[nodiscard]] static MaskGenerator from_json(const Json& json);

  /// The rule of sample number `sample`: a function of seed, stream name and number only.
  [[nodiscard]] MaskRule rule(std::uint64_t seed,
                              std::string_view stream,
                              std::uint64_t sample) const;
  /// bool [num_samples, num_frames] for samples first .. first + num_samples - 1.
  [[nodiscard]] Tensor masks_BT(std::uint64_t seed,
                                std::string_view stream,
                                std::uint64_t first,
                                std::int64_t num_samples,
                                std::int64_t num_frames) const;
  [[nodiscard]] const std::array<double, kNumMaskRules>& probabilities() const noexcept {
    return probabilities_;
  }

 private:
  std::array<double, kNumMaskRules> probabilities_;
};

/// bool [num_frames] of one rule. `uniforms`: numbers in [0, 1) that decide lengths and places;
/// 2 + num_frames of them. Throws kInvalidArgument [mask.uniforms] for fewer.
[[nodiscard]] Tensor make_mask(MaskRule rule,
                               std::int64_t num_frames,
                               std::span<const float> uniforms);

}  // namespace kinema::diffusion
