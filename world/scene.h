// SPDX-License-Identifier: Apache-2.0
// One scene of the synthetic world: what is in it and where it is in every frame. A scene is a
// function of (config, seed, index), whatever was drawn before.
//
//   const Scene scene = make_scene({.max_objects = 2}, /*seed=*/1, /*index=*/42);
//   const Tensor video_FCHW = render(scene);
//   const std::string prompt = caption(scene, /*variant=*/0);
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "world/vocabulary.h"

namespace kinema::world {

/// Which combinations may occur. Held out are the pairs (shape i, colour (3i + 1) mod 10) and
/// (shape i, motion (5i + 2) mod 14): 16 pairs that training never sees.
enum class Split : std::int64_t {
  kAll,      ///< any combination
  kSeen,     ///< no object is a held-out pair: for training
  kHeldOut,  ///< the first object is a held-out pair: for judging generalisation
};
inline constexpr std::array<std::string_view, 3> kSplitNames = {"all", "seen", "held-out"};

/// The distribution of scenes. JSON keys are the field names.
struct WorldConfig {
  std::int64_t width = 64;   ///< pixels, 16..4096
  std::int64_t height = 64;  ///< pixels, 16..4096
  std::int64_t frames = 17;  ///< 1..100000
  double fps = 8;
  std::int64_t min_objects = 1;
  std::int64_t max_objects = 1;       ///< at most 3
  double gradient_probability = 0.5;  ///< of a background
  double textured_probability = 0;    ///< striped or checkered
  double shadow_probability = 0;      ///< of soft shadows under the objects
  Split split = Split::kAll;

  [[nodiscard]] static WorldConfig from_json(const Json& json, const JsonContext& context);
  [[nodiscard]] OrderedJson to_json() const;
  /// Throws kInvalidArgument [world.config] that names every broken rule.
  void validate() const;
  bool operator==(const WorldConfig&) const = default;
};

/// Where an object is at one moment; pixels from the top left corner, radians clockwise on screen.
struct Pose {
  double x = 0;
  double y = 0;
  double radius = 0;  ///< pixels; the area of every shape is 0.8 pi radius^2
  double angle = 0;
};

struct Object {
  Shape shape = Shape::kCircle;
  Colour colour = 0;
  Rgb rgb{};  ///< the palette's colour, jittered
  Size size = Size::kMedium;
  Motion motion = Motion::kStill;
  double radius = 0;  ///< pixels
  double x = 0;       ///< centre of the whole path, pixels
  double y = 0;
  double amount =
      0;  ///< travel, orbit radius or bounce height in pixels; end scale for grow and shrink
  double phase = 0;  ///< of a circle, radians
  double tilt = 0;   ///< angle in frame 0, radians

  /// `time` 0..1 over the clip; `frame` counts frames (a spin turns 12 degrees per frame).
  [[nodiscard]] Pose pose_at(double time, std::int64_t frame) const;
};

struct Scene {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t frames = 0;
  double fps = 0;
  Background background = Background::kPlain;
  Colour background_colour = 0;
  Rgb background_rgb{};   ///< top row, or the first colour of a texture
  Rgb background_rgb2{};  ///< bottom row, or the second colour; equals the first for plain
  bool shadows = false;
  std::vector<Object> objects{};  ///< later ones lie in front
  std::uint64_t seed = 0;
  std::int64_t index = 0;

  [[nodiscard]] Pose pose(std::size_t object, std::int64_t frame) const;
  /// Everything above with names, and the box [x0, y0, x1, y1] of every object in every frame.
  [[nodiscard]] OrderedJson to_json() const;
};

[[nodiscard]] bool is_held_out(Shape shape, Colour colour, Motion motion);

/// @throws kInvalidArgument [world.config].
[[nodiscard]] Scene make_scene(const WorldConfig& config, std::uint64_t seed, std::int64_t index);

/// The farthest a shape reaches from its centroid, in radii.
[[nodiscard]] double extent_of(Shape shape);

}  // namespace kinema::world
