// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/prediction.h"

#include <array>
#include <string>

#include <ATen/ATen.h>

#include "core/diffusion/noise_schedule.h"

namespace kinema::diffusion {
namespace {

constexpr std::array<NamedValue<PredictionType>, 6> kPredictions = {{
    {"epsilon", PredictionType::kEpsilon},
    {"sample", PredictionType::kSample},
    {"original_sample", PredictionType::kSample},
    {"v_prediction", PredictionType::kVelocity},
    {"flow_prediction", PredictionType::kFlow},
    {"reverse_flow_prediction", PredictionType::kReverseFlow},
}};

}  // namespace

std::string_view to_string(PredictionType type) {
  return name_of<PredictionType>(kPredictions, type);
}

void read_prediction(JsonReader& reader, PredictionType& type) {
  read_enum<PredictionType>(reader, "prediction_type", kPredictions, type);
}

Tensor predict_x0(PredictionType type,
                  const Tensor& prediction,
                  const Tensor& sample,
                  NoiseLevel level) {
  switch (type) {
    case PredictionType::kEpsilon:
      return (sample - level.sigma * prediction) / level.alpha;
    case PredictionType::kVelocity:
      return level.alpha * sample - level.sigma * prediction;
    case PredictionType::kFlow:
      return sample - level.sigma * prediction;
    case PredictionType::kReverseFlow:
      return sample + level.sigma * prediction;
    case PredictionType::kSample:
      break;
  }
  return prediction;
}

Tensor predict_epsilon(PredictionType type,
                       const Tensor& prediction,
                       const Tensor& sample,
                       NoiseLevel level) {
  switch (type) {
    case PredictionType::kSample:
      return (sample - level.alpha * prediction) / level.sigma;
    case PredictionType::kVelocity:
      return level.alpha * prediction + level.sigma * sample;
    case PredictionType::kFlow:
      return sample + level.alpha * prediction;
    case PredictionType::kReverseFlow:
      return sample - level.alpha * prediction;
    case PredictionType::kEpsilon:
      break;
  }
  return prediction;
}

Tensor prediction_target(PredictionType type,
                         const Tensor& x0,
                         const Tensor& noise,
                         NoiseLevel level) {
  switch (type) {
    case PredictionType::kSample:
      return x0;
    case PredictionType::kVelocity:
      return level.alpha * noise - level.sigma * x0;
    case PredictionType::kFlow:
      return noise - x0;
    case PredictionType::kReverseFlow:
      return x0 - noise;
    case PredictionType::kEpsilon:
      break;
  }
  return noise;
}

void ClipConfig::read(JsonReader& reader, bool with_clip) {
  if (with_clip) {
    reader.optional("clip_sample", clip_sample);
    reader.optional("clip_sample_range", clip_sample_range);
  }
  reader.optional("thresholding", thresholding);
  reader.optional("dynamic_thresholding_ratio", dynamic_thresholding_ratio);
  reader.optional("sample_max_value", sample_max_value);
  if (!(clip_sample_range > 0.0)) {
    throw reader.error(
        "config.range", "clip_sample_range", "above 0", std::to_string(clip_sample_range));
  }
  if (!(dynamic_thresholding_ratio >= 0.0 && dynamic_thresholding_ratio <= 1.0)) {
    throw reader.error("config.range",
                       "dynamic_thresholding_ratio",
                       "0 .. 1",
                       std::to_string(dynamic_thresholding_ratio));
  }
  if (!(sample_max_value > 0.0)) {
    throw reader.error(
        "config.range", "sample_max_value", "above 0", std::to_string(sample_max_value));
  }
}

void ClipConfig::write(Json& json, bool with_clip) const {
  if (with_clip) {
    json["clip_sample"] = clip_sample;
    json["clip_sample_range"] = clip_sample_range;
  }
  json["thresholding"] = thresholding;
  json["dynamic_thresholding_ratio"] = dynamic_thresholding_ratio;
  json["sample_max_value"] = sample_max_value;
}

Tensor ClipConfig::apply(const Tensor& x0) const {
  if (thresholding) {
    const Tensor flat = x0.reshape({x0.size(0), -1});
    // Clamped from below first: a maximum under 1 wins, as in the reference.
    const Tensor limit =
        at::quantile(flat.abs(), dynamic_thresholding_ratio, 1, true).clamp(1.0, sample_max_value);
    return (at::minimum(at::maximum(flat, -limit), limit) / limit).view(x0.sizes());
  }
  return clip_sample ? x0.clamp(-clip_sample_range, clip_sample_range) : x0;
}

}  // namespace kinema::diffusion
