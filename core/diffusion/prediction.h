// SPDX-License-Identifier: Apache-2.0
// What a network's output means, and the clean latents and noise that follow from it.
//
// All for x = alpha x0 + sigma eps with the alpha and sigma of the step (plain numbers).
#pragma once

#include <string_view>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

enum class PredictionType {
  kEpsilon,      ///< "epsilon": eps
  kSample,       ///< "sample": x0
  kVelocity,     ///< "v_prediction": alpha eps - sigma x0 (arXiv 2202.00512)
  kFlow,         ///< "flow_prediction": eps - x0, for alpha = 1 - sigma
  kReverseFlow,  ///< "reverse_flow_prediction": x0 - eps, as Open-Sora trains it
};

/// A point of the path x = alpha x0 + sigma eps.
struct NoiseLevel {
  double alpha = 1.0;
  double sigma = 0.0;
};

[[nodiscard]] std::string_view to_string(PredictionType type);
/// Reads "prediction_type" ("original_sample" is another name of "sample").
void read_prediction(JsonReader& reader, PredictionType& type);

/// x0 from the prediction. @param sample [B, ...], the x that the network saw, not scaled.
[[nodiscard]] Tensor predict_x0(PredictionType type,
                                const Tensor& prediction,
                                const Tensor& sample,
                                NoiseLevel level);
/// eps from the prediction.
[[nodiscard]] Tensor predict_epsilon(PredictionType type,
                                     const Tensor& prediction,
                                     const Tensor& sample,
                                     NoiseLevel level);
/// What a perfect network with this prediction type would return (the training target).
[[nodiscard]] Tensor prediction_target(PredictionType type,
                                       const Tensor& x0,
                                       const Tensor& noise,
                                       NoiseLevel level);

/// Limits of x0 between steps, from scheduler_config.json.
struct ClipConfig {
  bool clip_sample = false;
  double clip_sample_range = 1.0;
  bool thresholding = false;  ///< dynamic thresholding, arXiv 2205.11487 section 2.3
  double dynamic_thresholding_ratio = 0.995;
  double sample_max_value = 1.0;

  /// The two clip_sample keys are optional in the file only where `with_clip`.
  void read(JsonReader& reader, bool with_clip);
  void write(Json& json, bool with_clip) const;
  /// x0 after both limits; thresholding wins over clipping. Thresholds are per batch element.
  [[nodiscard]] Tensor apply(const Tensor& x0) const;
  bool operator==(const ClipConfig&) const = default;
};

}  // namespace kinema::diffusion
