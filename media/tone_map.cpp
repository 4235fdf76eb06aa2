// SPDX-License-Identifier: Apache-2.0
#include "media/tone_map.h"

#include <algorithm>
#include <cmath>

namespace kinema::media {
namespace {

constexpr double kWhiteNits = 203.0;
constexpr double kHlgPeakNits = 1000.0;
constexpr int kCodes = 65536;
constexpr int kCurveSteps = 8192;
constexpr int kEncodeSteps = 16384;

// BT.2020 to BT.709 in linear light (BT.2087, inverse of its matrix).
constexpr float kTo709[3][3] = {{1.660491F, -0.587641F, -0.072850F},
                                {-0.124550F, 1.132900F, -0.008349F},
                                {-0.018151F, -0.100579F, 1.118730F}};

double hlg_to_scene(double signal) {
  constexpr double kA = 0.17883277;
  constexpr double kB = 1.0 - 4.0 * kA;
  const double c = 0.5 - kA * std::log(4.0 * kA);
  return signal <= 0.5 ? signal * signal / 3.0 : (std::exp((signal - c) / kA) + kB) / 12.0;
}

}  // namespace

double pq_to_nits(double signal) {
  constexpr double kM1 = 2610.0 / 16384.0;
  constexpr double kM2 = 2523.0 / 4096.0 * 128.0;
  constexpr double kC1 = 3424.0 / 4096.0;
  constexpr double kC2 = 2413.0 / 4096.0 * 32.0;
  constexpr double kC3 = 2392.0 / 4096.0 * 32.0;
  const double power = std::pow(std::clamp(signal, 0.0, 1.0), 1.0 / kM2);
  return 10000.0 * std::pow(std::max(power - kC1, 0.0) / (kC2 - kC3 * power), 1.0 / kM1);
}

double nits_to_pq(double nits) {
  constexpr double kM1 = 2610.0 / 16384.0;
  constexpr double kM2 = 2523.0 / 4096.0 * 128.0;
  constexpr double kC1 = 3424.0 / 4096.0;
  constexpr double kC2 = 2413.0 / 4096.0 * 32.0;
  constexpr double kC3 = 2392.0 / 4096.0 * 32.0;
  const double power = std::pow(std::clamp(nits / 10000.0, 0.0, 1.0), kM1);
  return std::pow((kC1 + kC2 * power) / (1.0 + kC3 * power), kM2);
}

double bt2390_nits(double nits, double peak_nits, double target_nits) {
  if (peak_nits <= target_nits) {
    return std::min(nits, target_nits);
  }
  const double source = nits_to_pq(peak_nits);
  const double e1 = std::min(nits_to_pq(nits) / source, 1.0);
  const double most = nits_to_pq(target_nits) / source;
  const double knee = 1.5 * most - 0.5;
  double e2 = e1;
  if (e1 >= knee) {
    const double t = (e1 - knee) / (1.0 - knee);
    const double t2 = t * t;
    const double t3 = t2 * t;
    e2 = (2.0 * t3 - 3.0 * t2 + 1.0) * knee + (t3 - 2.0 * t2 + t) * (1.0 - knee) +
         (-2.0 * t3 + 3.0 * t2) * most;
  }
  return pq_to_nits(e2 * source);
}

ToneMapper::ToneMapper(Transfer transfer, double peak_nits, bool bt2020_primaries)
    : transfer_(transfer),
      peak_nits_(transfer == Transfer::kHlg ? kHlgPeakNits
                                            : std::clamp(peak_nits, kWhiteNits, 10000.0)),
      bt2020_primaries_(bt2020_primaries) {
  fill_decode();
  fill_encode();
  if (transfer_ != Transfer::kGamma) {
    fill_curve();
  }
}

void ToneMapper::fill_decode() {
  decode_.resize(kCodes);
  for (int code = 0; code < kCodes; ++code) {
    const double signal = code / double{kCodes - 1};
    double light = 0.0;
    switch (transfer_) {
      case Transfer::kPq:
        light = pq_to_nits(signal) / kWhiteNits;
        break;
      case Transfer::kHlg:
        light = hlg_to_scene(signal);
        break;
      case Transfer::kGamma:
        light = std::pow(signal, 2.4);
        break;
    }
    decode_[static_cast<std::size_t>(code)] = static_cast<float>(light);
  }
  if (transfer_ == Transfer::kHlg) {
    // OOTF: display = peak x luminance^(gamma - 1) x scene; the table runs over sqrt(luminance).
    hlg_gain_.resize(kCurveSteps + 1);
    for (int i = 0; i <= kCurveSteps; ++i) {
      const double root = i / double{kCurveSteps};
      hlg_gain_[static_cast<std::size_t>(i)] =
          static_cast<float>(std::pow(root * root, 0.2) * kHlgPeakNits / kWhiteNits);
    }
  }
}

void ToneMapper::fill_curve() {
  curve_.resize(kCurveSteps + 1);
  for (int i = 0; i <= kCurveSteps; ++i) {
    const double root = std::max(i, 1) / double{kCurveSteps};
    const double nits = root * root * peak_nits_;
    curve_[static_cast<std::size_t>(i)] =
        static_cast<float>(bt2390_nits(nits, peak_nits_, kWhiteNits) / nits);
  }
}

void ToneMapper::fill_encode() {
  encode_.resize(kEncodeSteps + 1);
  for (int i = 0; i <= kEncodeSteps; ++i) {
    const double root = i / double{kEncodeSteps};
    encode_[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(std::lround(255.0 * std::pow(root * root, 1.0 / 2.4)));
  }
}

float ToneMapper::curve_scale(float light) const {
  const float most = static_cast<float>(peak_nits_ / kWhiteNits);
  const float clipped = std::clamp(light, 0.0F, most);
  const float at = std::sqrt(clipped / most) * kCurveSteps;
  const auto low =
      std::min(static_cast<std::size_t>(at), static_cast<std::size_t>(kCurveSteps - 1));
  const float part = at - static_cast<float>(low);
  const float scale = curve_[low] + part * (curve_[low + 1] - curve_[low]);
  return light > most ? scale * most / light : scale;
}

std::uint8_t ToneMapper::encode(float light) const {
  const float clipped = std::clamp(light, 0.0F, 1.0F);
  return encode_[static_cast<std::size_t>(std::sqrt(clipped) * kEncodeSteps + 0.5F)];
}

void ToneMapper::map_row(std::span<const std::uint16_t> rgb48,
                         std::span<std::uint8_t> rgb24) const {
  const std::size_t count = std::min(rgb48.size(), rgb24.size()) / 3 * 3;
  for (std::size_t i = 0; i < count; i += 3) {
    float r = decode_[rgb48[i]];
    float g = decode_[rgb48[i + 1]];
    float b = decode_[rgb48[i + 2]];
    if (transfer_ == Transfer::kHlg) {
      const float luminance = std::clamp(0.2627F * r + 0.6780F * g + 0.0593F * b, 0.0F, 1.0F);
      const float gain =
          hlg_gain_[static_cast<std::size_t>(std::sqrt(luminance) * kCurveSteps + 0.5F)];
      r *= gain;
      g *= gain;
      b *= gain;
    }
    if (transfer_ != Transfer::kGamma) {
      const float scale = curve_scale(std::max({r, g, b}));
      r *= scale;
      g *= scale;
      b *= scale;
    }
    if (bt2020_primaries_) {
      const float wide[3] = {r, g, b};
      r = kTo709[0][0] * wide[0] + kTo709[0][1] * wide[1] + kTo709[0][2] * wide[2];
      g = kTo709[1][0] * wide[0] + kTo709[1][1] * wide[1] + kTo709[1][2] * wide[2];
      b = kTo709[2][0] * wide[0] + kTo709[2][1] * wide[1] + kTo709[2][2] * wide[2];
    }
    rgb24[i] = encode(r);
    rgb24[i + 1] = encode(g);
    rgb24[i + 2] = encode(b);
  }
}

}  // namespace kinema::media
