// SPDX-License-Identifier: Apache-2.0
// HDR and wide-gamut pictures as BT.709, 8 bit. Internal to media/.
//
// Per pixel, in linear light of the display:
//   1. decode the transfer: PQ (SMPTE ST 2084, absolute nits); HLG (ARIB STD-B67, with the BT.2100
//      OOTF for a 1000-nit display, gamma 1.2); or gamma 2.4 for SDR in a wide gamut;
//   2. compress: the curve of ITU-R BT.2390-4 section 5.4.1 (EETF: unchanged below a knee, a
//   Hermite
//      spline above it) from the content's peak to 203 nits, diffuse white of BT.2408. It is
//      applied to the largest of R, G, B and scales all three alike, which keeps the hue;
//   3. convert BT.2020 primaries to BT.709 (BT.2087), clip what lies outside;
//   4. encode for an SDR display: (nits / 203)^(1/2.4), rounded to 8 bit.
// The curve is a table over the decoded maximum; the whole is the same on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kinema::media {

class ToneMapper {
 public:
  enum class Transfer { kPq, kHlg, kGamma };

  /// @param peak_nits  brightest light of the content; 1000 when unknown. Not used for kGamma.
  ToneMapper(Transfer transfer, double peak_nits, bool bt2020_primaries);

  /// One row of pixels: 16-bit full-range R'G'B' in, 8-bit BT.709 R'G'B' out, 3 values a pixel.
  void map_row(std::span<const std::uint16_t> rgb48, std::span<std::uint8_t> rgb24) const;

  [[nodiscard]] Transfer transfer() const { return transfer_; }
  [[nodiscard]] double peak_nits() const { return peak_nits_; }
  [[nodiscard]] bool bt2020_primaries() const { return bt2020_primaries_; }

 private:
  void fill_decode();
  void fill_curve();
  void fill_encode();
  [[nodiscard]] float curve_scale(float light) const;
  [[nodiscard]] std::uint8_t encode(float light) const;

  Transfer transfer_;
  double peak_nits_;
  bool bt2020_primaries_;
  std::vector<float> decode_;    ///< 16-bit code to light, 1 = 203 nits (HLG: scene light, 0..1)
  std::vector<float> hlg_gain_;  ///< sqrt of scene luminance to display light per scene light
  std::vector<float> curve_;     ///< sqrt of light / peak to the factor of step 2
  std::vector<std::uint8_t> encode_;  ///< sqrt of light to 8 bit
};

/// ST 2084 both ways: signal 0..1 and nits 0..10000.
[[nodiscard]] double pq_to_nits(double signal);
[[nodiscard]] double nits_to_pq(double nits);
/// BT.2390 EETF from a display of `peak_nits` to one of `target_nits`.
[[nodiscard]] double bt2390_nits(double nits, double peak_nits, double target_nits);

}  // namespace kinema::media
