// SPDX-License-Identifier: Apache-2.0
// What the synthetic world is made of: shapes, colours, sizes, motions, backgrounds, and their
// names.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace kinema::world {

enum class Shape : std::int64_t {
  kCircle,
  kSquare,
  kTriangle,
  kStar,
  kCross,
  kHeart,
  kRing,
  kMoon
};
inline constexpr std::array<std::string_view, 8> kShapeNames = {
    "circle", "square", "triangle", "star", "cross", "heart", "ring", "moon"};

/// An index into the palette.
using Colour = std::int64_t;
inline constexpr std::array<std::string_view, 10> kColourNames = {
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black"};
using Rgb = std::array<float, 3>;  ///< 0..1
inline constexpr std::array<Rgb, 10> kPalette = {{{.90F, .12F, .14F},
                                                  {1.0F, .55F, .05F},
                                                  {1.0F, .92F, .15F},
                                                  {.10F, .62F, .20F},
                                                  {.15F, .85F, .90F},
                                                  {.12F, .25F, .90F},
                                                  {.52F, .15F, .70F},
                                                  {1.0F, .50F, .75F},
                                                  {.97F, .97F, .97F},
                                                  {.05F, .05F, .05F}}};

enum class Size : std::int64_t { kSmall, kMedium, kLarge };
inline constexpr std::array<std::string_view, 3> kSizeNames = {"small", "medium", "large"};
/// Nominal radius in pixels when the shorter side of the frame is 64 pixels.
inline constexpr std::array<double, 3> kSizeRadius = {7.0, 10.5, 15.0};

enum class Motion : std::int64_t {
  kStill,
  kLeft,
  kRight,
  kUp,
  kDown,
  kUpLeft,
  kUpRight,
  kDownLeft,
  kDownRight,
  kCircle,
  kBounce,
  kGrow,
  kShrink,
  kSpin,
};
inline constexpr std::array<std::string_view, 14> kMotionNames = {"still",
                                                                  "left",
                                                                  "right",
                                                                  "up",
                                                                  "down",
                                                                  "up-left",
                                                                  "up-right",
                                                                  "down-left",
                                                                  "down-right",
                                                                  "circle",
                                                                  "bounce",
                                                                  "grow",
                                                                  "shrink",
                                                                  "spin"};

enum class Background : std::int64_t { kPlain, kGradient, kStriped, kCheckered };
inline constexpr std::array<std::string_view, 4> kBackgroundNames = {
    "plain", "gradient", "striped", "checkered"};

template <std::size_t N>
[[nodiscard]] constexpr std::optional<std::int64_t> index_of(
    const std::array<std::string_view, N>& names, std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) {
      return static_cast<std::int64_t>(i);
    }
  }
  return std::nullopt;
}

}  // namespace kinema::world
