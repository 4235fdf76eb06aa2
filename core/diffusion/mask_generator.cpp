// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/mask_generator.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/diffusion/noise_schedule.h"
#include "core/kernels/noise.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.mask_generator";
constexpr std::int64_t kMaxFrames = 1 << 20;
constexpr std::array<NamedValue<MaskRule>, 14> kRules = {{
    {"none", MaskRule::kNone},
    {"mask_no", MaskRule::kNone},
    {"identity", MaskRule::kNone},
    {"quarter_random", MaskRule::kQuarterRandom},
    {"quarter_head", MaskRule::kQuarterHead},
    {"quarter_tail", MaskRule::kQuarterTail},
    {"quarter_head_tail", MaskRule::kQuarterHeadTail},
    {"image_random", MaskRule::kImageRandom},
    {"image_head", MaskRule::kImageHead},
    {"image_tail", MaskRule::kImageTail},
    {"image_head_tail", MaskRule::kImageHeadTail},
    {"random", MaskRule::kRandom},
    {"interpolate", MaskRule::kInterpolate},
    {"intepolate", MaskRule::kInterpolate},
}};

// Whole number in [0, count) from u in [0, 1).
std::int64_t pick(float u, std::int64_t count) {
  return std::min(static_cast<std::int64_t>(static_cast<double>(u) * static_cast<double>(count)),
                  count - 1);
}

bool is_quarter(MaskRule rule) {
  return rule == MaskRule::kQuarterRandom || rule == MaskRule::kQuarterHead ||
         rule == MaskRule::kQuarterTail || rule == MaskRule::kQuarterHeadTail;
}

}  // namespace

std::string_view to_string(MaskRule rule) {
  return name_of<MaskRule>(kRules, rule);
}

MaskGenerator::MaskGenerator(const std::array<double, kNumMaskRules>& probabilities)
    : probabilities_(probabilities) {
  double sum = 0.0;
  bool valid = true;
  for (const double probability : probabilities_) {
    valid = valid && probability >= 0.0;
    sum += probability;
  }
  if (!valid || !(sum <= 1.0 + 1e-9)) {
    throw Error(ErrorKind::kBadConfig,
                {.code = "mask.probability",
                 .place = kPlace,
                 .subject = "mask probabilities",
                 .expected = "values of 0 or more with a sum of at most 1",
                 .got = "a sum of " + std::to_string(sum)});
  }
  probabilities_[0] += std::max(1.0 - sum, 0.0);
}

MaskGenerator MaskGenerator::from_json(const Json& json) {
  std::array<double, kNumMaskRules> probabilities{};
  JsonReader reader(json,
                    {.place = kPlace, .subject = "mask_ratios", .kind = ErrorKind::kBadConfig});
  for (const auto& entry : kRules) {
    double probability = 0.0;
    if (reader.optional(entry.name, probability)) {
      probabilities.at(static_cast<std::size_t>(entry.value)) += probability;
    }
  }
  reader.finish();
  return MaskGenerator(probabilities);
}

MaskRule MaskGenerator::rule(std::uint64_t seed,
                             std::string_view stream,
                             std::uint64_t sample) const {
  float u = 0.0F;
  kernels::fill_uniform_flat(
      &u,
      kernels::noise_key(seed, stream, kernels::Draw::kUniform, kernels::Addressing::kFlat),
      sample,
      1);
  double sum = 0.0;
  for (std::size_t i = 0; i < kNumMaskRules; ++i) {
    sum += probabilities_.at(i);
    if (static_cast<double>(u) < sum) {
      return static_cast<MaskRule>(i);
    }
  }
  return MaskRule::kNone;
}

Tensor make_mask(MaskRule rule, std::int64_t num_frames, std::span<const float> uniforms) {
  if (num_frames < 1 || num_frames > kMaxFrames ||
      static_cast<std::int64_t>(uniforms.size()) < num_frames + 2) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "mask.uniforms",
                 .place = kPlace,
                 .subject = "uniform numbers",
                 .expected = "2 more than frames",
                 .got = std::to_string(uniforms.size()) + " for " + std::to_string(num_frames) +
                        " frames"});
  }
  const Tensor mask = at::ones({num_frames}, at::kBool);
  auto* generate = mask.mutable_data_ptr<bool>();
  if (num_frames == 1) {
    return mask;
  }
  const std::int64_t longest = std::max<std::int64_t>(1, num_frames / 4);
  const std::int64_t length = is_quarter(rule) ? 1 + pick(uniforms[0], longest) : 1;
  const auto give = [&](std::int64_t first) {
    std::fill(generate + first, generate + first + length, false);
  };
  switch (rule) {
    case MaskRule::kNone:
      break;
    case MaskRule::kQuarterRandom:
    case MaskRule::kImageRandom:
      give(pick(uniforms[1], num_frames - length + 1));
      break;
    case MaskRule::kQuarterHead:
    case MaskRule::kImageHead:
      give(0);
      break;
    case MaskRule::kQuarterTail:
    case MaskRule::kImageTail:
      give(num_frames - length);
      break;
    case MaskRule::kQuarterHeadTail:
    case MaskRule::kImageHeadTail:
      give(0);
      give(num_frames - length);
      break;
    case MaskRule::kRandom: {
      const double ratio = 0.1 + 0.8 * static_cast<double>(uniforms[0]);
      for (std::int64_t frame = 0; frame < num_frames; ++frame) {
        generate[frame] =
            static_cast<double>(uniforms[static_cast<std::size_t>(frame) + 2]) >= ratio;
      }
      break;
    }
    case MaskRule::kInterpolate:
      for (std::int64_t frame = 0; frame < num_frames; frame += 2) {
        generate[frame] = false;
      }
      break;
  }
  // A sample without a frame to generate would train nothing.
  if (std::none_of(generate, generate + num_frames, [](bool value) { return value; })) {
    generate[num_frames - 1] = true;
  }
  return mask;
}

Tensor MaskGenerator::masks_BT(std::uint64_t seed,
                               std::string_view stream,
                               std::uint64_t first,
                               std::int64_t num_samples,
                               std::int64_t num_frames) const {
  if (num_frames < 1 || num_frames > kMaxFrames || num_samples < 1 || num_samples > kMaxFrames) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "mask.size",
                 .place = kPlace,
                 .subject = "masks",
                 .expected = "1 .. " + std::to_string(kMaxFrames) + " samples and frames",
                 .got = std::to_string(num_samples) + " x " + std::to_string(num_frames)});
  }
  // A stream of its own for the places, spaced so that samples never share numbers.
  const kernels::NoiseKey key = kernels::noise_key(
      seed, std::string(stream) + ".frames", kernels::Draw::kUniform, kernels::Addressing::kFlat);
  std::vector<float> uniforms(static_cast<std::size_t>(num_frames) + 2);
  std::vector<Tensor> masks;
  for (std::int64_t i = 0; i < num_samples; ++i) {
    const std::uint64_t sample = first + static_cast<std::uint64_t>(i);
    kernels::fill_uniform_flat(uniforms.data(), key, sample << 21U, uniforms.size());
    masks.push_back(make_mask(rule(seed, stream, sample), num_frames, uniforms));
  }
  return at::stack(masks);
}

}  // namespace kinema::diffusion
